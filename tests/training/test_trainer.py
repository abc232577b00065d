from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from at2_prune.ablation import ablation_outcomes
from at2_prune.attention.rows import DRAFT_ROWS, RowGroup
from at2_prune.cli.train import add_arguments
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.datasets import Question
from at2_prune.errors import DataError, InputError, MissingExtraError
from at2_prune.models.drafts import read_drafts
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.statements import draft_parts
from at2_prune.pruning.pruner import AT2Pruner
from at2_prune.training import (
    CollectSettings,
    ExampleStore,
    FitSettings,
    TrainingData,
    TrainingReport,
    TrainingSettings,
    fidelity,
    fit,
    train,
)

COLLECT = CollectSettings(ablations=4, max_new_tokens=6)
FIT = FitSettings(steps=60)
OF_DATA = {"name", "selection", "examples"}


@pytest.fixture(scope="module")
def questions(sample_questions: list[Question]) -> list[Question]:
    return [replace(q, passages=q.passages[:4], gold=()) for q in sample_questions[:8]]


def run(lm: LanguageModel, questions: list[Question], out: Path, **options: Any) -> TrainingReport:
    data = {"name": "sample.jsonl", **{key: options.pop(key) for key in OF_DATA & options.keys()}}
    calls = {key: options.pop(key) for key in ("progress", "fit_progress") if key in options}
    settings = TrainingSettings(**{"collect": COLLECT, "fit": FIT, "holdout": 0.4, **options})
    return train(lm, TrainingData(questions, **data), out, settings, **calls)


def test_from_questions_to_a_pruner(tiny_lm: LanguageModel, questions: list[Question], tmp_path: Path) -> None:
    calls: list[int] = []
    steps: list[int] = []
    report = run(
        tiny_lm,
        questions,
        tmp_path,
        progress=lambda: calls.append(1),
        fit_progress=lambda step, correlation: steps.append(step),
    )
    assert len(calls) == 8
    assert steps == [step for step, _ in report.curve] == [0, 50, 59]
    assert report.skipped == {}
    assert report.fitted + report.held_out == 8
    assert min(report.fitted, report.held_out) >= 1
    assert report.curve[-1][1] > report.curve[0][1]
    assert set(report.held_out_measures) == {"lds", "correlation"}
    for estimate in (e for by in report.held_out_measures.values() for e in by.values()):
        assert -1 <= estimate.low <= estimate.mean <= estimate.high <= 1

    saved = HeadCoefficients.from_pretrained(tmp_path)
    assert torch.equal(saved.weight, report.coefficients.weight)
    assert float(saved.weight.abs().sum()) == pytest.approx(1, abs=1e-5)
    assert (saved.model_name, saved.model_type, saved.layers) == (tiny_lm.name, "llama", [0, 1])
    recorded = saved.training
    assert (recorded["data"], recorded["prompt"], recorded["ablations"]) == ("sample.jsonl", "text-v1", 4)
    assert (recorded["questions_fitted"], recorded["questions_held_out"]) == (report.fitted, report.held_out)
    assert recorded["lds"]["learned"]["mean"] == report.held_out_measures["lds"]["learned"].mean
    assert [tuple(point) for point in recorded["curve"]] == report.curve
    assert recorded["fit"]["steps"] == 60
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "sample.jsonl" in card
    assert tiny_lm.name in card
    assert f"$ at2-prune train --model {tiny_lm.name} --data sample.jsonl --ablations 4 --rows draft" in card

    pruner = AT2Pruner.from_pretrained(tiny_lm, tmp_path, max_new_tokens=6)
    result = pruner.answer(questions[0].text, questions[0].passages, 2)
    assert len(result.kept) == 2


