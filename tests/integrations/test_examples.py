"""Run the examples with a tiny model and with the embedded one, and run the notebooks again."""

from __future__ import annotations

import copy
import json
import re
import runpy
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from at2_prune import LanguageModel, load_questions, sample_questions_path
from at2_prune.coefficients.shipped import shipped_coefficients
from at2_prune.errors import DataError

EXAMPLES = Path(__file__).parents[2] / "examples"
NEEDS = {
    "langchain_rag.py": ["langchain_core"],
    "llama_index_rag.py": ["llama_index.core"],
    "haystack_rag.py": ["haystack"],
}
NOTEBOOKS = ("langchain_rag.ipynb", "llama_index_rag.ipynb")

Run = Callable[..., str]


@pytest.fixture(params=NEEDS)
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run an example with arguments and environment variables, and return its output."""
    for module in [*NEEDS[request.param], "bm25s"]:
        pytest.importorskip(module)
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def run(*arguments: str, **environ: str) -> str:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        arguments = ("--data", str(sample_questions_path()), *arguments)
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


def test_f1_with_pruning_off_and_on(run: Run, tiny_folder: str, tmp_path: Path) -> None:
    environ = {"AT2_PRUNE_MODEL": tiny_folder, "AT2_PRUNE_METHOD": "average_attention"}
    out = tmp_path / "run"
    lines = run("--questions", "3", "--out", str(out), **environ).splitlines()
    assert re.search(r": 3 questions \(seed 0\), 10 of \d+ passages by bm25; \S+ in float32, average_", lines[0])
    interval = r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]"
    assert re.fullmatch(rf"off      {interval}     {interval}", lines[2])
    assert re.fullmatch(rf"on       {interval}     {interval}", lines[3])
    records = [json.loads(line) for line in (out / "questions.jsonl").read_text().splitlines()]
    assert len(records) == 6
    kept = {record["id"]: record["passages"] for record in records}
    for name, passages in kept.items():
        question, state = name.rsplit(" ", 1)
        assert len(passages) == (3 if state == "on" else 10)
        assert set(passages) <= set(kept[f"{question} off"])
    for state, line in (("off", lines[2]), ("on", lines[3])):
        scores = [record["f1"] for record in records if record["id"].endswith(f" {state}")]
        assert line.split()[1] == f"{sum(scores) / 3:.3f}"
    gains = [f"{float(line.split()[1]):.3f}" for line in lines[2:4]]
    assert float(lines[4].split()[3]) == pytest.approx(float(gains[1]) - float(gains[0]), abs=2e-3)
    assert run("--questions", "3", AT2_PRUNE="off", **environ).splitlines()[1:] == lines[1:3]


def test_an_interrupted_measurement_goes_on(
    run: Run, tiny_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"AT2_PRUNE_MODEL": tiny_folder, "AT2_PRUNE_METHOD": "average_attention"}
    out = tmp_path / "run"
    arguments = ("--questions", "2", "--out", str(out))
    whole = run(*arguments, **environ)
    lines = (out / "questions.jsonl").read_text().splitlines(keepends=True)
    (out / "questions.jsonl").write_text("".join(lines[:3]))
    asked = []
    generate = LanguageModel.generate

    def counted(self: LanguageModel, *args: Any, **options: Any) -> Any:
        asked.append(args)
        return generate(self, *args, **options)

    monkeypatch.setattr(LanguageModel, "generate", counted)
    assert run(*arguments, **environ) == whole
    assert 1 <= len(asked) <= 2  # only the last answer, and its draft if it is needed
    assert (out / "questions.jsonl").read_text() == "".join(lines)
    with pytest.raises(SystemExit):
        run(*arguments, "--index", "vectors", **environ)


def test_all_frameworks_answer_from_the_same_passages(
    tiny_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AT2_PRUNE_MODEL", tiny_folder)
    monkeypatch.setenv("AT2_PRUNE_METHOD", "average_attention")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    answers = []
    for script, modules in NEEDS.items():
        for module in [*modules, "bm25s"]:
            pytest.importorskip(module)
        out = tmp_path / script
        arguments = ["--data", str(sample_questions_path()), "--questions", "6", "--out", str(out)]
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
        answers.append((out / "questions.jsonl").read_text())
    assert answers == [answers[0]] * len(NEEDS)


def test_where_the_corpus_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bm25s")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    corpus = import_module("offline").Corpus
    monkeypatch.delenv("AT2_PRUNE_DATA", raising=False)
    samples = load_questions(sample_questions_path())
    assert corpus.load().questions == samples
    monkeypatch.setenv("AT2_PRUNE_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"AT2_PRUNE_DATA is .*there is no .*hotpotqa"):
        corpus.load()
    lines = sample_questions_path().read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "hotpotqa").mkdir()
    (tmp_path / "hotpotqa" / "train.jsonl").write_text("".join(lines[:5]), encoding="utf-8")
    assert corpus.load().questions == samples[:5]
    (tmp_path / "hotpotqa" / "validation.jsonl").write_text("".join(lines[5:7]), encoding="utf-8")
    assert corpus.load().questions == samples[5:7]
    assert len(corpus.load().passages) == 70
    assert corpus.load([sample_questions_path()]).questions == samples


@pytest.mark.slow
@pytest.mark.usefixtures("embedded_lm")
def test_with_the_embedded_model(run: Run) -> None:
    method = "at2" if "gemma-3-270m" in shipped_coefficients() else "average_attention"
    lines = run("--questions", "2", AT2_PRUNE_METHOD=method).splitlines()
    assert "gemma-3-270m in float32" in lines[0]
    assert [line.split()[0] for line in lines[2:]] == ["off", "on", "on"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("embedded_lm")
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_print_what_they_show(name: str) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    shown = nbformat.read(EXAMPLES / name, as_version=4)
    run = copy.deepcopy(shown)
    nbclient.NotebookClient(run, timeout=1200, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    assert printed(shown)
    for (text, numbers), (expected, values) in zip(printed(run), printed(shown), strict=True):
        assert text == expected
        assert numbers == pytest.approx(values, abs=2e-3)


def printed(notebook: Any) -> list[tuple[str, list[float]]]:
    """Return the output of each cell, with its decimal numbers taken out into a list."""
    number = r"[-+]?\d+\.\d+"
    texts = [
        "".join(output["text"] for output in cell.outputs if output["name"] == "stdout")
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
    return [(re.sub(number, "#", text), [float(x) for x in re.findall(number, text)]) for text in texts]
