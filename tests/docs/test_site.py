"""The site builds without a warning: every link and anchor leads somewhere, and every page is in the navigation."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs")
pytest.importorskip("material")
pytest.importorskip("mkdocstrings")
pytest.importorskip("latex2mathml")

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "-q", "--strict", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pruner = (tmp_path / "reference" / "at2_prune" / "index.html").read_text(encoding="utf-8")
    assert "Keep" in (tmp_path / "changelog" / "index.html").read_text(encoding="utf-8")
    assert "from_pretrained" in pruner
    assert "&gt;&gt;&gt;" in pruner  # examples are code
    integrations = (tmp_path / "integrations" / "index.html").read_text(encoding="utf-8")
    assert integrations.count("sample_questions_path") == 8  # the scripts of examples/ that the page shows
    method = (tmp_path / "method" / "index.html").read_text(encoding="utf-8")
    assert "<math" in method
    assert not re.search(r"\\\(|\$\$", re.sub(r"<pre.*?</pre>", "", method, flags=re.DOTALL))


def readability() -> object:
    spec = importlib.util.spec_from_file_location("readability", ROOT / "docs" / "readability.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_sentences_of_the_pages_are_short(capsys: pytest.CaptureFixture[str]) -> None:
    """Each page that people write has a mean under 20 words, and no sentence of more than 35."""
    assert readability().main(["--over", "35"]) == 0, capsys.readouterr().out  # type: ignore[attr-defined]
