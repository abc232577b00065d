from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from at2_prune.errors import CacheError, InputError
from at2_prune.report import check_report_path, write_html_report


def test_write(tmp_path: Path):
    path = tmp_path / "report.html"
    write_html_report(path, "<p>é")
    write_html_report(str(path), "<p>è")
    assert path.read_text(encoding="utf-8") == "<p>è"
    assert os.listdir(tmp_path) == ["report.html"]


def test_write_failures_leave_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "report.html"
    write_html_report(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CacheError, match=r"report\.html: No space left on device"):
        write_html_report(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.html"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("", "it is a folder"), ("no/such/report.html", "there is no folder"), ("x\x00y", "null"), ("x" * 300, "long")],
)
def test_unwritable_paths(tmp_path: Path, name: str, reason: str):
    with pytest.raises((InputError, CacheError), match=f"cannot write the report to .*(?i:{reason})"):
        write_html_report(tmp_path / name, "page")


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(CacheError, match="no permission"):
        check_report_path(tmp_path / "report.html")


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="needs /dev/stdout")
def test_devices_are_written_to_not_replaced():
    code = "from at2_prune.report import write_html_report as w; w('/dev/stdout', 'page')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "page"
