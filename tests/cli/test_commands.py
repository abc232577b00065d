"""Run the commands as a user does, with a tiny model on disk."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from at2_prune.catalogue import learned_methods
from at2_prune.cli import COMMANDS, main
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.datasets import Question
from at2_prune.models.language_model import LanguageModel
from at2_prune.pruning.pruner import AT2Pruner


@pytest.fixture(scope="module")
def model_folder(tiny_model, tiny_tokenizer, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def passages_file(sample_questions: list[Question], tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("passages") / "passages.json"
    rows = [{"title": p.title, "text": p.text, "id": p.id} for p in sample_questions[0].passages]
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


@pytest.fixture
def options(model_folder: Path, passages_file: Path) -> list[str]:
    model = ["--model", str(model_folder), "--method", "average_attention", "--max-new-tokens", "8"]
    return ["--passages", str(passages_file), *model]


def test_answer_prints_one_json_object_that_agrees_with_the_library(
    options: list[str], model_folder: Path, sample_questions: list[Question], capsys: pytest.CaptureFixture[str]
) -> None:
    question = sample_questions[0]
    assert main(["answer", question.text, *options, "--k", "4", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    pruner = AT2Pruner.from_pretrained(str(model_folder), method="average_attention", max_new_tokens=8)
    result = pruner.answer(question.text, question.passages, k=4)
    assert set(printed) == {"question", "draft", "answer", "k", "kept", "scores", "seconds"}
    assert printed["kept"] == result.kept
    assert printed["answer"] == result.answer
    assert printed["scores"] == pytest.approx(result.scores, abs=1e-6)
    assert set(printed["seconds"]) == {"draft", "score", "answer", "regenerate"}  # the old name of answer, until 0.3


def test_a_page_in_the_home_folder(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["answer", "Which river?", *options, "--html", "~/page.html"]) == 0
    assert "<html" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["here", "page.html"]


def test_a_reader_answers_and_another_model_scores(
    scorer_lm: LanguageModel,
    model_folder: Path,
    passages_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scorer_lm.model.save_pretrained(tmp_path / "scorer")
    scorer_lm.tokenizer.save_pretrained(tmp_path / "scorer")
    passages = json.loads(passages_file.read_text(encoding="utf-8"))
    command = ["answer", "Which river?", "--passages", str(passages_file), "--method", "average_attention"]
    command += ["--model", str(tmp_path / "scorer"), "--reader", str(model_folder), "--max-new-tokens", "8", "--k", "2"]
    assert main([*command, "--html", str(tmp_path / "page.html"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    reader = AT2Pruner.from_pretrained(model_folder, method="average_attention", max_new_tokens=8)
    assert printed["draft"] == reader.draft("Which river?", passages).text
    assert printed["answer"] == reader.answer_from("Which river?", passages, printed["kept"])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"<dt>Scoring model</dt><dd>{tmp_path / 'scorer'}</dd>" in page
    assert f"<dt>Reader</dt><dd>{model_folder}</dd>" in page


@pytest.mark.parametrize("from_stdin", [False, True])
def test_passages_may_start_with_a_byte_order_mark(
    options: list[str], passages_file: Path, from_stdin: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\ufeff" + passages_file.read_text(encoding="utf-8")
    marked = tmp_path / "marked.json"
    marked.write_text(text, encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    options = [("-" if from_stdin else str(marked)) if option == str(passages_file) else option for option in options]
    assert main(["score", "Which river?", *options, "--draft", "the Meuse"]) == 0


def test_answer_reads_stdin_and_writes_a_page(
    options: list[str], passages_file: Path, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(passages_file.read_text(encoding="utf-8")))
    page = tmp_path / "report.html"
    options = ["-" if option == str(passages_file) else option for option in options]
    assert main(["answer", "Which river?", *options, "--html", str(page)]) == 0
    assert "Which river?" in page.read_text(encoding="utf-8")
    assert "Which river?" in capsys.readouterr().out


def test_score_ranks_every_source(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "Which river?", *options, "--draft", "the Meuse", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert sorted(row["rank"] for row in scores) == list(range(1, 11))
    assert main(["score", "Which river?", *options, "--draft", "the Meuse"]) == 0
    assert "Dinant" in capsys.readouterr().out


def test_score_with_a_cross_encoder(
    model_folder: Path, tiny_reranker: Path, passages_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["score", "Which river?", "--passages", str(passages_file), "--model", str(model_folder)]
    assert main([*command, "--method", "cross_encoder"]) == 2
    assert "method='cross_encoder' needs a reranker: set cross_encoder to a folder" in capsys.readouterr().err
    assert main([*command, "--method", "cross_encoder", "--cross-encoder", str(tiny_reranker), "--json"]) == 0
    assert len({row["score"] for row in json.loads(capsys.readouterr().out)["scores"]}) == 10


def test_score_with_an_embedder(
    model_folder: Path, tiny_reranker: Path, passages_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["score", "Which river?", "--passages", str(passages_file), "--model", str(model_folder), "--json"]
    assert main([*command, "--embedder", str(tiny_reranker)]) == 0
    implied = json.loads(capsys.readouterr().out)
    assert main([*command, "--method", "dense", "--embedder", str(tiny_reranker)]) == 0
    assert json.loads(capsys.readouterr().out) == implied
    assert main([*command, "--embedder", str(tiny_reranker), "--cross-encoder", str(tiny_reranker)]) == 2
    assert "cross_encoder and embedder belong to different methods: name the method" in capsys.readouterr().err


def test_train_goes_on_and_its_coefficients_are_used(
    model_folder: Path, passages_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from at2_prune.datasets import sample_questions_path

    out = tmp_path / "coefficients"
    command = ["train", "--model", str(model_folder), "--data", str(sample_questions_path()), "--ablations", "4"]
    command += ["--out", str(out), "--max-new-tokens", "6", "--holdout", "0.3"]
    assert main(command) == 0
    first = capsys.readouterr().out
    assert "LDS" in first
    weight = HeadCoefficients.from_pretrained(out).weight
    assert main(command) == 0
    assert HeadCoefficients.from_pretrained(out).weight.equal(weight)
    assert main([*command, "--seed", "1"]) == 2
    assert "seed: 0 there, 1 now" in capsys.readouterr().err
    assert main([*command, "--shuffle-passages", "7"]) == 2  # the stored readouts are of another order
    assert "shuffle_passages: None there, 7 now" in capsys.readouterr().err
    answer = ["answer", "Which river?", "--passages", str(passages_file), "--model", str(model_folder)]
    assert main([*answer, "--coefficients", str(out), "--json"]) == 0
    shuffled = [*command[:-5], str(tmp_path / "shuffled"), *command[-4:], "--shuffle-passages", "7"]
    assert main(shuffled) == 0
    assert not HeadCoefficients.from_pretrained(tmp_path / "shuffled").weight.equal(weight)


def test_the_old_name_of_granularity_still_works_and_warns(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    from at2_prune.datasets import sample_questions_path

    command = ["train", "--model", str(model_folder), "--data", str(sample_questions_path()), "--limit", "3"]
    command += ["--ablations", "2", "--max-new-tokens", "6", "--holdout", "0", "--out"]
    assert main([*command, str(tmp_path / "new"), "--granularity", "sentence"]) == 0
    assert "--sources" not in caplog.text
    assert main([*command, str(tmp_path / "old"), "--sources", "sentence"]) == 0
    assert "--sources is now called --granularity" in caplog.text
    new, old = ((tmp_path / name / "settings.json").read_text() for name in ("new", "old"))
    assert json.loads(new)["granularity"] == "sentence"
    assert new == old
    assert "--granularity sentence" in (tmp_path / "old" / "README.md").read_text(encoding="utf-8")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "--sources" not in capsys.readouterr().out


def test_models_lists_the_embedded_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["embedded"]["model"] == "gemma-3-270m"
    shipped = [(entry["model"], entry["method"]) for entry in listed["coefficients"]]
    assert {model for model, _ in shipped} == {
        "gemma-3-270m",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "Qwen/Qwen2.5-Coder-1.5B-Instruct",
    }
    assert {method for _, method in shipped} == {*learned_methods()}
    assert main(["models"]) == 0
    assert "Gemma Terms of Use" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[\n"a",\n{"text": }]', "line 3"),
        ('{"text": "a"}', "expected a JSON list"),
        ('["a", 3]', "passage 1"),
        ('[{"text": 5}]', "passage 0"),
        ('[{"title": "a"}]', "passage 0"),
        ("[]", "passages is empty"),
        ("[" * 100_000, "nested too deeply"),
        ("[" + "1" * 5000 + "]", "bad.json: not valid JSON (a number has too many digits)"),
        ('[{"text": "a", "text": "b"}]', "bad.json: not valid JSON (the key 'text' is given twice: delete one)"),
    ],
)
def test_bad_passages_are_one_line_and_exit_code_2(
    content: str, said: str, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content, encoding="utf-8")
    assert main(["answer", "Which river?", *options[2:], "--passages", str(path)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--passages", "no/such/file.json"], "no/such/file.json"),
        (["--model", "no/such/model/folder"], "no/such/model/folder"),
        (["--coefficients", "no/such/coefficients"], "no/such/coefficients"),
        (["--device", "toaster"], "toaster"),
        (["--dtype", "int8"], "int8"),
        (["--draft", "  "], "draft is empty"),
    ],
)
def test_bad_options_are_one_line_and_exit_code_2(
    extra: list[str], said: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["answer", "Which river?", *options, *extra]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_k_below_one_and_an_empty_question(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["answer", "Which river?", *options, "--k", "0"])
    assert stopped.value.code == 2
    assert "at least 1" in capsys.readouterr().err
    assert main(["answer", " ", *options]) == 2
    assert "question" in capsys.readouterr().err


def test_an_unwritable_page_is_said(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["answer", "Which river?", *options, "--html", str(tmp_path / "no" / "page.html")]) == 2
    assert "page.html" in capsys.readouterr().err


def test_wrong_coefficients_name_both_shapes(
    options: list[str], tiny_lm: LanguageModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    HeadCoefficients.average(3, 5, "llama").save_pretrained(tmp_path)
    assert main(["answer", "Which river?", *options, "--method", "at2", "--coefficients", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "3 layers x 5 heads" in error
    assert "2 layers x 4 heads" in error


def test_a_method_and_coefficients_of_another_one(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    HeadCoefficients.average(2, 4, "llama").save_pretrained(tmp_path)
    for command in ("answer", "score"):
        given = [command, "Which river?", *options, "--coefficients", str(tmp_path), "--method"]
        assert main([*given, "scout"]) == 2
        assert "the method scout needs coefficients of scout, but the given coefficients belong to at2" in (
            capsys.readouterr().err
        )
        assert main([*given, "at2"]) == 0
        capsys.readouterr()


def test_every_command_explains_itself_without_loading_torch() -> None:
    for command in ([], *([name] for name in COMMANDS)):
        code = (
            "import sys\nfrom at2_prune.cli import main\n"
            f"try: main({[*command, '--help']!r})\nexcept SystemExit: pass\n"
            "assert not {'torch', 'transformers'} & set(sys.modules), 'heavy import'"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "examples:" in done.stdout or not command


def test_cite_prints_the_statements_that_the_library_attributes(
    options: list[str],
    model_folder: Path,
    sample_questions: list[Question],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    question, answer = sample_questions[0], "He was born there. The river is the Meuse."
    page = tmp_path / "page.html"
    command = ["cite", question.text, *options, "--answer", answer, "--ablations", "4"]
    assert main([*command, "--json", "--html", str(page)]) == 0
    printed = json.loads(capsys.readouterr().out)
    pruner = AT2Pruner.from_pretrained(str(model_folder), method="average_attention", max_new_tokens=8)
    cited = pruner.attribute(question.text, question.passages, answer, statements="sentence", ablations=4)
    assert printed == json.loads(json.dumps(cited.to_dict()))
    assert [one["text"] for one in printed["statements"]] == ["He was born there.", "The river is the Meuse."]
    assert "The river is the Meuse." in page.read_text(encoding="utf-8")
    assert main(command) == 0
    assert "[1]" in capsys.readouterr().out


def test_cite_refuses_what_reads_no_answer(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cite", "Which?", *options, "--method", "bm25", "--answer", "Dinant."]) == 2
    assert "the method bm25 reads no answer" in capsys.readouterr().err
    assert main(["cite", "Which?", *options, "--thoughts", "own", "--answer", "Dinant."]) == 2
    assert "leave out --answer" in capsys.readouterr().err
    assert main(["cite", "Which?", *options, "--answer", " "]) == 2
    assert "the draft is empty" in capsys.readouterr().err
