"""A study on a tiny random model: three stages, each of which goes on where it stopped."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from at2_prune.bootstrap import bootstrap_mean, bootstrap_pooled
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.datasets import load_questions, sample_questions_path
from at2_prune.errors import AT2PruneError, DataError, InputError
from at2_prune.models.drafts import Draft
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.prompts import EncodedPrompt
from at2_prune.passages import only_kept
from at2_prune.pruning.loop import PruningLoop
from at2_prune.pruning.pruner import AT2Pruner
from at2_prune_eval.commands import study as command
from at2_prune_eval.metrics import answer_scores
from at2_prune_eval.study.__main__ import main as study_command
from at2_prune_eval.study.cells import read_cells
from at2_prune_eval.study.lines import adding, read_lines
from at2_prune_eval.study.settings import load_study
from at2_prune_eval.study.short import END, START

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Run = Callable[..., None]
ROOT = Path(__file__).parents[3]


@pytest.fixture
def settings(tiny_lm: LanguageModel, tmp_path: Path) -> dict[str, Any]:
    """Two readers, two data sets and six methods."""
    for name in ("model", "other"):
        tiny_lm.model.save_pretrained(tmp_path / name)
        tiny_lm.tokenizer.save_pretrained(tmp_path / name)
    model = {"model": str(tmp_path / "model"), "dtype": "float32"}
    path = str(sample_questions_path())
    return {
        "readers": {"one": model, "two": {**model, "model": str(tmp_path / "other")}},
        "data": {"first": {"path": path, "limit": 2}, "later": {"path": path, "offset": 3, "limit": 1}},
        "methods": {
            "none": None,
            "bm25": None,
            "lots": {"method": "random", "seed": 3},
            "average_attention": None,
            "oracle": None,
        },
        "k": [2, 1],
        "scorer": model,
        "subject": "average_attention",
        "max_new_tokens": 4,
        "batch_size": 4,
    }


@pytest.fixture
def run(settings: dict[str, Any], tmp_path: Path) -> Run:
    """Run the command with the settings as they are now."""

    def run(*options: str) -> None:
        file = tmp_path / "study.yaml"
        file.write_text(yaml.safe_dump(settings))
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        command.run(parser.parse_args([str(file), "--out", str(tmp_path / "out"), *options]))

    return run


def cells_f1(results: Path, method: str, k: str) -> list[list[float]]:
    """The F1 of a cell for each data set, as means over the readers."""
    parts = json.loads(results.read_text(encoding="utf-8"))["parts"]
    cells = {
        (part["reader"], part["data"]): cell["f1"]
        for part in parts
        for cell in part["cells"]
        if (cell["method"], cell["k"]) == (method, k)
    }
    return [
        [(a + b) / 2 for a, b in zip(cells["one", data], cells["two", data], strict=True)]
        for data in ("first", "later")
    ]


def test_the_command_is_registered() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["at2_prune.commands"]["study"] == "at2_prune_eval.commands.study"


def test_answers_are_those_of_the_pruner(
    run: Run, tmp_path: Path, tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("--stage", "rank")
    run("--stage", "answer", "--batch-size", "4")
    run("--stage", "page")
    questions = {question.id: question for question in load_questions(sample_questions_path())}
    pruner = AT2Pruner.from_pretrained(tiny_lm, method="average_attention", max_new_tokens=4)
    records = read_lines(tmp_path / "out" / "answers" / "one.first.jsonl").records
    assert len({(record["id"], *record["kept"]) for record in records}) == len(records) > 10
    for record in records:
        question = questions[record["id"]]
        shown = only_kept(question.passages, record["kept"], "passage")
        assert record["answer"] == pruner.answer_from(question.text, shown)
        assert record["prompt_tokens"] == len(tiny_lm.encode(question.text, shown))
    first = load_questions(sample_questions_path(), limit=2)
    for question in first:
        scores = pruner.score(question.text, question.passages)
        for k in (1, 2):
            assert pruner.select(scores, k) in [record["kept"] for record in records if record["id"] == question.id]
    page = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    f1 = [
        answer_scores(record["answer"], questions[record["id"]].answer or "").f1
        for record in records
        if len(record["kept"]) == len(questions[record["id"]].passages)
    ]
    section = page[page.index("### one, first") :]
    assert section[section.index("| No pruning | all |") :].startswith(f"| No pruning | all | {bootstrap_mean(f1)} |")
    for name in ("forest", "f1_by_tokens"):
        assert f"figures/{name}.svg" in page
        assert (tmp_path / "out" / "figures" / f"{name}.svg").read_text().startswith("<?xml")
    for reader in ("one", "two"):  # the same weights
        assert f"### Differences, {reader}, pooled over first, later" in page
    more = bootstrap_pooled(
        [
            [two - one for one, two in zip(*pair, strict=True)]
            for pair in zip(*[cells_f1(tmp_path / "out" / "results.json", "bm25", k) for k in ("1", "2")], strict=True)
        ]
    )
    assert f"| BM25 | 2 | 1 | {more.mean:+.3f} [{more.low:+.3f}, {more.high:+.3f}] |" in page
    for data in ("first", "later"):
        assert f"### Differences, all readers, {data}" in page

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(LanguageModel, "load", refuse)
    files = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.jsonl")}
    run()
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.jsonl")} == files
    assert (tmp_path / "out" / "README.md").read_text(encoding="utf-8") == page


def test_the_page_needs_the_files_only(run: Run, settings: dict[str, Any], tmp_path: Path) -> None:
    run("--stage", "rank")
    with pytest.raises(DataError, match="run the stage answer first"):
        run("--stage", "page")
    run("--stage", "answer", "--only", "one/first", "--batch-size", "3")
    for folder in ("model", "other"):
        shutil.rmtree(tmp_path / folder)
    for data in settings["data"].values():
        data["path"] = "${NO_SUCH_FOLDER}/elsewhere.jsonl"
    run("--stage", "page")
    page = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "batches of 3" in page
    assert "batches of 1" not in page
    assert "Left out: two has answered 0 of" in page


def test_the_page_can_be_written_again_from_the_results(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run()
    out = tmp_path / "out"
    results = out / "results.json"
    answers = {record["answer"] for record in read_lines(out / "answers" / "one.first.jsonl").records}
    assert not any(answer in results.read_text(encoding="utf-8") for answer in answers if answer)
    study_command([str(results), str(tmp_path / "again" / "results.md")])
    assert (tmp_path / "again" / "results.md").read_bytes() == (out / "README.md").read_bytes()
    for figure in (out / "figures").iterdir():
        assert (tmp_path / "again" / "figures" / figure.name).read_bytes() == figure.read_bytes()
    capsys.readouterr()
    results.write_text('{"parts": [{}]}', encoding="utf-8")
    with pytest.raises(SystemExit, match="2"):
        study_command([str(results), str(tmp_path / "again" / "results.md")])
    assert "results.json: does not hold results of a study" in capsys.readouterr().err


def test_results_of_two_runs_are_joined(
    run: Run, settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run()
    whole = tmp_path / "out" / "README.md"
    methods, page = dict(settings["methods"]), whole.read_text(encoding="utf-8")
    settings["k"] = [2]
    run("--stage", "page")
    first = (tmp_path / "out" / "results.json").rename(tmp_path / "first.json")
    settings["k"] = [1]
    settings["methods"] = {name: methods[name] for name in ("none", "bm25", "average_attention", "oracle")}
    run("--stage", "page")
    second = (tmp_path / "out" / "results.json").rename(tmp_path / "second.json")
    settings["methods"] = {"lots": methods["lots"]}
    settings["subject"] = ""
    run("--stage", "page")
    third = (tmp_path / "out" / "results.json").rename(tmp_path / "third.json")
    again, joined = tmp_path / "again" / "results.md", tmp_path / "joined.json"
    study_command([str(first), str(second), str(third), str(again), "--joined", str(joined)])
    lines = again.read_text(encoding="utf-8").splitlines()
    assert sorted(lines) == sorted(page.splitlines())
    assert [line[:14] for line in lines if line.startswith("| BM25 | ")][:2] == ["| BM25 | 1 | 0", "| BM25 | 2 | 0"]
    study_command([str(joined), str(tmp_path / "from_joined" / "results.md")])
    assert (tmp_path / "from_joined" / "results.md").read_bytes() == again.read_bytes()
    some, part = tmp_path / "some" / "results.md", tmp_path / "part.json"
    found = json.loads(third.read_text(encoding="utf-8"))
    part.write_text(json.dumps({**found, "parts": [one for one in found["parts"] if one["data"] == "later"]}))
    study_command([str(first), str(part), str(some), "--only", "*/later"])
    assert "### one, later" in some.read_text(encoding="utf-8")
    assert "### one, first" not in some.read_text(encoding="utf-8")
    assert "| lots | 1 |" in some.read_text(encoding="utf-8")  # the baselines have no k = 1 here
    with pytest.raises(SystemExit, match="2"):
        study_command([str(first), str(some), "--only", "*/other"])
    assert "--only */other matches none of one/first, one/later" in capsys.readouterr().err

    def refused(change: Callable[[dict[str, Any]], None]) -> str:
        found = json.loads(second.read_text(encoding="utf-8"))
        change(found)
        other = tmp_path / "changed.json"
        other.write_text(json.dumps(found), encoding="utf-8")
        with pytest.raises(SystemExit, match="2"):
            study_command([str(first), str(other), str(again)])
        return capsys.readouterr().err

    assert "readers and data sets must be the same" in refused(lambda found: found["parts"].pop())
    assert "one/first: the results are of different questions" in refused(
        lambda found: found["parts"][0].update(digest="other")
    )
    assert "settings differ in dtype" in refused(lambda found: found["parts"][0]["about"].update(dtype="bfloat16"))

    def other_tokens(found: dict[str, Any]) -> None:
        next(cell for cell in found["parts"][0]["cells"] if cell["method"] == "none").update(tokens=[1, 2])

    assert "both results have none at k = all" in refused(other_tokens)


def test_an_interrupted_stage_goes_on(run: Run, tmp_path: Path) -> None:
    run("--stage", "rank")
    run("--stage", "answer", "--only", "one/first", "--batch-size", "4")
    file = tmp_path / "out" / "answers" / "one.first.jsonl"
    whole = file.read_bytes()
    lines = whole.splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:5]) + lines[5][:20])
    run("--stage", "answer", "--only", "one/first")

    def read(data: bytes) -> list[str]:
        records = [json.loads(line) for line in data.splitlines()]
        return sorted(str({**one, "seconds": 0}) for one in records if "about" not in one)

    assert read(file.read_bytes()) == read(whole)
    file.write_bytes(b"".join([*lines[:5], lines[5][:20] + b"\n", *lines[6:]]))
    with pytest.raises(DataError, match=r"one\.first\.jsonl, line 6: damaged"):
        run("--stage", "answer")


def test_a_file_that_was_made_with_other_settings_is_refused(
    run: Run, settings: dict[str, Any], tmp_path: Path
) -> None:
    run()
    settings["max_new_tokens"] = 5
    settings["data"]["first"]["limit"] = 3  # more questions are no other settings
    with pytest.raises(InputError, match="max_new_tokens 4 there, 5 now"):
        run()
    settings["max_new_tokens"] = 4
    run("--stage", "rank")
    run("--stage", "answer")
    assert len(read_lines(tmp_path / "out" / "questions" / "first.jsonl").records) == 3
    settings["data"]["first"].update(path=str(tmp_path / "changed.jsonl"))
    text = sample_questions_path().read_text(encoding="utf-8")
    question = json.loads(text.splitlines()[0])
    (tmp_path / "changed.jsonl").write_text(json.dumps({**question, "question": "Who?"}) + "\n")
    with pytest.raises(InputError, match=r"holds another question of first"):
        run("--stage", "rank")


def test_a_method_that_was_removed_is_shown_but_not_ranked_again(
    run: Run, settings: dict[str, Any], tmp_path: Path
) -> None:
    run()
    settings["methods"]["lots"] = {"method": "prompt_scout"}
    run("--stage", "page")
    assert "| lots | 1 |" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    settings["data"]["later"]["limit"] = 2
    with pytest.raises(InputError, match=r"method lots: the method prompt_scout, .* was removed in 0\.2: use scout"):
        run("--stage", "rank")


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    with (
        adding(path, {"reader": "one"}, {}),
        pytest.raises(InputError, match="another process"),
        adding(path, {"reader": "one"}, {}),
    ):
        pass


def test_a_batch_that_does_not_fit_the_memory_is_made_smaller(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("--stage", "rank")
    sizes, write = [], PruningLoop.write_drafts
    room = 3000

    def limited(loop: PruningLoop, prompts: Sequence[EncodedPrompt]) -> list[Draft]:
        sizes.append(len(prompts))
        if len(prompts) * max(map(len, prompts)) > room:
            raise torch.OutOfMemoryError
        return write(loop, prompts)

    monkeypatch.setattr(PruningLoop, "write_drafts", limited)
    run("--stage", "answer", "--only", "one/first", "--batch-size", "64")
    records = read_lines(tmp_path / "out" / "answers" / "one.first.jsonl").records
    assert sizes[0] == len(records) > 10
    lengths = [record["prompt_tokens"] for record in records]
    assert lengths == sorted(lengths, reverse=True)
    assert len({record["seconds"] for record in records}) > 1
    room = 10
    with pytest.raises(InputError, match=r"reader one: a prompt of .* tokens does not fit the GPU's memory"):
        run("--stage", "answer", "--only", "one/later")


def test_a_large_batch_computes_the_last_tokens_logits_only(tiny_lm: LanguageModel) -> None:
    rows = []
    hook = tiny_lm.model.lm_head.register_forward_pre_hook(
        lambda module, inputs: rows.append(tuple(inputs[0].shape[:2]))
    )
    questions = load_questions(sample_questions_path())
    prompts = [tiny_lm.encode(one.text, one.passages[: 1 + number]) for number in range(8) for one in questions[:8]]
    written = PruningLoop(tiny_lm, 3).write_drafts(prompts)
    hook.remove()
    assert rows == [(64, 1)] * 3
    for place in (0, 20, 63):  # padding changes nothing
        assert written[place].ids == PruningLoop(tiny_lm, 3).write_drafts([prompts[place]])[0].ids


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reader": {}}, "unknown key 'reader'; the keys are readers"),
        ({"readers": {"one": {"name": "x"}}}, r"readers\.one: unknown key 'name'"),
        ({"readers": {"a.b": {}}}, "the name 'a.b' must be made of"),
        ({"data": {"first": {}}}, r"data\.first: the key 'path' is missing"),
        ({"data": {"first": {"path": "x", "limit": "2"}}}, "limit must be of type int, got '2'"),
        ({"data": {"first": {"path": "${NO_SUCH_FOLDER}/x"}}}, "the environment variable NO_SUCH_FOLDER is not set"),
        ({"methods": {"bm52": None}}, r"methods\.bm52: there is no method 'bm52'"),
        ({"methods": {"bm25": {"embedder": "x"}}}, "embedder belongs to the method dense or scout_dense, not to bm25"),
        ({"methods": []}, "methods must be a mapping of names to settings"),
        ({"k": [0]}, "must be an integer of at least 1, got 0"),
        ({"k": 3}, "k must be a list of numbers"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1"),
        ({"subject": "scout"}, "subject 'scout' is not among the methods"),
        ({"baselines": ["none", "scout"]}, "baseline 'scout' is not among the methods"),
        ({"baselines": [""]}, "baseline '' is not among the methods"),
        ({"baselines": "none"}, "baselines must be a list of methods, got 'none'"),
        ({"baselines": [["none"]]}, "baselines must be a list of methods, got"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], run: Run, change: dict[str, Any], message: str) -> None:
    settings.update(change)
    with pytest.raises(InputError, match=message) as caught:
        run()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("readers: [", "not YAML"),
        ("k: [1]\nk: [2]\n", r"not YAML \(the key 'k' is given twice: delete one\)"),
        ("data:\n  a: {}\n  a: {}\n", r"not YAML \(the key 'a' is given twice: delete one\)"),
        ("[" * 3000, r"not YAML \(nested too deeply\)"),
        ("k: [" + "1" * 5000 + "]", r"not YAML \(a number has too many digits\)"),
    ],
    ids=["open", "key", "name", "nesting", "digits"],
)
def test_not_yaml(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        load_study(tmp_path / "study.yaml")
    assert "\n" not in str(caught.value)


def test_only_must_match(run: Run) -> None:
    with pytest.raises(InputError, match="--only needs --stage"):
        run("--only", "one/*")
    run("--stage", "rank")
    with pytest.raises(InputError, match="--only three/first matches none of one/first, one/later"):
        run("--stage", "answer", "--only", "three/first")


def test_a_reader_that_cannot_be_used_is_named(
    run: Run, settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run("--stage", "rank")
    config = tmp_path / "model" / "config.json"
    own = config.read_text()
    config.write_text(json.dumps({**json.loads(own), "max_position_embeddings": 256}))
    with pytest.raises(InputError, match=r"reader one, data first, question .*no question of first was answered"):
        run("--stage", "answer")
    assert not (tmp_path / "out" / "answers").exists()
    config.write_text(own)
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ raise_exception('no') }}")
    with pytest.raises(InputError, match=r"reader one: cannot load model .*: the tokenizer's chat template cannot"):
        run("--stage", "answer")
    settings["readers"]["one"]["model"] = str(tmp_path / "nothing")
    with pytest.raises(InputError, match="reader one: cannot load model"):
        run("--stage", "answer")


def test_a_reader_that_writes_nothing(
    run: Run, silent_lm: LanguageModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in ("model", "other"):
        silent_lm.model.save_pretrained(tmp_path / folder)
    run()
    assert "reader one wrote nothing for" in caplog.text
    page = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "one wrote nothing for" in page
    fallbacks = read_lines(tmp_path / "out" / "rankings" / "average_attention.first.jsonl").records
    assert [record["ranking"] for record in fallbacks] == [list(range(10))] * 2
    assert all("the draft is empty" in record["fallback"] for record in fallbacks)


def test_a_method_that_cannot_be_used_is_named(run: Run, settings: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"")
    settings["methods"]["reranker"] = {"method": "cross_encoder", "cross_encoder": str(tmp_path / "onnx")}
    with pytest.raises(InputError, match=r"method reranker: the ONNX folder .* has no tokenizer\.json"):
        run("--stage", "rank")
    del settings["methods"]["reranker"]["cross_encoder"]
    with pytest.raises(InputError, match="method reranker: the method cross_encoder needs a reranker"):
        run("--stage", "rank")


def test_methods_and_the_scorer_are_checked_before_it_is_loaded(
    run: Run, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("--stage", "rank")
    whole = dict(settings["scorer"])
    settings["scorer"] = {"model": str(tmp_path / "nothing")}
    run("--stage", "rank")  # nothing is missing, so the scorer is not needed
    settings["methods"]["dense"] = {"embedder": str(tmp_path / "no_embedder")}
    with pytest.raises(InputError, match="scorer: cannot load model"):
        run("--stage", "rank")
    settings["scorer"] = whole
    monkeypatch.setattr(LanguageModel, "load", lambda *given, **options: pytest.fail("the scorer is loaded"))
    with pytest.raises(InputError, match="method dense: cannot load the encoder"):
        run("--stage", "rank")


def test_data_of_another_shape_are_named(run: Run, settings: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "plain.jsonl"
    row = {"id": "1", "question": "Who?", "passages": ["He.", "She."], "answer": "she"}
    file.write_text(json.dumps(row) + "\n")
    settings["data"]["plain"] = {"path": str(file)}
    with pytest.raises(InputError, match=r"data plain: .*gold"):
        run("--stage", "rank")
    del settings["methods"]["oracle"]
    run()  # without the oracle, gold passages are not needed
    assert "| No pruning | all |" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    file.write_text((json.dumps(row) + "\n") * 2)
    with pytest.raises(AT2PruneError, match="two questions have the id '1'"):
        run("--stage", "rank")


def test_rankings_from_elsewhere(run: Run, settings: dict[str, Any], tmp_path: Path) -> None:
    settings["methods"] = {"none": None, "mine": {"file": str(tmp_path / "mine.{data}.jsonl")}, "bm25": None}
    settings["subject"] = "mine"
    settings["baselines"] = ["none", "mine"]
    for data, some in settings["data"].items():
        questions = load_questions(some["path"], limit=some["limit"], offset=some.get("offset", 0))
        lines = [{"id": one.id, "ranking": list(reversed(range(len(one.passages))))} for one in questions]
        (tmp_path / f"mine.{data}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run()
    kept = [record["kept"] for record in read_lines(tmp_path / "out" / "answers" / "one.later.jsonl").records]
    assert [9] in kept
    assert [8, 9] in kept
    page = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "| mine | 2 |" in page
    assert "| method | k | F1 minus no pruning | F1 minus mine at the same k |" in page
    assert "| method | k | answer F1 | tokens read | share of tokens | evidence recall |" in page
    del settings["methods"]["none"], settings["baselines"][0]
    run("--stage", "page")  # without an answer from all passages, there is no share of tokens
    page = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "| method | k | answer F1 | tokens read | evidence recall |" in page
    (tmp_path / "mine.later.jsonl").write_text(json.dumps({"id": questions[0].id, "ranking": [0, 0]}) + "\n")
    with pytest.raises(DataError, match="must hold each index below 10 once"):
        run("--stage", "rank")


def test_each_reader_can_order_the_passages_itself(
    run: Run, settings: dict[str, Any], tmp_path: Path, tiny_lm: LanguageModel, capsys: pytest.CaptureFixture[str]
) -> None:
    other = with_other_weights(tmp_path / "other")
    settings["methods"] = {"none": None, "average_attention": {"scorer": "reader"}, "mine": {"file": ""}}
    settings["methods"]["mine"]["file"] = str(tmp_path / "{reader}.{data}.jsonl")
    for data, some in settings["data"].items():
        questions = load_questions(some["path"], limit=some["limit"], offset=some.get("offset", 0))
        for step, reader in ((1, "one"), (-1, "two")):
            lines = [{"id": one.id, "ranking": list(range(len(one.passages)))[::step]} for one in questions]
            (tmp_path / f"{reader}.{data}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run()
    shown = capsys.readouterr().err
    assert all(f"rank average_attention/first by {reader}: 100%" in shown for reader in ("one", "two"))
    first = load_questions(sample_questions_path(), limit=2)
    found = {}
    for reader, model in (("one", tiny_lm), ("two", other)):
        pruner = AT2Pruner.from_pretrained(model, method="average_attention", max_new_tokens=4)
        records = read_lines(tmp_path / "out" / "rankings" / f"average_attention.{reader}.first.jsonl").records
        found[reader] = [record["ranking"] for record in records]
        for question, ranking in zip(first, found[reader], strict=True):
            assert sorted(ranking[:2]) == pruner.select(pruner.score(question.text, question.passages), 2)
        kept = [record["kept"] for record in read_lines(tmp_path / "out" / "answers" / f"{reader}.first.jsonl").records]
        assert ([0, 1] in kept, [8, 9] in kept) == ((True, False) if reader == "one" else (False, True))
    assert found["one"] != found["two"]
    page = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "| Average attention of the reader | 2 |" in page
    settings["methods"]["bm25"] = {"scorer": "reader"}
    with pytest.raises(InputError, match=r"methods\.bm25: bm25 needs no scoring model; leave out scorer"):
        run()
    settings["methods"] = {"average_attention": {"scorer": "qwen"}}
    with pytest.raises(InputError, match="scorer can only be reader, got 'qwen'"):
        run()
    settings["methods"] = {"at2": {"coefficients": str(tmp_path / "{reader}" / "at2")}}
    settings["subject"] = ""
    with pytest.raises(InputError, match=r"coefficients of each \{reader\} need scorer: reader"):
        run()
    settings["methods"]["at2"]["scorer"], settings["subject"] = "reader", "at2"
    for reader, model in (("one", tiny_lm), ("two", other)):
        layers, heads = model.model.config.num_hidden_layers, model.model.config.num_attention_heads
        kind = model.model.config.model_type
        HeadCoefficients.average(layers, heads, kind).save_pretrained(tmp_path / reader / "at2")
    run("--stage", "rank")
    for reader, rankings in found.items():
        records = read_lines(tmp_path / "out" / "rankings" / f"at2.{reader}.first.jsonl").records
        assert [record["ranking"] for record in records] == rankings  # equal coefficients are average attention


def test_the_scorer_can_read_the_drafts_of_each_reader(
    run: Run, settings: dict[str, Any], tmp_path: Path, tiny_lm: LanguageModel
) -> None:
    other = with_other_weights(tmp_path / "other")
    settings["methods"] = {"none": None, "proxy": {"method": "average_attention", "draft": "reader"}}
    settings["subject"] = "proxy"
    settings["readers"]["one"] = {**settings["readers"]["one"], "model": str(tmp_path / "other")}
    settings["readers"]["two"] = {**settings["readers"]["two"], "model": str(tmp_path / "model")}
    run()
    first = load_questions(sample_questions_path(), limit=2)
    found = {}
    for reader, model in (("one", other), ("two", tiny_lm)):
        pruner = AT2Pruner.from_pretrained(tiny_lm, method="average_attention", reader=model, max_new_tokens=4)
        lines = read_lines(tmp_path / "out" / "rankings" / f"proxy.{reader}.first.jsonl")
        found[reader] = [record["ranking"] for record in lines.records]
        for question, ranking in zip(first, found[reader], strict=True):
            assert sorted(ranking[:2]) == pruner.select(pruner.score(question.text, question.passages), 2)
        assert ("drafts" in lines.about) == (reader == "one")  # reader two is the scoring model
    assert found["one"] != found["two"]
    assert "| Average attention of the reader's draft | 2 |" in (tmp_path / "out" / "README.md").read_text("utf-8")
    settings["methods"]["proxy"]["scorer"] = "reader"
    with pytest.raises(InputError, match="with scorer: reader each reader also writes the draft; leave out draft"):
        run()
    settings["methods"]["proxy"] = {"method": "average_attention", "draft": "one"}
    with pytest.raises(InputError, match="draft can only be reader, got 'one'"):
        run()
    for method in ("scout", "bm25", "oracle"):
        settings["methods"]["proxy"] = {"method": method, "draft": "reader"}
        with pytest.raises(InputError, match=rf"methods\.proxy: {method} reads no draft; leave out draft"):
            run()


def test_a_reader_that_drafts_is_checked_before_the_scorer_is_loaded(
    run: Run, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings["methods"] = {"none": None, "average_attention": {"draft": "reader"}}
    settings["readers"]["two"] = {"model": str(tmp_path / "nothing")}
    monkeypatch.setattr(LanguageModel, "load", lambda *given, **options: pytest.fail("the scorer is loaded"))
    with pytest.raises(InputError, match="reader two: cannot load model"):
        run("--stage", "rank")


def with_other_weights(folder: Path) -> LanguageModel:
    """Change the weights of the model in a folder, and return the model."""
    torch.manual_seed(5)
    other = LanguageModel.load(str(folder), dtype="float32")
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    other.model.save_pretrained(folder)
    return other


def test_a_short_table_goes_into_another_document(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run()
    results, document = str(tmp_path / "out" / "results.json"), tmp_path / "README.md"
    short = [results, str(tmp_path / "page.md"), "--short", str(document)]
    document.write_text(f"Before.\n{START}\nold\n{END}\nAfter.\n")
    study_command(short)
    text = document.read_text(encoding="utf-8")
    assert text.startswith(
        f"Before.\n{START}\n\n| answer F1, minus | `average_attention`, k = 1 | `average_attention`, k = 2 |"
    )
    assert text.endswith(f" |\n\n{END}\nAfter.\n")
    assert "old" not in text
    cells = read_cells(Path(results))
    row = next(line for line in text.splitlines() if line.startswith("| BM25 |"))
    gain = cells.gain(("lots", "2"), ("bm25", "2"), cells.readers, cells.data_of(cells.readers))
    study_command([*short, "--columns", "lots@2", "bm25@1"])
    again = document.read_text(encoding="utf-8")
    assert row not in again
    assert f"| BM25 | {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] | – |" in again
    study_command([*short, "--columns", "lots@2", "bm25@1"])
    assert document.read_text(encoding="utf-8") == again
    for columns, wrong in (
        (["lots@7"], "the results have no 'lots@7'; use one of average_attention@1"),
        ([], "needs the lines"),
    ):
        if not columns:
            document.write_text("No marks.")
        with pytest.raises(SystemExit):
            study_command([*short, "--columns", *(columns or ["lots@2"])])
        assert wrong in capsys.readouterr().err
    assert document.read_text(encoding="utf-8") == "No marks."


def test_pooled_intervals_resample_within_groups() -> None:
    groups = [[0.0, 1.0] * 50, [5.0] * 100]
    pooled = bootstrap_pooled(groups)
    assert pooled.mean == pytest.approx(2.75)
    alone = bootstrap_mean(groups[0])  # the second group has no spread
    assert pooled.high - pooled.low == pytest.approx((alone.high - alone.low) / 2, rel=1e-6)
    assert bootstrap_pooled([[], []]).mean != bootstrap_pooled([[], []]).mean
