"""The scripts in docs/integrations.md run, with pruning and without it, and print what the page says."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

from at2_prune import AT2Pruner, LanguageModel, PruneConfig
from at2_prune.pipeline.step import PruneStep
from at2_prune.server.app import create_app

from ..server.conftest import serving

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8080"
NEEDS = {
    "minimal_langchain.py": "langchain_core",
    "minimal_llama_index.py": "llama_index.core",
    "minimal_haystack.py": "haystack",
    "minimal_http.py": "httpx",
}


@contextmanager
def runnable(name: str, pruner: AT2Pruner, folder: Path) -> Iterator[Path]:
    """Give the script's path. The one that asks a server gets a server of its own."""
    script = ROOT / "examples" / name
    text = script.read_text(encoding="utf-8")
    if ADDRESS not in text:
        yield script
        return
    with serving(create_app(PruneStep(PruneConfig(), pruner), None, None)) as url:
        script = folder / name
        script.write_text(text.replace(ADDRESS, url), encoding="utf-8")
        yield script


def printed(name: str, pruner: AT2Pruner, folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    with runnable(name, pruner, folder) as script:
        runpy.run_path(str(script), run_name="__main__")
    return capsys.readouterr().out.splitlines()


def test_the_page_shows_every_script() -> None:
    scripts = sorted(path.name for path in (ROOT / "examples").glob("minimal_*.py"))
    assert sorted(NEEDS) == scripts
    assert sorted(re.findall(r"<!-- shows examples/(\w+\.py) -->", PAGE)) == scripts


@pytest.mark.parametrize("name", NEEDS)
def test_pruning_on_and_off(
    name: str,
    tiny_pruner: AT2Pruner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip(NEEDS[name])
    monkeypatch.setattr(AT2Pruner, "from_pretrained", lambda *args, **options: tiny_pruner)
    monkeypatch.delenv("AT2_PRUNE", raising=False)
    on = printed(name, tiny_pruner, tmp_path, capsys)
    monkeypatch.setenv("AT2_PRUNE", "off")
    off = printed(name, tiny_pruner, tmp_path, capsys)
    kept, all_titles = on[0].split(", "), off[0].split(", ")
    assert (len(kept), len(all_titles)) == (3, 10)
    assert kept == [title for title in all_titles if title in kept]
    assert len(on) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", NEEDS)
def test_the_page_shows_what_the_scripts_print(
    name: str,
    embedded_lm: LanguageModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip(NEEDS[name])
    pruner = AT2Pruner.from_pretrained(embedded_lm)
    blocks = re.findall(r"```text\n(.*?)```", PAGE.split(f"<!-- shows examples/{name} -->")[1], re.S)
    for block, switch in zip(blocks[:2], ("on", "off"), strict=True):
        monkeypatch.setenv("AT2_PRUNE", switch)
        assert printed(name, pruner, tmp_path, capsys) == block.splitlines()