def test_the_report_is_fit_and_fidelity_of_the_examples(
    tiny_lm: LanguageModel, questions: list[Question], tmp_path: Path
) -> None:
    """Which questions were held out is found out from outside: turn one example's outcomes round and train again."""
    report = run(tiny_lm, questions, tmp_path)
    settings = json.loads((tmp_path / "settings.json").read_text())
    store = ExampleStore(tmp_path, settings)
    ids = [question.id for question in questions]
    held = []
    for question_id in ids:
        (example,) = store.load([question_id])
        store.add(replace(example, outcomes=example.outcomes * torch.tensor([[1.0], [-1.0], [2.0], [-2.0]]).double()))
        again = run(tiny_lm, questions, tmp_path)
        store.add(example)
        refitted = not torch.equal(again.coefficients.weight, report.coefficients.weight)
        remeasured = (
            again.held_out_measures["lds"]["average_attention"] != report.held_out_measures["lds"]["average_attention"]
        )
        assert refitted is not remeasured
        held += [question_id] if remeasured else []
    assert len(held) == report.held_out
    weight, curve = fit(list(store.load([i for i in ids if i not in held])), [DRAFT_ROWS], FIT)
    assert torch.equal(weight, report.coefficients.weight)
    assert curve == report.curve
    for name, candidate in (("learned", weight), ("average_attention", torch.full((1, 2, 4), 1 / 8))):
        measured = fidelity(list(store.load(held)), [DRAFT_ROWS], candidate)
        assert report.held_out_measures["lds"][name].mean == pytest.approx(
            float(measured.lds.double().mean()), abs=1e-6
        )
        assert report.held_out_measures["correlation"][name].mean == pytest.approx(
            float(measured.correlation.double().mean()), abs=1e-6
        )


def test_an_interrupted_run_ends_like_one_that_was_not(
    tiny_lm: LanguageModel, questions: list[Question], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tiny_lm, questions, tmp_path / "whole")
    for stop in (1, 4, 7):
        calls: list[int] = []

        def interrupt(calls: list[int] = calls, stop: int = stop) -> None:
            calls.append(1)
            if len(calls) == stop:
                raise KeyboardInterrupt

        out = tmp_path / f"cut-{stop}"
        with pytest.raises(KeyboardInterrupt):
            run(tiny_lm, questions, out, progress=interrupt)
        assert not (out / "config.json").exists()
        assert len(list((out / "examples").iterdir())) == stop
        again = run(tiny_lm, questions, out)
        assert torch.equal(again.coefficients.weight, whole.coefficients.weight)
        assert (again.held_out_measures, again.curve) == (whole.held_out_measures, whole.curve)
    generate = tiny_lm.generate
    drafts: list[int] = []
    monkeypatch.setattr(tiny_lm, "generate", lambda *a, **k: drafts.append(1) or generate(*a, **k))
    assert torch.equal(run(tiny_lm, questions, tmp_path / "whole").coefficients.weight, whole.coefficients.weight)
    assert drafts == []


def test_a_damaged_example_is_made_anew_before_fitting(
    tiny_lm: LanguageModel, questions: list[Question], tmp_path: Path
) -> None:
    whole = run(tiny_lm, questions, tmp_path)
    for path in list((tmp_path / "examples").iterdir())[:3]:
        path.write_bytes(path.read_bytes()[:100])
    again = run(tiny_lm, questions, tmp_path)
    assert (again.fitted, again.held_out) == (whole.fitted, whole.held_out)
    assert torch.equal(again.coefficients.weight, whole.coefficients.weight)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"collect": replace(COLLECT, ablations=5)}, "ablations: 4 there, 5 now"),
        ({"collect": replace(COLLECT, granularity="token")}, "granularity: 'passage' there, 'token' now"),
        ({"collect": replace(COLLECT, positions="closed")}, "positions: 'kept' there, 'closed' now"),
        ({"collect": replace(COLLECT, seed=3)}, "seed: 0 there, 3 now"),
        ({"name": "other.jsonl"}, "data: 'sample.jsonl' there, 'other.jsonl' now"),
        ({"selection": {"shuffle_passages": 7}}, "shuffle_passages: None there, 7 now"),
    ],
)
def test_a_folder_of_another_run_is_refused(
    tiny_lm: LanguageModel, questions: list[Question], tmp_path: Path, changed: dict[str, Any], says: str
) -> None:
    run(tiny_lm, questions[:4], tmp_path, holdout=0)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=says):
        run(tiny_lm, questions[:4], tmp_path, **changed)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    other = LanguageModel(tiny_lm.model, tiny_lm.tokenizer, name="other")
    with pytest.raises(InputError, match="model: 'tiny-random-llama' there, 'other' now"):
        run(other, questions[:4], tmp_path)


def test_more_questions_go_on_in_the_same_folder(
    tiny_lm: LanguageModel, questions: list[Question], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tiny_lm, questions[:4], tmp_path, holdout=0, name="sample.jsonl")
    first_card = (tmp_path / "README.md").read_text(encoding="utf-8")
    generate = tiny_lm.generate
    drafts: list[int] = []
    monkeypatch.setattr(tiny_lm, "generate", lambda *a, **k: drafts.append(1) or generate(*a, **k))
    report = run(tiny_lm, questions, tmp_path, holdout=0)
    assert len(drafts) == 4
    assert (report.fitted, report.held_out, report.held_out_measures) == (8, 0, {})
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| questions fitted | 4 |" in first_card
    assert "| questions fitted | 8 |" in card  # the card is the new run's


