"""The runner on a tiny random model: what is kept and answered, what is shared, what an interrupted run leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from at2_prune.attention.rows import DRAFT_ROWS, RowGroup
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.datasets import Question
from at2_prune.errors import ContextTooLongError, DataError, InputError
from at2_prune.models.drafts import read_drafts, write_drafts
from at2_prune.models.language_model import Generation, LanguageModel
from at2_prune.models.prompts import TextTemplate
from at2_prune.pruning.pruner import AT2Pruner
from at2_prune.scorers import (
    AttentionScorer,
    LearnedScorer,
    LeaveOneOutScorer,
    RandomScorer,
    Scorer,
    SurrogateScorer,
    Task,
    make_scorer,
)
from at2_prune_eval import CachedLoop, Experiment, Workers, answer_question, answer_scores, evaluate
from at2_prune_eval.k_values import check_ks
from at2_prune_eval.run.methods import as_methods

from ..conftest import KS, MAX_NEW_TOKENS, Calls


def run(
    loop: CachedLoop, scorers: list[Scorer], questions: list[Question], out: Path, **options: Any
) -> dict[str, Any]:
    workers = Workers(progress=options.pop("progress")) if "progress" in options else None
    experiment = Experiment(scorers, questions, **{"ks": KS, "data": {"name": "sample"}, **options})
    return evaluate(loop, experiment, out, workers)


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "questions.jsonl").read_text(encoding="utf-8").splitlines()]


def unmeasured(value: Any) -> Any:
    """Without what no two runs share: seconds and bytes."""
    if isinstance(value, dict):
        return {key: unmeasured(entry) for key, entry in value.items() if key not in ("seconds", "memory")}
    return value


def test_kept_and_answers_are_the_pruners(
    loop: CachedLoop, scorers: list[Scorer], questions: list[Question], tmp_path: Path
) -> None:
    run(loop, scorers, questions, tmp_path)
    pruners = {s.name: AT2Pruner(loop.language_model, s, max_new_tokens=MAX_NEW_TOKENS) for s in scorers}
    for record, question in zip(records(tmp_path), questions, strict=True):
        assert (record["id"], record["gold"]) == (question.id, list(question.gold))
        for name, pruner in pruners.items():
            for k in KS:
                expected = pruner.answer(question.text, question.passages, k)
                entry = record["methods"][name]["at"][str(k)]
                assert (entry["kept"], entry["answer"]) == (expected.kept, expected.answer)
                assert record["methods"][name]["scores"] == pytest.approx(expected.scores, abs=1e-6)
                assert record["draft"] == expected.draft


def test_entries_are_consistent(
    loop: CachedLoop, scorers: list[Scorer], questions: list[Question], tmp_path: Path
) -> None:
    results = run(loop, scorers, questions, tmp_path)
    for index, record in enumerate(records(tmp_path)):
        none, oracle = record["methods"]["none"]["at"]["all"], record["methods"]["oracle"]["at"]["gold"]
        assert none["answer"] == record["draft"]
        assert none["kept"] == list(range(10))
        assert (none["gold_recall"], none["gold_precision"]) == (1.0, 0.2)
        assert oracle["prompt_tokens"] < none["prompt_tokens"] == record["prompt_tokens"]
        assert oracle["kept"] == record["gold"]
        assert (oracle["gold_recall"], oracle["gold_precision"], oracle["gold_f1"]) == (1.0, 1.0, 1.0)
        right = none if index % 2 == 0 else oracle
        assert (right["em"], right["f1"]) == (1.0, 1.0)
        for method in record["methods"].values():
            for entry in method["at"].values():
                scores = answer_scores(entry["answer"], record["answer"])
                assert (entry["em"], entry["f1"], entry["recall"]) == (scores.em, scores.f1, scores.recall)
                both = set(entry["kept"]) & set(record["gold"])
                assert (entry["gold_recall"], entry["both_gold"]) == (len(both) / 2, float(len(both) == 2))
    assert results["methods"]["none"]["at"]["all"]["em"]["mean"] >= 0.5
    assert results["methods"]["oracle"]["at"]["gold"]["em"]["mean"] >= 0.5


def test_auto_takes_the_surest_of_several_answers(
    loop: CachedLoop, scorers: list[Scorer], questions: list[Question], calls: Calls
) -> None:
    pruners = {s.name: AT2Pruner(loop.language_model, s, max_new_tokens=MAX_NEW_TOKENS) for s in scorers}
    chosen = set()
    for question in questions:
        record = answer_question(loop, as_methods(scorers), question, [2, "auto"])
        assert list(record["methods"]["at2"]["at"]) == ["2", "auto"]
        assert (list(record["methods"]["none"]["at"]), list(record["methods"]["oracle"]["at"])) == (["all"], ["gold"])
        for name, pruner in pruners.items():
            entry = record["methods"][name]["at"]["auto"]
            expected = pruner.answer(question.text, question.passages, "auto")
            assert (entry["kept"], entry["answer"]) == (expected.kept, expected.answer)
            assert entry["passages"] == expected.k
            alone = [len(pruner.language_model.encode(question.text, question.passages[:1]))]
            assert max(alone) < entry["prompt_tokens"] < 4 * record["prompt_tokens"]
            chosen.add(expected.k)
    assert len(chosen) > 1
    short = replace(questions[0], passages=questions[0].passages[:2], gold=(0,))
    entry = answer_question(loop, as_methods(scorers), short, ["auto"])["methods"]["at2"]["at"]["auto"]
    assert entry["answer"] == pruners["at2"].answer(short.text, short.passages, "auto").answer
    before = calls.passes
    answer_question(loop, as_methods(scorers), questions[0], [2, "auto"])
    assert calls.passes == before  # remembered, with their probabilities


def test_the_best_alias_counts(loop: CachedLoop, scorers: list[Scorer], questions: list[Question]) -> None:
    question = replace(questions[0], answer="something else", aliases=(questions[0].answer or "", "more"))
    record = answer_question(loop, as_methods(scorers), question, [1])
    assert record["methods"]["none"]["at"]["all"]["em"] == 1.0


def test_one_draft_and_each_kept_set_answered_once(
    loop: CachedLoop, scorers: list[Scorer], questions: list[Question], calls: Calls
) -> None:
    ks, question = [1, 2, 4, 10, 12], questions[0]
    few = answer_question(CachedLoop(loop.language_model, None, MAX_NEW_TOKENS), as_methods(scorers), question, ks)
    passes, tokens = calls.passes, calls.tokens
    twins = [*scorers, *(Named(scorer, f"{scorer.name} again") for scorer in scorers)]
    many = answer_question(loop, as_methods(twins), question, ks)
    assert (calls.passes, calls.tokens) == (2 * passes, 2 * tokens)  # the twins cost nothing
    assert many["methods"]["at2 again"]["at"] == few["methods"]["at2"]["at"]
    for k in ("10", "12"):
        assert few["methods"]["at2"]["at"][k]["answer"] == few["draft"]
    before = calls.passes
    again = answer_question(loop, as_methods(scorers), question, ks)
    assert calls.passes == before  # remembered
    assert unmeasured(again) == unmeasured(few)


class Named(Scorer):
    """A scorer under another name."""

    def __init__(self, scorer: Scorer, name: str) -> None:
        self.scorer, self.name, self.row_groups = scorer, name, scorer.row_groups
        self.uses_draft = scorer.uses_draft

    def score(self, task: Task) -> Any:
        return self.scorer.score(task)


def test_costs_are_those_of_choosing_alone(loop: CachedLoop, scorers: list[Scorer], questions: list[Question]) -> None:
    methods = as_methods([*scorers, LeaveOneOutScorer(), SurrogateScorer(8), SurrogateScorer(4)])
    record = answer_question(loop, methods, questions[0], [1])
    tokens = {name: method["cost"]["tokens"] for name, method in record["methods"].items()}
    assert tokens["none"] == tokens["oracle"] == tokens["at2"] == tokens["average_attention"] == 0
    assert tokens["surrogate_4"] * 1.5 < tokens["surrogate_8"]  # its ablations were run for the other, and are paid for
    assert record["prompt_tokens"] < tokens["leave_one_out"] < 11 * record["prompt_tokens"]
    assert record["draft_cost"]["tokens"] >= record["prompt_tokens"]
    other = CachedLoop(loop.language_model, None, MAX_NEW_TOKENS)
    reordered = answer_question(other, [*methods[:-2], methods[-1]], questions[0], [1])
    assert reordered["methods"]["leave_one_out"]["cost"]["tokens"] == tokens["leave_one_out"]


def test_measures_beside_attention_pay_no_pass(loop: CachedLoop, questions: list[Question], calls: Calls) -> None:
    """They have one of their own here, so that other methods do not pay for them; a pruner reads them in the draft."""
    methods = as_methods([AttentionScorer(), make_scorer("contribution")])
    record = answer_question(loop, methods, questions[0], [1])
    cost = {name: record["methods"][name]["cost"] for name in ("average_attention", "contribution")}
    assert cost["contribution"]["tokens"] == 0
    assert cost["contribution"]["seconds"] > cost["average_attention"]["seconds"]
    prompt = loop.language_model.encode(questions[0].text, questions[0].passages)
    ids = loop.draft(prompt).draft.ids
    group = RowGroup("draft", measure="contribution")
    read = read_drafts(loop.language_model, [prompt], [ids], [group])[0]
    assert read.readout is not None
    read_mass = read.readout.mass[group]
    assert record["methods"]["contribution"]["scores"] == pytest.approx(read_mass.mean((0, 1)).tolist(), abs=1e-6)
    before = calls.passes
    both = [group, RowGroup("question", measure="contribution")]
    for _ in range(2):  # rows that nobody had asked for take one more pass, once
        readout = loop.draft(prompt, both).draft.readout
        assert readout is not None
        again = readout.mass
        assert calls.passes == before + 1
    assert again[group].equal(read_mass)
    assert again[both[1]].shape == read_mass.shape
    loop.draft(prompt, [group])
    assert calls.passes == before + 1


def test_two_runs_do_not_write_into_one_folder(
    loop: CachedLoop, scorers: list[Scorer], questions: list[Question], tmp_path: Path
) -> None:
    def another(record: dict[str, Any], resumed: bool) -> None:
        with pytest.raises(InputError, match="another run is writing to this folder"):
            run(loop, scorers, questions, tmp_path)

    run(loop, scorers, questions, tmp_path, progress=another)
    run(loop, scorers, questions, tmp_path)
    assert not [path for path in tmp_path.glob(".*") if path.suffix != ".lock"]


def test_row_groups_of_all_scorers_are_read_in_the_one_draft(
    loop: CachedLoop, questions: list[Question], calls: Calls
) -> None:
    groups = [RowGroup("draft", "max"), RowGroup("question"), RowGroup("last")]
    other = LearnedScorer(HeadCoefficients(HeadCoefficients.average(2, 4).weight.repeat(3, 1, 1), groups))
    question = questions[0]
    prompt = loop.language_model.encode(question.text, question.passages)
    readout = write_drafts(loop.language_model, [prompt], [DRAFT_ROWS, *groups], MAX_NEW_TOKENS)[0].readout
    assert readout is not None
    mass = readout.mass
    record = answer_question(loop, as_methods([AttentionScorer(), other]), question, [10])
    scores = {name: method["scores"] for name, method in record["methods"].items()}
    assert scores["average_attention"] == pytest.approx(mass[DRAFT_ROWS].mean((0, 1)).tolist())
    assert scores["at2"] == pytest.approx(sum(mass[group].mean((0, 1)) for group in groups).tolist())


def test_an_interrupted_run_goes_on(
    loop: CachedLoop, scorers: list[Scorer], questions: list[Question], calls: Calls, tmp_path: Path
) -> None:
    def fresh() -> CachedLoop:
        return CachedLoop(loop.language_model, None, MAX_NEW_TOKENS)

    whole = run(loop, scorers, questions, tmp_path / "whole")
    wanted = (tmp_path / "whole" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    calls.interrupt_at = calls.passes + calls.passes // 2
    with pytest.raises(KeyboardInterrupt):
        run(fresh(), scorers, questions, tmp_path / "cut")
    path = tmp_path / "cut" / "questions.jsonl"
    kept = path.read_bytes()
    done = len(kept.splitlines())
    assert 1 <= done < len(questions)
    assert not (tmp_path / "cut" / "results.json").exists()
    path.write_bytes(kept + wanted[done].encode()[:100])  # killed while writing a line
    calls.interrupt_at = None
    seen: list[tuple[str, bool]] = []
    again = run(
        fresh(), scorers, questions, tmp_path / "cut", progress=lambda record, old: seen.append((record["id"], old))
    )
    assert seen == [(question.id, index < done) for index, question in enumerate(questions)]
    assert path.read_bytes().startswith(kept)
    assert [unmeasured(line) for line in records(tmp_path / "cut")] == [unmeasured(json.loads(line)) for line in wanted]
    assert again["paired"] == whole["paired"]
    assert unmeasured(again["methods"]) == unmeasured(whole["methods"])
    before = calls.passes
    assert run(fresh(), scorers, questions, tmp_path / "cut") == again
    assert calls.passes == before  # a finished run writes nothing anew


def test_another_config_is_refused(
    loop: CachedLoop,
    scorers: list[Scorer],
    coefficients: HeadCoefficients,
    questions: list[Question],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm = loop.language_model
    run(loop, scorers, questions[:2], tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {"config.json", "questions.jsonl", "results.json", "table.md"} == {n for n in before if n[0] != "."}
    with pytest.raises(InputError, match=r"ks: \[1, 2, 4\] there, \[1, 3\] now; max_new_tokens: 6 there, 7 now"):
        run(CachedLoop(lm, None, 7), scorers, questions[:2], tmp_path, ks=[3, 1])
    changed = HeadCoefficients(coefficients.weight * 2, model_name=lm.name, model_type="llama")
    with pytest.raises(InputError, match=r"methods\.at2\.coefficients\.sha256"):
        run(loop, [LearnedScorer(changed), scorers[1]], questions[:2], tmp_path)
    with pytest.raises(InputError, match=r"config \(data\.sha256"):  # same name, same number, other content
        run(loop, scorers, [questions[0], replace(questions[1], answer="other")], tmp_path)
    with pytest.raises(InputError, match=r"data\.shuffle_passages: None there, 3 now"):
        run(loop, scorers, questions[:2], tmp_path, data={"name": "sample", "shuffle_passages": 3})
    other = LanguageModel(lm.model, lm.tokenizer, TextTemplate(examples=""), lm.name)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"prompt\.sha256"):
        run(CachedLoop(other, None, MAX_NEW_TOKENS), scorers, questions[:2], tmp_path)
    with monkeypatch.context() as patch:
        patch.setenv("TRANSFORMERS_SDPA_FORCE_GQA", "1")  # another kernel, other rounding
        with pytest.raises(InputError, match=r"environment\.TRANSFORMERS_SDPA_FORCE_GQA: None there, '1' now"):
            run(CachedLoop(lm, loop.cache, MAX_NEW_TOKENS), scorers, questions[:2], tmp_path)
    tuned = RandomScorer()
    tuned.name, tuned.places = "average_attention", [0, 1]  # type: ignore[attr-defined]  # a setting of one's own
    with pytest.raises(InputError, match=r"methods\.average_attention\.places: None there, \[0, 1\] now"):
        run(loop, [scorers[0], tuned], questions[:2], tmp_path)
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
    loop: CachedLoop,
    scorers: list[Scorer],
    questions: list[Question],
    calls: Calls,
    tmp_path: Path,
    change: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(DataError, match=message):
        run(loop, scorers, [questions[0], replace(questions[1], **change)], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not calls.passes


def test_a_question_too_long_is_found_before_the_first_draft(
    loop: CachedLoop, scorers: list[Scorer], questions: list[Question], calls: Calls, tmp_path: Path
) -> None:
    long = replace(questions[1], passages=questions[1].passages * 4)
    with pytest.raises(ContextTooLongError, match=r"question 'sample-02' .*a context of 4096 tokens.*--skip-invalid"):
        run(loop, scorers, [questions[0], long], tmp_path)
    assert not calls.passes


def test_empty_draft_keeps_the_first_k(
    loop: CachedLoop, scorers: list[Scorer], questions: list[Question], tmp_path: Path
) -> None:
    lm = loop.language_model
    generate, full = lm.generate, len(lm.encode(questions[0].text, questions[0].passages))

    def silent(prompts: Any, *arguments: Any) -> Any:
        generations, reader = generate(prompts, *arguments)
        if len(prompts[0]) == full:  # the model ends its answer at once
            generations = [Generation([], (0, 0), "")]
        return generations, reader

    lm.generate = silent  # type: ignore[method-assign, assignment]
    results = run(loop, [*scorers, LeaveOneOutScorer(), RandomScorer()], questions[:2], tmp_path)
    first, second = records(tmp_path)
    assert first["draft"] == first["methods"]["none"]["at"]["all"]["answer"] == ""
    fell_back = {name: method["fell_back"] for name, method in first["methods"].items()}
    assert [name for name in fell_back if fell_back[name]] == ["at2", "average_attention", "leave_one_out"]
    assert first["methods"]["at2"]["scores"] is None
    assert first["methods"]["at2"]["at"]["2"]["kept"] == [0, 1]
    assert not any(method["fell_back"] for method in second["methods"].values())
    assert results["empty_drafts"] == 1


@pytest.mark.parametrize("ks", [[], [0], [1, -2], [True], [1.5]])
def test_bad_k(ks: list[Any]) -> None:
    with pytest.raises(InputError, match="k"):
        check_ks(ks)


def test_bad_arguments(loop: CachedLoop, scorers: list[Scorer], questions: list[Question], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="max_new_tokens"):
        CachedLoop(loop.language_model, max_new_tokens=0)
    with pytest.raises(InputError, match=r"\['at2'\] repeat"):
        run(loop, [scorers[0], scorers[0]], questions, tmp_path)
    with pytest.raises(DataError, match="no question"):
        run(loop, scorers, [], tmp_path)
