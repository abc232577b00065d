"""A quick check that the Hugging Face Hub can be reached. Without a connection, its client tries for half a minute."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError

from ..errors import InputError, reason_of

__all__ = ["check_reachable"]

TIMEOUT = 10.0
"""Seconds to wait for the Hub's answer."""
PAUSE = 1.0
"""Seconds before the second and last attempt."""


def check_reachable(
    name: str | os.PathLike[str], file: str, hub_options: dict[str, Any] | None = None, repo_type: str = "model"
) -> None:
    """Raise `InputError` if a file must come from the Hub and the Hub does not answer.

    Without a connection, the Hub's client asks six times for each file of an unknown repository. This function asks for
    one file, at most twice. It does not ask if the name is an existing path, if the file is in the Hub's cache, or if
    an option or the environment forbids connections.

    Args:
        name: a Hub id or a path.
        file: a file that the repository must have.
        hub_options: the options of `from_pretrained` that say where the file is: `revision`, `token`, `cache_dir`,
            `subfolder` and `local_files_only`.
        repo_type: the kind of repository: model or dataset.

    Raises:
        InputError: the Hub is needed and cannot be reached.
    """
    options = hub_options or {}
    where = {"revision": options.get("revision"), "repo_type": repo_type}
    path = "/".join(part for part in (options.get("subfolder"), file) if part)
    if constants.is_offline_mode() or options.get("local_files_only"):
        return
    try:
        if Path(name).exists() or isinstance(
            try_to_load_from_cache(str(name), path, options.get("cache_dir"), **where), str
        ):
            return
        url = hf_hub_url(str(name), path, **where)
    except (OSError, ValueError):  # the name is not a Hub id; the loader says so
        return
    try:
        _ask(url, options.get("token"))
    except HfHubHTTPError:  # the Hub answered; the loader says what is wrong
        return
    except Exception as error:  # the type depends on the HTTP client of the installed huggingface_hub
        raise InputError(
            f"cannot load {str(name)!r}: it is neither a folder nor in the Hub's cache, and {constants.ENDPOINT} "
            f"cannot be reached ({reason_of(error)}); check the name and the connection"
        ) from error


def _ask(url: str, token: str | bool | None) -> None:
    try:
        get_hf_file_metadata(url, token=token, timeout=TIMEOUT)
    except HfHubHTTPError:
        raise
    except Exception:  # one lost packet is no reason to give up
        time.sleep(PAUSE)
        get_hf_file_metadata(url, token=token, timeout=TIMEOUT)