def test_the_card_says_how_to_make_them_again(
    tiny_lm: LanguageModel, questions: list[Question], tmp_path: Path
) -> None:
    chosen = {"split": "train", "ids": "some ids.txt", "limit": 8, "shuffle_passages": 0}
    run(tiny_lm, questions, tmp_path, selection=chosen, collect=replace(COLLECT, learn_from="answer", seed=1))
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "with the known answer as the target instead of a draft" in card
    command = next(line for line in card.splitlines() if line.startswith("$ at2-prune train"))
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    made = parser.parse_args(shlex.split(command)[3:])
    assert {name: getattr(made, name) for name in chosen} == chosen
    assert (made.model, made.data, made.learn_from) == (tiny_lm.name, "sample.jsonl", "answer")
    assert (made.ablations, made.seed, made.holdout, made.rows) == (4, 1, 0.4, ["draft"])
    assert made.max_new_tokens == COLLECT.max_new_tokens

    run(tiny_lm, questions, tmp_path / "plain", selection=dict.fromkeys(chosen))
    card = (tmp_path / "plain" / "README.md").read_text(encoding="utf-8")
    assert not any(f"--{name.replace('_', '-')} " in card for name in chosen)


def test_sentences_of_a_known_answer_are_refused(
    tiny_lm: LanguageModel, questions: list[Question], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="targets='sentence' cannot be used with learn_from='answer'"):
        run(tiny_lm, questions, tmp_path, collect=replace(COLLECT, learn_from="answer", targets="sentence"))


def test_other_rows_and_targets(tiny_lm: LanguageModel, questions: list[Question], tmp_path: Path) -> None:
    groups = [RowGroup("question", "max"), DRAFT_ROWS]
    collect = replace(COLLECT, granularity="sentence", targets="sentence")
    report = run(tiny_lm, questions[:4], tmp_path, row_groups=groups, collect=collect, holdout=0)
    assert report.coefficients.weight.shape == (2, 2, 4)
    assert HeadCoefficients.from_pretrained(tmp_path).row_groups == tuple(groups)
    pruner = AT2Pruner.from_pretrained(tiny_lm, tmp_path, granularity="sentence", max_new_tokens=6)
    assert pruner.answer(questions[0].text, questions[0].passages, 2).kept


@pytest.mark.parametrize("targets", ["draft", "sentence"])
def test_other_measures_from_the_same_ablations(
    tiny_lm: LanguageModel,
    questions: list[Question],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    targets: Any,
) -> None:
    """Examples of an earlier run get what they lack from one more look at their drafts."""
    options: dict[str, Any] = {"collect": replace(COLLECT, targets=targets), "holdout": 0}
    run(tiny_lm, questions[:4], tmp_path / "at2", **options)
    settings = json.loads((tmp_path / "at2" / "settings.json").read_text())
    store = ExampleStore(tmp_path / "at2", settings)
    before = list(store.load([question.id for question in questions]))
    monkeypatch.setattr("at2_prune.training.collect.ablation_outcomes", None)
    groups = (RowGroup("draft", "mean", "contribution"), RowGroup("question", "max", "effective"))
    passes: list[int] = []
    read = tiny_lm.read
    monkeypatch.setattr(tiny_lm, "read", lambda *a, **k: passes.append(1) or read(*a, **k))
    elsewhere = {"examples": tmp_path / "at2", "row_groups": groups, **options}
    report = run(tiny_lm, questions[:4], tmp_path / "measures", **elsewhere)
    assert len(passes) == 4
    run(tiny_lm, questions[:4], tmp_path / "measures", **elsewhere)
    assert len(passes) == 4  # they have been written to the examples
    assert (report.skipped, report.fitted) == ({}, 4)
    assert HeadCoefficients.from_pretrained(tmp_path / "measures").row_groups == groups
    assert HeadCoefficients.from_pretrained(tmp_path / "at2").row_groups == (DRAFT_ROWS,)
    assert not (tmp_path / "measures" / "examples").exists()

    after = list(store.load([question.id for question in questions]))
    for question, old, new in zip(questions, before, after, strict=False):
        assert set(new.mass) == {*old.mass, "draft-contribution", "question-max-effective"}
        assert torch.equal(new.outcomes, old.outcomes)
        prompt = tiny_lm.encode(question.text, question.passages)
        ids = tiny_lm.encode_draft(old.draft)
        expected = read_drafts(tiny_lm, [prompt], [ids], groups)[0].readout.mass
        torch.testing.assert_close(new.mass["question-max-effective"][0], expected[groups[1]])
        parts = draft_parts(tiny_lm, ids) if targets == "sentence" else [(0, len(ids))]
        lengths = torch.tensor([stop - start for start, stop in parts])
        whole = (new.mass["draft-contribution"] * lengths[:, None, None, None]).sum(0) / len(ids)
        torch.testing.assert_close(whole, expected[groups[0]])
    weight, _ = fit(after, groups, FIT)
    torch.testing.assert_close(report.coefficients.weight, weight)


