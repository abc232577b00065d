"""The runner on a tiny random model: what is kept and answered, what is shared, what an interrupted run leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from at2_prune.coefficients import DRAFT_ROWS, HeadCoefficients, RowGroup
from at2_prune.draft import write_drafts
from at2_prune.errors import ContextTooLongError, DataError, InputError
from at2_prune.model import Generation, LanguageModel
from at2_prune.prompt import TextTemplate
from at2_prune.pruner import AT2Pruner
from at2_prune.questions import Question
from at2_prune.scorers import AT2Scorer, AverageAttentionScorer, Scorer, Task
from at2_prune_eval import answer_scores, evaluate
from at2_prune_eval.methods import as_methods, check_ks
from at2_prune_eval.runner import answer_question

from .conftest import KS, MAX_NEW_TOKENS, Calls


def run(
    lm: LanguageModel, scorers: list[Scorer], questions: list[Question], out: Path, **options: Any
) -> dict[str, Any]:
    options = {"ks": KS, "data_name": "sample", "max_new_tokens": MAX_NEW_TOKENS, **options}
    return evaluate(lm, scorers, questions, options.pop("ks"), out, **options)


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "questions.jsonl").read_text(encoding="utf-8").splitlines()]


def untimed(value: Any) -> Any:
    """Without what no two runs share."""
    if isinstance(value, dict):
        return {key: untimed(entry) for key, entry in value.items() if key != "seconds"}
    return value


def test_kept_and_answers_are_the_pruners(
    tiny_lm: LanguageModel, scorers: list[Scorer], questions: list[Question], tmp_path: Path
) -> None:
    run(tiny_lm, scorers, questions, tmp_path)
    pruners = {scorer.name: AT2Pruner(tiny_lm, scorer, max_new_tokens=MAX_NEW_TOKENS) for scorer in scorers}
    for record, question in zip(records(tmp_path), questions, strict=True):
        assert (record["id"], record["gold"]) == (question.id, list(question.gold))
        for name, pruner in pruners.items():
            for k in KS:
                expected = pruner.answer(question.text, question.passages, k)
                entry = record["methods"][name][str(k)]
                assert (entry["kept"], entry["answer"]) == (expected.kept, expected.answer)
                assert record["scores"][name] == pytest.approx(expected.scores)
                assert record["draft"] == expected.draft


def test_entries_are_consistent(
    tiny_lm: LanguageModel, scorers: list[Scorer], questions: list[Question], tmp_path: Path
) -> None:
    results = run(tiny_lm, scorers, questions, tmp_path)
    for index, record in enumerate(records(tmp_path)):
        none, oracle = record["methods"]["none"]["all"], record["methods"]["oracle"]["all"]
        assert none["answer"] == record["draft"]
        assert none["kept"] == list(range(10))
        assert (none["recall"], none["precision"]) == (1.0, 0.2)
        assert oracle["kept"] == record["gold"]
        assert (oracle["recall"], oracle["precision"]) == (1.0, 1.0)
        right = none if index % 2 == 0 else oracle
        assert (right["em"], right["f1"]) == (1.0, 1.0)
        for entries in record["methods"].values():
            for entry in entries.values():
                scores = answer_scores(entry["answer"], record["answer"])
                assert (entry["em"], entry["f1"]) == (scores.em, scores.f1)
                assert entry["recall"] == len(set(entry["kept"]) & set(record["gold"])) / 2
    assert results["methods"]["none"]["all"]["em"]["mean"] >= 0.5
    assert results["methods"]["oracle"]["all"]["em"]["mean"] >= 0.5


def test_one_draft_with_attention_and_each_kept_set_answered_once(
    tiny_lm: LanguageModel, scorers: list[Scorer], questions: list[Question], calls: Calls, tmp_path: Path
) -> None:
    run(tiny_lm, scorers, questions, tmp_path, ks=[4, 1, 2, 10, 12, 2])
    different = 0
    for record in records(tmp_path):
        entries = [entry for by_k in record["methods"].values() for entry in by_k.values()]
        assert set(record["methods"]["at2"]) == {"1", "2", "4", "10", "12"}
        different += len({tuple(entry["kept"]) for entry in entries})
        for k in ("10", "12"):
            assert record["methods"]["at2"][k]["answer"] == record["draft"]
    assert len(calls.prompts) == len(set(calls.prompts)) == different
    assert calls.readings == len(questions)


def test_seconds_by_step(
    tiny_lm: LanguageModel, scorers: list[Scorer], questions: list[Question], tmp_path: Path
) -> None:
    results = run(tiny_lm, [*scorers, Named(scorers[0], "twin")], questions, tmp_path, ks=[1, 10])
    totals = []
    for record in records(tmp_path):
        methods = record["methods"]
        draft = methods["none"]["all"]["seconds"]["draft"]
        assert set(methods["none"]["all"]["seconds"]) == {"draft"}
        assert set(methods["oracle"]["all"]["seconds"]) == {"regenerate"}
        assert set(methods["at2"]["1"]["seconds"]) == {"draft", "score", "regenerate"}
        assert set(methods["at2"]["10"]["seconds"]) == {"draft", "score"}
        assert methods["at2"]["1"]["seconds"]["draft"] == draft
        shared = methods["at2"]["1"]["seconds"]["regenerate"]
        assert methods["twin"]["1"]["seconds"]["regenerate"] == shared > 0
        totals.append(sum(methods["at2"]["1"]["seconds"].values()))
    assert results["methods"]["at2"]["1"]["seconds"]["mean"] == pytest.approx(np.mean(totals))


class Named:
    """A scorer under another name."""

    def __init__(self, scorer: Scorer, name: str) -> None:
        self.scorer, self.name, self.row_groups = scorer, name, scorer.row_groups

    def score(self, task: Task) -> Any:
        return self.scorer.score(task)


def test_row_groups_of_all_scorers_are_read_in_the_one_draft(
    tiny_lm: LanguageModel, questions: list[Question], calls: Calls
) -> None:
    groups = [RowGroup("question"), RowGroup("last")]
    other = AT2Scorer(HeadCoefficients(HeadCoefficients.average(2, 4).weight.repeat(2, 1, 1), groups))
    question = questions[0]
    record = answer_question(tiny_lm, as_methods([AverageAttentionScorer(), other]), question, [1], MAX_NEW_TOKENS)
    assert calls.readings == 1
    prompt = tiny_lm.encode(question.text, question.passages)
    mass = write_drafts(tiny_lm, [prompt], [DRAFT_ROWS, *groups], MAX_NEW_TOKENS)[0].mass
    assert record["scores"]["average_attention"] == pytest.approx(mass[DRAFT_ROWS].mean((0, 1)).tolist())
    expected = sum(mass[group].mean((0, 1)) for group in groups)
    assert record["scores"]["at2"] == pytest.approx(expected.tolist())  # type: ignore[union-attr]


def test_an_interrupted_run_goes_on(
    tiny_lm: LanguageModel, scorers: list[Scorer], questions: list[Question], calls: Calls, tmp_path: Path
) -> None:
    whole = run(tiny_lm, scorers, questions, tmp_path / "whole")
    wanted = (tmp_path / "whole" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    per_run = len(calls.prompts)
    calls.interrupt_at = per_run + 12
    with pytest.raises(KeyboardInterrupt):
        run(tiny_lm, scorers, questions, tmp_path / "cut")
    path = tmp_path / "cut" / "questions.jsonl"
    kept = path.read_bytes()
    done = len(kept.splitlines())
    assert 1 <= done < len(questions)
    assert not (tmp_path / "cut" / "results.json").exists()
    path.write_bytes(kept + wanted[done].encode()[:100])  # killed while writing a line
    calls.interrupt_at = None
    seen: list[tuple[str, bool]] = []
    again = run(
        tiny_lm, scorers, questions, tmp_path / "cut", progress=lambda record, old: seen.append((record["id"], old))
    )
    assert seen == [(question.id, index < done) for index, question in enumerate(questions)]
    assert path.read_bytes().startswith(kept)
    assert [untimed(line) for line in records(tmp_path / "cut")] == [untimed(json.loads(line)) for line in wanted]
    for name, entries in whole["methods"].items():
        for k, entry in entries.items():
            assert untimed({"f1": entry["f1"], "recall": entry["recall"]}) == {
                metric: again["methods"][name][k][metric] for metric in ("f1", "recall")
            }
    assert again["paired"] == whole["paired"]
    before = len(calls.prompts)
    assert run(tiny_lm, scorers, questions, tmp_path / "cut") == again
    assert len(calls.prompts) == before  # a finished run writes nothing anew


def test_another_config_is_refused(
    tiny_lm: LanguageModel,
    scorers: list[Scorer],
    coefficients: HeadCoefficients,
    questions: list[Question],
    tmp_path: Path,
) -> None:
    run(tiny_lm, scorers, questions[:2], tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {"config.json", "questions.jsonl", "results.json", "table.md"}
    with pytest.raises(InputError, match=r"ks: \[1, 2, 4\] there, \[1, 3\] now; max_new_tokens: 6 there, 7 now"):
        run(tiny_lm, scorers, questions[:2], tmp_path, ks=[3, 1], max_new_tokens=7)
    changed = HeadCoefficients(coefficients.weight * 2, model_name=tiny_lm.name, model_type="llama")
    with pytest.raises(InputError, match=r"coefficients\.at2\.sha256"):
        run(tiny_lm, [AT2Scorer(changed), scorers[1]], questions[:2], tmp_path)
    with pytest.raises(InputError, match=r"config \(data\.sha256"):  # same name, same number, other content
        run(tiny_lm, scorers, [questions[0], replace(questions[1], answer="other")], tmp_path)
    other = LanguageModel(tiny_lm.model, tiny_lm.tokenizer, TextTemplate(examples=""), tiny_lm.name)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"prompt\.sha256"):
        run(other, scorers, questions[:2], tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gold": ()}, "'sample-02' names no gold passages"),
        ({"answer": None}, "'sample-02' has no answer"),
        ({"id": "sample-01"}, "'sample-01' repeats"),
    ],
)
def test_questions_that_cannot_be_measured(
    tiny_lm: LanguageModel,
    scorers: list[Scorer],
    questions: list[Question],
    calls: Calls,
    tmp_path: Path,
    change: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(DataError, match=message):
        run(tiny_lm, scorers, [questions[0], replace(questions[1], **change)], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not calls.prompts


def test_a_question_too_long_is_found_before_the_first_draft(
    tiny_lm: LanguageModel, scorers: list[Scorer], questions: list[Question], calls: Calls, tmp_path: Path
) -> None:
    long = replace(questions[1], passages=questions[1].passages * 4)
    with pytest.raises(ContextTooLongError, match=r"question 'sample-02': .*takes 4096"):
        run(tiny_lm, scorers, [questions[0], long], tmp_path)
    assert not calls.prompts


def test_empty_draft_keeps_the_first_k(
    tiny_lm: LanguageModel, scorers: list[Scorer], questions: list[Question], tmp_path: Path
) -> None:
    generate = tiny_lm.generate
    full = len(tiny_lm.encode(questions[0].text, questions[0].passages))

    def silent(prompts: Any, max_new_tokens: int = 48, readings: Any = None) -> Any:
        generations, reader = generate(prompts, max_new_tokens, readings)
        if len(prompts[0]) == full:  # the model ends its answer at once
            generations = [Generation([], (0, 0), "")]
        return generations, reader

    tiny_lm.generate = silent  # type: ignore[method-assign, assignment]
    results = run(tiny_lm, scorers, questions[:2], tmp_path)
    first, second = records(tmp_path)
    assert first["draft"] == first["methods"]["none"]["all"]["answer"] == ""
    assert first["fell_back"] == ["at2", "average_attention"]
    assert first["scores"] == {}
    assert first["methods"]["at2"]["2"]["kept"] == [0, 1]
    assert second["fell_back"] == []
    assert results["empty_drafts"] == 1


@pytest.mark.parametrize("ks", [[], [0], [1, -2], [True], [1.5]])
def test_bad_k(ks: list[Any]) -> None:
    with pytest.raises(InputError, match="k"):
        check_ks(ks)


def test_bad_arguments(
    tiny_lm: LanguageModel, scorers: list[Scorer], questions: list[Question], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="max_new_tokens"):
        run(tiny_lm, scorers, questions, tmp_path, max_new_tokens=0)
    with pytest.raises(InputError, match=r"\['at2'\] repeat"):
        run(tiny_lm, [scorers[0], scorers[0]], questions, tmp_path)
    with pytest.raises(DataError, match="no question"):
        run(tiny_lm, scorers, [], tmp_path)
