"""`at2-prune eval` from the command line, on a tiny random model and on the embedded one."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from at2_prune.cli import main
from at2_prune.coefficients import HeadCoefficients
from at2_prune.model import LanguageModel
from at2_prune.questions import Question


@pytest.fixture
def model(tiny_lm: LanguageModel, tmp_path: Path) -> str:
    tiny_lm.model.save_pretrained(tmp_path / "model")
    tiny_lm.tokenizer.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.fixture
def trained(coefficients: HeadCoefficients, tmp_path: Path) -> str:
    coefficients.save_pretrained(tmp_path / "coefficients")
    return str(tmp_path / "coefficients")


def test_eval(model: str, trained: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command = ["eval", "--limit", "3", "--k", "2", "1", "2", "--max-new-tokens", "4", "--model", model]
    command += ["--coefficients", trained, "--out", str(out)]
    assert main(command) == 0
    output, bar = capsys.readouterr()
    assert "ΔF1 vs none" in output
    assert f"saved to {out}" in output
    assert "at2@2" in bar
    results = json.loads((out / "results.json").read_text())
    assert results["config"]["data"]["name"] == "sample_questions.jsonl"
    assert list(results["methods"]["at2"]) == ["1", "2"]
    assert main(command) == 0  # nothing left to do: the same table
    assert capsys.readouterr().out == output
    assert main([*command, "--seed", "1"]) == 2
    assert "data.seed: None there, 1 now" in capsys.readouterr().err


def test_without_at2(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["eval", "--limit", "2", "--k", "1", "--max-new-tokens", "4", "--model", model]
    command += ["--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert "no head coefficients" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*command, "--methods", "average_attention"]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(results["methods"]) == ["none", "average_attention", "oracle"]


@pytest.mark.parametrize("k", ["0", "-1", "x"])
def test_bad_k(k: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["eval", "--out", "unused", "--k", k])
    assert stop.value.code == 2
    assert "--k" in capsys.readouterr().err


def test_question_without_gold_is_named(
    model: str, questions: list[Question], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"id": "q7", "question": "?", "answer": "a", "passages": [asdict(p)["text"] for p in questions[0].passages]}
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps(row) + "\n")
    command = ["eval", "--data", str(data), "--model", model, "--methods", "average_attention", "--out", str(tmp_path / "o")]
    assert main(command) == 2
    assert "data.jsonl: question 'q7' names no gold passages" in capsys.readouterr().err


def test_embedded_model(embedded_lm: LanguageModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two questions on real weights; average attention only, so that it needs no trained coefficients."""
    out = tmp_path / "out"
    command = ["eval", "--limit", "2", "--k", "3", "--max-new-tokens", "12", "--methods", "average_attention"]
    assert main([*command, "--out", str(out)]) == 0
    assert "oracle" in capsys.readouterr().out
    lines = [json.loads(line) for line in (out / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["id"] for line in lines] == ["sample-01", "sample-02"]
    assert all(line["draft"] for line in lines)
    assert all(len(line["methods"]["average_attention"]["3"]["kept"]) == 3 for line in lines)
