"""Files are written whole or not at all, and a user's text file is read whatever editor wrote it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from at2_prune.errors import CacheError, DataError
from at2_prune.files import read_text, write_atomically


@pytest.mark.parametrize("content", ["naïve\n", "naïve\n".encode()])
def test_write_replaces_the_file_and_leaves_nothing_else(tmp_path: Path, content) -> None:
    path = tmp_path / "file.txt"
    write_atomically(path, "old and longer")
    write_atomically(str(path), content)
    assert path.read_bytes() == "naïve\n".encode()
    assert os.listdir(tmp_path) == ["file.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="no umask")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_a_file_name_of_the_greatest_length(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("x" * 255), "text")
    assert (tmp_path / ("x" * 255)).read_text() == "text"


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_is_replaced_and_its_target_kept(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    write_atomically(tmp_path / "link", "new")
    assert (tmp_path / "target").read_text() == "old"
    assert (tmp_path / "link").read_text() == "new"
    assert not (tmp_path / "link").is_symlink()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "none" / "file", tmp_path / "file" / "below", tmp_path / "folder"):
        with pytest.raises(CacheError, match=f"^cannot write {path}: "):
            write_atomically(path, "text")
    with pytest.raises(CacheError, match=r"^cannot write the page: "):
        write_atomically(tmp_path / "none" / "file", "text", "the page")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes")
def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "file"
    write_atomically(path, "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(CacheError, match=f"cannot write {path}: File too large"):
            write_atomically(path, b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_or_an_interrupt_before_the_end_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")

    def interrupted(temporary: Path, target: Path) -> None:
        assert temporary.read_text() == "new"
        raise error

    # A real interrupt comes at no known moment; this one comes when the temporary file is whole.
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(error):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_read_with_and_without_a_byte_order_mark(tmp_path: Path, mark: bytes, end: bytes) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(mark + "naïve".encode() + end + b"two")
    assert read_text(path) == read_text(str(path)) == "naïve\ntwo"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("naïve".encode("latin-1"))
    (tmp_path / "utf16.txt").write_bytes("naïve".encode("utf-16"))
    for name in ("latin.txt", "utf16.txt"):
        with pytest.raises(DataError, match=rf"{name}: cannot be read \('utf-8' codec .*\); save it as UTF-8$"):
            read_text(tmp_path / name)
    with pytest.raises(DataError, match=rf"^{tmp_path}: cannot be read \(Is a directory\)$"):
        read_text(tmp_path)
    with pytest.raises(DataError, match=r"none\.txt: cannot be read \(No such file or directory\)$"):
        read_text(tmp_path / "none.txt")
    with pytest.raises(DataError, match=r"'a\\x00b': cannot be read \(.*null"):
        read_text("a\0b")


def test_nothing_here_imports_torch() -> None:
    code = "import sys, at2_prune.files; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
