"""A run's folder as one small file: to publish what came of every question, and to go on with elsewhere.

    >>> write_archive("runs/hotpotqa", "docs/run.tar.gz")  # doctest: +SKIP

Every method's scores, kept passages, answers and costs are in it, for paired comparisons with a method of one's own.
The data set's text is not: it is put back from the data when the same `at2-prune eval` command goes on with the folder.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from pathlib import Path

from at2_prune.errors import CacheError, DataError

from .store import TEXT

__all__ = ["write_archive"]


def write_archive(folder: str | os.PathLike[str], out: str | os.PathLike[str]) -> Path:
    """Pack a run that is done, or is not, into a `.tar.gz`; the same run gives the same bytes.

    Args:
        folder: of the run.
        out: the file.

    Returns:
        Its path.

    Raises:
        DataError: the folder holds no run, or a line that is none of its records.
        CacheError: the file cannot be written.
    """
    folder, out = Path(folder), Path(out)
    paths = sorted([*folder.glob("*config.json"), *folder.glob("*.jsonl")])
    if not any(path.suffix == ".jsonl" for path in paths):
        raise DataError(f"{folder}: there is no run in this folder")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in paths:
            try:
                content = path.read_bytes() if path.suffix == ".json" else _stripped(path)
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


def _stripped(path: Path) -> bytes:
    lines = []
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:  # a line that is not whole is not done
        record = {key: value for key, value in json.loads(line).items() if key not in TEXT}
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    return "".join(lines).encode()
