"""`at2-prune eval` from the command line, on a tiny random model and on the embedded one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from at2_prune.attention.rows import RowGroup
from at2_prune.catalogue import configurable_methods, label_of, learned_methods, scoring_methods
from at2_prune.cli import main
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients
from at2_prune.datasets import Question
from at2_prune.models.drafts import Draft
from at2_prune.models.language_model import LanguageModel
from at2_prune.passages import Passage
from at2_prune.scorers import CrossEncoderScorer, DenseScorer, Task
from at2_prune_eval.commands.evaluate import EXAMPLES


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
    out, page = tmp_path / "out", tmp_path / "docs" / "results.md"
    page.parent.mkdir()
    command = ["eval", "--limit", "3", "--k", "2", "1", "2", "--max-new-tokens", "4", "--model", model]
    command += ["--coefficients", trained, "--out", str(out), "--cache", str(tmp_path / "cache.sqlite")]
    command += ["--faithfulness", "2", "--sentences", "1", "--document", str(page)]
    assert main(command) == 0
    output, bar = capsys.readouterr()
    assert f"saved to {out}" in output
    assert "at2@2" in bar
    results = json.loads((out / "results.json").read_text())
    assert results["config"]["data"]["name"] == "sample_questions.jsonl"
    methods = ["at2", "average_attention", "bm25", "retriever_order", "random"]
    assert list(results["methods"]) == ["none", *methods, "oracle"]
    assert list(results["methods"]["at2"]["at"]) == ["1", "2"]
    assert {kind: f["n"] for kind, f in results["faithfulness"].items()} == {"passage": 2, "sentence": 1}
    assert set(results["faithfulness"]["passage"]["lds"]) == set(methods)
    names = {path.name for path in (out / "figures").iterdir()}
    assert {"f1_by_k.png", "f1_by_k.svg", "f1_by_cost.png", "faithfulness.svg", "coefficients_at2.png"} <= names
    assert "<html" in (out / "report.html").read_text(encoding="utf-8")
    assert "figures/f1_by_k" in page.read_text(encoding="utf-8")
    assert main(command) == 0  # nothing left to do: the same table
    assert capsys.readouterr().out == output
    assert main([*command, "--seed", "1"]) == 2
    assert "data.seed: None there, 1 now" in capsys.readouterr().err


def test_eval_with_a_reader(
    model: str, scorer_lm: LanguageModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scorer_lm.model.save_pretrained(tmp_path / "scorer")
    scorer_lm.tokenizer.save_pretrained(tmp_path / "scorer")
    out = tmp_path / "out"
    command = ["eval", "--limit", "2", "--k", "1", "auto", "--max-new-tokens", "4", "--methods", "average_attention"]
    command += ["--model", str(tmp_path / "scorer"), "--cache", str(tmp_path / "cache.sqlite"), "--out", str(out)]
    assert main([*command, "--reader", model, "--document", str(tmp_path / "results.md")]) == 0
    assert f"The reader is {model}, and {tmp_path / 'scorer'} scores." in capsys.readouterr().out
    assert json.loads((out / "results.json").read_text())["config"]["reader"]["model"] == model
    assert f"--reader {model}" in (tmp_path / "results.md").read_text(encoding="utf-8")
    assert main([*command, "--reader", model]) == 0
    assert main(command) == 2
    assert f"reader.model: {model!r} there, None now" in capsys.readouterr().err


def test_data_options(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["eval", "--k", "1", "--max-new-tokens", "2", "--model", model, "--methods", "retriever_order"]
    command += ["--cache", str(tmp_path / "cache.sqlite"), "--limit", "2", "--type", "comparison"]
    assert main([*command, "--out", str(tmp_path / "plain")]) == 0
    assert main([*command, "--out", str(tmp_path / "shuffled"), "--shuffle-passages", "1"]) == 0
    assert main([*command, "--out", str(tmp_path / "later"), "--offset", "1"]) == 0
    assert main([*command, "--out", str(tmp_path / "none"), "--offset", "4"]) == 2
    ids = {
        name: [json.loads(line)["id"] for line in (tmp_path / name / "questions.jsonl").read_text().splitlines()]
        for name in ("plain", "later")
    }
    assert ids["later"][0] == ids["plain"][1]
    assert ids["later"][1] not in ids["plain"]
    runs = [
        [json.loads(line) for line in (tmp_path / name / "questions.jsonl").read_text().splitlines()]
        for name in ("plain", "shuffled")
    ]
    for plain, shuffled in zip(*runs, strict=True):
        assert plain["kind"] == shuffled["kind"] == "comparison"
        assert plain["passages"] != shuffled["passages"]
        assert sorted(p["title"] for p in plain["passages"]) == sorted(p["title"] for p in shuffled["passages"])
        gold = [{record["passages"][i]["title"] for i in record["gold"]} for record in (plain, shuffled)]
        assert gold[0] == gold[1]
    capsys.readouterr()
    assert main([*command, "--out", str(tmp_path / "none"), "--type", "quiz"]) == 2
    assert "no question has the type 'quiz'; the types are" in capsys.readouterr().err


def test_rows_that_cannot_be_used(
    model: str, questions: list[Question], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = {
        "id": "q1",
        "question": "?",
        "answer": "a",
        "passages": [p.text for p in questions[0].passages],
        "gold": [1],
    }
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps(good) + "\n" + json.dumps({**good, "id": "q7", "gold": []}) + "\n")
    command = [
        "eval",
        "--data",
        str(data),
        "--model",
        model,
        "--methods",
        "random",
        "--k",
        "1",
        "--max-new-tokens",
        "2",
    ]
    command += ["--cache", str(tmp_path / "cache.sqlite"), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "data.jsonl, line 2" in error
    assert "gold" in error
    assert not (tmp_path / "out").exists()
    assert main([*command, "--skip-invalid"]) == 0
    assert "1 rows were left out: " in capsys.readouterr().out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (results["n"], sum(results["skipped"].values())) == (1, 1)


def test_the_bar_and_the_tables_are_about_the_default_method(
    model: str, coefficients: HeadCoefficients, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = (RowGroup.from_name("draft"),)
    made = HeadCoefficients(coefficients.weight, groups, model_name=coefficients.model_name, model_type="llama")
    made.save_pretrained(tmp_path / "at2")
    ones = [torch.ones(6, 1, 4) for _ in range(3)]
    ScoutCoefficients(*ones, (0,), (0,), coefficients.model_name, "llama", 2).save_pretrained(tmp_path / "scout")
    command = [
        "eval",
        "--limit",
        "2",
        "--k",
        "2",
        "--max-new-tokens",
        "4",
        "--model",
        model,
        "--methods",
        "at2",
        "scout",
    ]
    command += ["--coefficients", f"at2={tmp_path / 'at2'}", f"scout={tmp_path / 'scout'}"]
    command += ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache.sqlite")]
    assert main(command) == 0
    output, bar = capsys.readouterr()
    assert "scout@2" in bar
    assert "at2@2" not in bar
    assert "ΔF1 vs Scout" in output
    assert "ΔF1 vs AT2" not in output
    assert "F1 against Scout at the same k" in output
    line = next(line for line in output.splitlines() if line.startswith("AT2"))
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    seconds = results["draft"]["seconds"]["mean"] + results["methods"]["at2"]["cost"]["seconds"]["mean"]
    assert f"  {seconds:.2f}  " in line
    assert "The seconds to choose include the draft" in output


def test_without_at2(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    command = ["eval", "--limit", "2", "--k", "1", "--max-new-tokens", "4", "--model", model]
    command += ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache.sqlite")]
    assert main(command) == 2
    assert "no coefficients of the method" in capsys.readouterr().err
    assert main([*command, "--methods", "no_such_method"]) == 2
    assert "no method 'no_such_method'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*command, "--methods", "all"]) == 0
    assert "cross_encoder is left out" in caplog.text
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {"average_attention", "leave_one_out", "surrogate_64", "gradient_x_input"} < set(results["methods"])
    assert "at2" not in results["methods"]


def test_rows_too_long_for_the_model(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"id": name, "question": "?", "answer": "a", "passages": [text, "b"], "gold": [1]}
        for name, text in (("long", "word " * 5000), ("short", "word"))
    ]
    data, out = tmp_path / "data.jsonl", tmp_path / "out"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    command = ["eval", "--data", str(data), "--model", model, "--methods", "random", "--k", "1"]
    command += ["--max-new-tokens", "2", "--cache", str(tmp_path / "cache.sqlite"), "--out", str(out)]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "question 'long' and its passages take" in error
    assert "--skip-invalid" in error
    assert not out.exists()
    assert main([*command, "--skip-invalid"]) == 0
    assert "1 rows were left out: longer than the model's context" in capsys.readouterr().out
    results = json.loads((out / "results.json").read_text())
    assert (results["n"], results["skipped"]) == (1, {"longer than the model's context": 1})


def test_encoders_by_path(
    model: str,
    tiny_lm: LanguageModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(tiny_tokenizer), pad_token_id=tiny_tokenizer.pad_token_id, num_labels=1, **sizes)
    torch.manual_seed(0)
    for kind, name in ((BertModel, "embedder"), (BertForSequenceClassification, "reranker")):
        kind(config).save_pretrained(tmp_path / name)
        tiny_tokenizer.save_pretrained(tmp_path / name)
    command = ["eval", "--limit", "2", "--k", "1", "--max-new-tokens", "2", "--model", model, "--out"]
    command += [str(tmp_path / "out"), "--cache", str(tmp_path / "cache.sqlite"), "--methods", "dense", "cross_encoder"]
    command += ["--embedder", str(tmp_path / "embedder"), "--cross-encoder", str(tmp_path / "reranker")]
    assert main(command) == 0
    assert "Cross-encoder" in capsys.readouterr().out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["config"]["methods"]["dense"]["embedder"] == str(tmp_path / "embedder")
    assert results["config"]["methods"]["cross_encoder"]["model"] == str(tmp_path / "reranker")
    records = [json.loads(line) for line in (tmp_path / "out" / "questions.jsonl").read_text().splitlines()]
    for record in records:
        passages = [Passage(p["text"], title=p["title"]) for p in record["passages"]]
        prompt = tiny_lm.encode(record["question"], passages)
        task = Task(tiny_lm, record["question"], passages, prompt, Draft("", []))
        for scorer in (DenseScorer(tmp_path / "embedder"), CrossEncoderScorer(tmp_path / "reranker")):
            found = record["methods"][scorer.name]["scores"]
            assert found == pytest.approx(scorer.score(task).tolist(), abs=1e-5)
            assert len(set(found)) > 1


def test_coefficients_by_name(model: str, trained: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "lr=0.1" / "coefficients"
    HeadCoefficients.average(2, 4, "llama").save_pretrained(other)
    command = ["eval", "--limit", "1", "--k", "1", "--max-new-tokens", "2", "--model", model, "--methods", "random"]
    command += ["--cache", str(tmp_path / "cache.sqlite"), "--out", str(tmp_path / "out"), "--coefficients"]
    assert main([*command, trained, str(other)]) == 2
    assert "another method has the name at2 already: give another name, NAME=" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*command, f"scout={other}"]) == 2
    assert "belongs to the method at2, not to scout: give another name" in capsys.readouterr().err
    assert main([*command, trained, f"flat-0.5={other}"]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(results["methods"]) == ["none", "random", "at2", "flat-0.5", "oracle"]
    assert (tmp_path / "out" / "figures" / "coefficients_flat-0.5.png").exists()


def test_a_terminal_that_cannot_show_it_all(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows writes code page 1252 into a file; the table has a delta."""
    file = tmp_path / "table.txt"
    command = ["eval", "--limit", "1", "--k", "1", "--max-new-tokens", "2", "--model", model, "--methods", "random"]
    with open(file, "w", encoding="cp1252") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        assert main([*command, "--cache", str(tmp_path / "cache.sqlite"), "--out", str(tmp_path / "out")]) == 0
    assert "\\u0394F1 vs none" in file.read_text(encoding="cp1252")
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize("k", ["0", "-1", "x"])
def test_bad_k(k: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["eval", "--out", "unused", "--k", k])
    assert stop.value.code == 2
    assert "--k" in capsys.readouterr().err


def test_embedded_model(embedded_lm: LanguageModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two questions on real weights; average attention only, so that it needs no trained coefficients."""
    out = tmp_path / "out"
    command = ["eval", "--limit", "2", "--k", "3", "--max-new-tokens", "12", "--methods", "average_attention"]
    assert main([*command, "--out", str(out), "--cache", str(tmp_path / "cache.sqlite")]) == 0
    assert "Oracle" in capsys.readouterr().out
    lines = [json.loads(line) for line in (out / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["id"] for line in lines] == ["sample-01", "sample-02"]
    assert all(line["draft"] for line in lines)
    assert all(len(line["methods"]["average_attention"]["at"]["3"]["kept"]) == 3 for line in lines)


def test_every_method_has_its_name_everywhere() -> None:
    there = {*scoring_methods(), *learned_methods()}
    assert {*configurable_methods()} == there
    for name in there:
        assert label_of(name) != name, f"{name}: the evaluator has no label for it"
        assert re.search(rf"\b{name}\b", EXAMPLES), f"{name}: at2-prune eval --help does not name it"
