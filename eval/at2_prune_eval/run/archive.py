"""Pack a run's folder into one small file, to publish the run, or to continue the run on another machine.

    >>> write_archive("runs/hotpotqa", "docs/run.tar.gz")  # doctest: +SKIP

The archive holds the scores, kept passages, answers and costs of every method, so that another method can be compared
on the same questions. The archive does not hold the text of the data set. If the same `at2-prune eval` command
continues the unpacked run, the command reads the text from the data set again.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from pathlib import Path

from at2_prune.errors import CacheError, DataError
from at2_prune.files import user_path

from ..records import TEXT

__all__ = ["write_archive"]


def write_archive(folder: str | os.PathLike[str], out: str | os.PathLike[str]) -> Path:
    """Pack a finished or unfinished run into a `.tar.gz` file. The same run gives the same bytes.

    Args:
        folder: the run's folder.
        out: the file to write.

    Returns:
        The path of the file.

    Raises:
        DataError: the folder holds no run, or a line that is not a record.
        CacheError: the file cannot be written.
    """
    folder, out = user_path(folder), user_path(out)
    paths = sorted([*folder.glob("*config.json"), *folder.glob("*.jsonl")])
    if not any(path.suffix == ".jsonl" for path in paths):
        raise DataError(f"{folder}: there is no run in this folder")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in paths:
            try:
                content = path.read_bytes() if path.suffix == ".json" else _without_text(path)
            except (OSError, ValueError, AttributeError) as error:
                raise DataError(f"{path}: cannot be read as part of a run ({error})") from error
            entry = tarfile.TarInfo(path.name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(gzip.compress(packed.getvalue(), mtime=0))
    except OSError as error:
        raise CacheError(f"cannot write {out}: {error}") from error
    return out


def _without_text(path: Path) -> bytes:
    lines = []
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:  # the last line is empty, or not complete
        record = {key: value for key, value in json.loads(line).items() if key not in TEXT}
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    return "".join(lines).encode()