def test_drafts_that_fall_into_other_sentences_are_left_out(
    tiny_lm: LanguageModel, questions: list[Question], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tiny_lm, questions[:3], tmp_path, holdout=0)
    store = ExampleStore(tmp_path, json.loads((tmp_path / "settings.json").read_text()))
    (example,) = store.load([questions[0].id])
    store.add(replace(example, outcomes=example.outcomes.repeat(1, 2)))
    report = run(tiny_lm, questions[:3], tmp_path, holdout=0, row_groups=[RowGroup("draft", "mean", "effective")])
    assert report.skipped == {"the stored draft splits into other sentences when it is tokenised again": 1}
    assert report.fitted == 2


def test_bad_settings(tiny_lm: LanguageModel, questions: list[Question], tmp_path: Path) -> None:
    for options, says in (
        ({"collect": replace(COLLECT, ablations=1)}, r"ablations must be at least 2 .*, got 1"),
        ({"holdout": 1.0}, "holdout must be at least 0 and less than 1, got 1.0"),
        ({"holdout": -0.1}, "holdout must be at least 0 and less than 1, got -0.1"),
    ):
        with pytest.raises(InputError, match=says):
            run(tiny_lm, questions, tmp_path / "out", **options)
    with pytest.raises(DataError, match=rf"sample\.jsonl: two questions have the id '{questions[1].id}'"):
        run(tiny_lm, [*questions[:2], questions[1]], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    one_passage = [replace(question, passages=question.passages[:1]) for question in questions]
    with pytest.raises(DataError, match=r"none of 8 questions .* to fit; 8 are left out: fewer than two sources"):
        run(tiny_lm, one_passage, tmp_path / "out")
    with pytest.raises(DataError, match=r"none of 2 questions .* to fit; 2 are held out \(holdout=0.999999\)$"):
        run(tiny_lm, questions[:2], tmp_path / "held", holdout=0.999999)
    with pytest.raises(InputError, match=r"typo holds no examples of an earlier run \(settings.json is missing\)"):
        train(tiny_lm, TrainingData(questions, "sample.jsonl", examples=tmp_path / "typo"), tmp_path / "new")
    assert not (tmp_path / "typo").exists()
    assert not (tmp_path / "new").exists()


def test_a_missing_package_is_said_before_any_ablation(
    tiny_lm: LanguageModel, questions: list[Question], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingExtraError, match=r'Measuring fidelity needs scipy.*pip install "at2-prune\[train\]"'):
        run(tiny_lm, questions, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setitem(sys.modules, "sentencex", None)
    with pytest.raises(MissingExtraError, match="needs sentencex"):
        run(tiny_lm, questions, tmp_path / "out", collect=replace(COLLECT, granularity="sentence"), holdout=0)


def test_from_the_known_answer(tiny_lm: LanguageModel, questions: list[Question], tmp_path: Path) -> None:
    report = run(tiny_lm, questions, tmp_path, collect=replace(COLLECT, learn_from="answer"), holdout=0)
    assert report.coefficients.training["learn_from"] == "answer"
    store = ExampleStore(tmp_path, json.loads((tmp_path / "settings.json").read_text()))
    example = next(store.load([questions[0].id]))
    prompt = tiny_lm.encode(questions[0].text, questions[0].passages)
    target = tiny_lm.encode_draft(questions[0].answer or "")
    expected = ablation_outcomes(tiny_lm, prompt, target, example.masks)
    torch.testing.assert_close(example.outcomes, expected)
