"""Checks whether the Hugging Face Hub can be reached, and downloads or lists the files of a repository."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import (
    HfApi,
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import HfHubHTTPError

from ..errors import InputError, reason_of

__all__ = ["check_reachable", "repository_files", "repository_folder"]

TIMEOUT = 10.0
"""Seconds to wait for the Hub's answer."""
PAUSE = 1.0
"""Seconds to wait before the second and last attempt."""
_WHERE = ("revision", "token", "cache_dir", "local_files_only")
"""The options that `from_pretrained` and the Hub's client both take, under the same names."""


def check_reachable(
    name: str | os.PathLike[str],
    files: Sequence[str],
    hub_options: dict[str, Any] | None = None,
    repo_type: str = "model",
) -> None:
    """Raise `InputError` if a file must come from the Hub, but the Hub does not answer.

    Without a connection, the Hub's client asks six times for each file of an unknown repository. This function asks for
    only one file, at most twice. It asks for no file if the name is an existing path, if one of the files is in the
    Hub's cache, or if an option or the environment forbids connections.

    Args:
        name: a Hub id or a path.
        files: the names of files. The repository must have one of these files. The Hub is asked for the first file.
        hub_options: options of `from_pretrained`. Only the options that locate a file are used: `revision`, `token`,
            `cache_dir`, `subfolder` and `local_files_only`.
        repo_type: the kind of repository, `model` or `dataset`.

    Raises:
        InputError: the Hub is needed and cannot be reached.
    """
    options = hub_options or {}
    where = {"revision": options.get("revision"), "repo_type": repo_type}
    paths = ["/".join(part for part in (options.get("subfolder"), file) if part) for file in files]
    if constants.is_offline_mode() or options.get("local_files_only"):
        return
    try:
        if Path(name).exists() or any(
            isinstance(try_to_load_from_cache(str(name), path, options.get("cache_dir"), **where), str)
            for path in paths
        ):
            return
        url = hf_hub_url(str(name), paths[0], **where)
    except (OSError, ValueError):  # the name is not a Hub id; the caller reports this when it loads the file
        return
    try:
        _ask(url, options.get("token"))
    except HfHubHTTPError:  # the Hub answered; the caller reports the problem when it loads the file
        return
    except Exception as error:  # the type depends on the HTTP client of the installed huggingface_hub
        raise InputError(
            f"cannot load {str(name)!r}: it is neither a folder nor in the Hub's cache, and {constants.ENDPOINT} "
            f"cannot be reached ({reason_of(error)}); check the name and the connection"
        ) from error


def repository_folder(name: str, file: str, patterns: Sequence[str], hub_options: dict[str, Any]) -> Path | None:
    """Return the folder in the Hub's cache that holds some files of a repository. Missing files are downloaded.

    Args:
        name: a Hub id. If the name is a path or cannot be a Hub id, the result is None.
        file: a file that the repository must have.
        patterns: the other files to download, as patterns in which `*` matches any text.
        hub_options: as in `check_reachable`.

    Returns:
        The folder that holds `file`. It is None if `file` is not in the cache and cannot be downloaded.

    Raises:
        InputError: the repository has `file`, but the other files cannot be downloaded.
    """
    if Path(name).exists():
        return None
    options = {key: hub_options[key] for key in _WHERE if key in hub_options}
    subfolder = hub_options.get("subfolder") or ""
    try:
        hf_hub_download(name, file, subfolder=subfolder or None, **options)
    except (HfHubHTTPError, OSError, ValueError):  # OSError: no file in the cache; ValueError: no Hub id
        return None
    wanted = [f"{subfolder}/{pattern}" if subfolder else pattern for pattern in (file, *patterns)]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted, **options)) / subfolder
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise InputError(f"cannot load {name!r}: its files cannot be downloaded ({reason_of(error)})") from error


def repository_files(name: str, hub_options: dict[str, Any]) -> list[str]:
    """Return the names of a repository's files.

    If an option or the environment forbids connections, the files and folders in the Hub's cache are listed. The list
    is empty if the repository is not found or cannot be reached.
    """
    options = {key: hub_options[key] for key in _WHERE if key in hub_options}
    local = bool(options.pop("local_files_only", False))
    try:
        if not (local or constants.is_offline_mode()):
            options.pop("cache_dir", None)
            return HfApi().list_repo_files(name, **options)
        folder = Path(snapshot_download(name, local_files_only=True, **options))
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    except (HfHubHTTPError, OSError, ValueError):
        return []


def _ask(url: str, token: str | bool | None) -> None:
    try:
        get_hf_file_metadata(url, token=token, timeout=TIMEOUT)
    except HfHubHTTPError:
        raise
    except Exception:  # one lost packet is no reason to give up
        time.sleep(PAUSE)
        get_hf_file_metadata(url, token=token, timeout=TIMEOUT)
