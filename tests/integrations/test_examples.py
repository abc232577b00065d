"""The examples, run as they stand: by a tiny model, and shortly by the embedded one."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from at2_prune import LanguageModel, sample_questions_path
from at2_prune.coefficients import shipped_coefficients

EXAMPLES = Path(__file__).parents[2] / "examples"
NEEDS = {"langchain_rag.py": ["langchain_core"], "llama_index_rag.py": ["llama_index.core"]}

Run = Callable[..., str]


@pytest.fixture(params=NEEDS)
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs an example with arguments and environment; returns what it prints."""
    for module in [*NEEDS[request.param], "bm25s"]:
        pytest.importorskip(module)
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def run(*arguments: str, **environ: str) -> str:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        arguments = ("--corpus", str(sample_questions_path()), *arguments)
        monkeypatch.setattr(sys, "argv", [request.param, *arguments])
        runpy.run_path(str(EXAMPLES / request.param), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture
def tiny_folder(tiny_lm: LanguageModel, tmp_path: Path) -> str:
    tiny_lm.model.save_pretrained(tmp_path)
    tiny_lm.tokenizer.save_pretrained(tmp_path)
    return str(tmp_path)


def test_a_question(run: Run, tiny_folder: str) -> None:
    environ = {"AT2_PRUNE_MODEL": tiny_folder, "AT2_PRUNE_METHOD": "average_attention"}
    on = run("--index", "vectors", **environ)
    off = run("--index", "vectors", AT2_PRUNE="off", **environ)
    asked = "The inventor of the saxophone was born in a town that stands on which river? "
    assert on.startswith(asked)
    assert off.startswith(asked)
    assert on != off
    assert run("Who?", AT2_PRUNE="off", **environ).startswith("Who? ")


def test_f1_with_pruning_off_and_on(run: Run, tiny_folder: str) -> None:
    environ = {"AT2_PRUNE_MODEL": tiny_folder, "AT2_PRUNE_METHOD": "average_attention"}
    lines = run("--questions", "2", **environ).splitlines()
    interval = r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]"
    assert re.fullmatch(rf"pruning off  F1 {interval}  \(2 questions\)", lines[0])
    assert re.fullmatch(rf"pruning on   F1 {interval}  \(2 questions\)", lines[1])
    assert lines[2].startswith("difference")
    assert run("--questions", "2", AT2_PRUNE="off", **environ).splitlines() == lines[:1]


@pytest.mark.slow
@pytest.mark.usefixtures("embedded_lm")
def test_with_the_embedded_model(run: Run) -> None:
    method = "at2" if "gemma-3-270m" in shipped_coefficients() else "average_attention"
    lines = run("--questions", "2", AT2_PRUNE_METHOD=method).splitlines()
    assert [line.split()[:3] for line in lines[:2]] == [["pruning", "off", "F1"], ["pruning", "on", "F1"]]
