"""The cache: what is put is there, for every process that opens the file at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from at2_prune.errors import CacheError, InputError
from at2_prune_eval import ModelCache

WRITE = """
import sys
from at2_prune_eval import ModelCache
cache = ModelCache(sys.argv[1])
for number in range(50):
    cache.put(f"{sys.argv[2]} {number}", b"x" * 1000)
"""


def test_many_processes_begin_one_file(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    command = [sys.executable, "-c", WRITE, str(path)]
    running = [subprocess.Popen([*command, str(process)], stderr=subprocess.PIPE) for process in range(4)]
    assert [(process.communicate()[1], process.returncode) for process in running] == [(b"", 0)] * 4
    keys = [f"{process} {number}" for process in range(4) for number in range(50)]
    assert len(ModelCache(path).many(keys)) == 200


def test_a_file_that_is_no_cache_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no database, but long enough to be taken for one by its length alone" * 20)
    with pytest.raises(CacheError, match="cannot use the cache"):
        ModelCache(tmp_path / "file")


def test_no_folder_is_made_for_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in ("file", "typo"):
        with pytest.raises(InputError, match=r"cannot write the cache to .* there is no folder .*; create it first"):
            ModelCache(tmp_path / folder / "below")
    assert os.listdir(tmp_path) == ["file"]
