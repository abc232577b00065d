"""Files are written whole or not at all, and a user's text file is read whatever editor wrote it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from at2_prune.cli.options import data_name
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients, is_scout_folder
from at2_prune.datasets import load_questions, sample_questions_path
from at2_prune.encoders.onnx_encoder import is_onnx_folder
from at2_prune.errors import CacheError, DataError, InputError
from at2_prune.files import check_file, check_folder, newest_change, read_text, write_atomically
from at2_prune.models.default_model import cache_folder
from at2_prune.passage_index.stores import DiskStore
from at2_prune.report import write_html_report
from at2_prune.training.examples import ExampleStore, check_store


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


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's home folder. The working directory is another folder, which stays empty."""
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


@pytest.mark.skipif(sys.platform == "win32", reason="the home folder has another variable there")
def test_a_path_may_begin_with_the_home_folder(home: Path) -> None:
    assert check_file("~/page.html", "the page") == home / "page.html"
    assert check_folder("~/out") == home / "out"
    write_atomically("~/page.html", "text")
    assert read_text("~/page.html") == "text"
    assert newest_change("~") == (home / "page.html").stat().st_mtime_ns
    write_html_report("~/report.html", "<p>")
    coefficients = HeadCoefficients.average(2, 4, "llama")
    coefficients.save_pretrained("~/head")
    assert HeadCoefficients.from_pretrained("~/head").row_groups == coefficients.row_groups
    scout = ScoutCoefficients(*torch.randn(2, 6, 2, 4), torch.randn(6, 1, 4), (0, 1), (1,), "m", "llama", 2, {})
    scout.save_pretrained("~/scout")
    assert is_scout_folder("~/scout")
    assert ScoutCoefficients.from_pretrained("~/scout").layers == (0, 1)
    ExampleStore("~/examples", {})
    check_store("~/examples")
    (home / "q.jsonl").write_bytes(sample_questions_path().read_bytes())
    assert len(load_questions("~/q.jsonl")) == 12
    assert data_name("~/q.jsonl") == "home/q.jsonl"
    assert sorted(os.listdir(home)) == ["examples", "head", "page.html", "q.jsonl", "report.html", "scout"]
    assert os.listdir() == []


def test_a_home_folder_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = "~nobody-of-this-name/x"
    monkeypatch.setenv("AT2_PRUNE_CACHE", missing)
    assert cache_folder() == Path(missing).absolute()
    assert not is_onnx_folder(missing)
    with pytest.raises(InputError, match="holds no passage index"):
        DiskStore(missing)
    with pytest.raises(DataError, match="there is no such file, and this is not a Hub id"):
        load_questions(f"{missing}.jsonl")


def test_nothing_here_imports_torch() -> None:
    code = "import sys, at2_prune.files; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
