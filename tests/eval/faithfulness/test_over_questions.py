"""Faithfulness over questions: what an interrupted run leaves, and what its lines are summed up to."""

from __future__ import annotations

import copy
import json
import tarfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from at2_prune.bootstrap import bootstrap_mean
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.datasets import Question
from at2_prune.errors import DataError, InputError
from at2_prune.models.language_model import LanguageModel
from at2_prune.passages import Granularity
from at2_prune.scorers import BM25Scorer, GradientXInputScorer, LearnedScorer, RandomScorer, Scorer
from at2_prune_eval import CachedLoop, Experiment, Workers
from at2_prune_eval.faithfulness import FaithfulnessSettings, run_faithfulness, summarize_faithfulness

from ..conftest import MAX_NEW_TOKENS

SETTINGS = FaithfulnessSettings(ablations=10, ks=[1, 2], permutations=1)


@pytest.fixture
def some(sample_questions: list[Question]) -> list[Question]:
    """Three questions, the second with one passage only."""
    first, second, third = (replace(question, passages=question.passages[:5]) for question in sample_questions[:3])
    return [first, replace(second, passages=second.passages[:1]), third]


@pytest.fixture
def loop(tiny_lm: LanguageModel) -> CachedLoop:
    return CachedLoop(tiny_lm, max_new_tokens=MAX_NEW_TOKENS)


@pytest.fixture
def methods(coefficients: HeadCoefficients) -> list[Scorer]:
    return [LearnedScorer(coefficients), GradientXInputScorer(), BM25Scorer(), RandomScorer()]


def lines(folder: Path, granularity: str = "passage") -> list[dict[str, Any]]:
    text = (folder / f"faithfulness_{granularity}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_an_interrupted_run_goes_on(
    loop: CachedLoop, methods: list[Scorer], some: list[Question], tmp_path: Path
) -> None:
    whole = run_faithfulness(loop, Experiment(methods, some), tmp_path / "whole", {"model": "m"}, SETTINGS)
    seen: list[tuple[str, bool]] = []

    def stop(record: dict[str, Any], resumed: bool) -> None:
        seen.append((record["id"], resumed))
        if len(seen) == 2:
            raise KeyboardInterrupt

    cut = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        run_faithfulness(loop, Experiment(methods, some), cut, {"model": "m"}, SETTINGS, Workers(progress=stop))
    assert [record["id"] for record in lines(cut)] == [some[0].id, some[1].id]
    with open(cut / "faithfulness_passage.jsonl", "a") as file:
        file.write('{"id": "torn')

    def note(record: dict[str, Any], resumed: bool) -> None:
        seen.append((record["id"], resumed))

    resumed = run_faithfulness(loop, Experiment(methods, some), cut, {"model": "m"}, SETTINGS, Workers(progress=note))
    assert seen[2:] == [(some[0].id, True), (some[1].id, True), (some[2].id, False)]
    assert resumed == whole == json.loads((cut / "faithfulness_passage.json").read_text(encoding="utf-8"))
    assert lines(cut) == lines(tmp_path / "whole")


def test_more_questions_add_to_a_run_and_fewer_leave_it(
    loop: CachedLoop, methods: list[Scorer], some: list[Question], tmp_path: Path
) -> None:
    few = run_faithfulness(loop, Experiment(methods, some[:1]), tmp_path, {"model": "m"}, SETTINGS)
    seen: list[tuple[str, bool]] = []
    workers = Workers(progress=lambda record, old: seen.append((record["id"], old)))
    run_faithfulness(loop, Experiment(methods, some), tmp_path, {"model": "m"}, SETTINGS, workers)
    assert seen == [(some[0].id, True), (some[1].id, False), (some[2].id, False)]
    assert run_faithfulness(loop, Experiment(methods, some[:1]), tmp_path, {"model": "m"}, SETTINGS) == few
    assert [line["id"] for line in lines(tmp_path)] == [question.id for question in some]


def test_another_config_is_refused_and_sentences_have_a_file_of_their_own(
    loop: CachedLoop, methods: list[Scorer], some: list[Question], tmp_path: Path
) -> None:
    run_faithfulness(loop, Experiment(methods, some), tmp_path, {}, SETTINGS)
    with pytest.raises(InputError, match=r"faithfulness\.ablations: 10 there, 11 now"):
        run_faithfulness(loop, Experiment(methods, some), tmp_path, {}, replace(SETTINGS, ablations=11))
    with pytest.raises(InputError, match="model"):
        run_faithfulness(loop, Experiment(methods, some), tmp_path, {"model": "another"}, SETTINGS)
    sentences = replace(SETTINGS, granularity="sentence")
    summary = run_faithfulness(loop, Experiment([BM25Scorer()], some[:1]), tmp_path, {}, sentences)
    assert list(summary["lds"]) == ["bm25"]
    assert lines(tmp_path, "sentence")[0]["sources"] > lines(tmp_path)[0]["sources"] == 5


def test_bad_questions_and_methods(
    loop: CachedLoop, methods: list[Scorer], some: list[Question], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="no questions"):
        run_faithfulness(loop, Experiment(methods, []), tmp_path, {})
    with pytest.raises(DataError, match="the same id"):
        run_faithfulness(loop, Experiment(methods, [some[0], some[0]]), tmp_path, {})
    with pytest.raises(InputError, match="repeat"):
        run_faithfulness(loop, Experiment([BM25Scorer(), BM25Scorer()], some), tmp_path, {})
    assert not list(tmp_path.iterdir())


def test_the_summary_counts_and_averages(
    loop: CachedLoop, methods: list[Scorer], some: list[Question], tmp_path: Path
) -> None:
    summary = run_faithfulness(loop, Experiment(methods, some), tmp_path, {}, SETTINGS)
    first, _, third = lines(tmp_path)
    assert (summary["n"], summary["left_out"]) == (2, {"fewer than two sources": 1})
    assert (summary["ablations"], summary["ks"]) == (10, [1, 2])
    names = ["at2", "gradient_x_input", "bm25", "random"]
    assert list(summary["lds"]) == list(summary["top_k_drop"]) == list(summary["permutation"]) == names
    assert list(summary["kendall"]) == ["gradient_x_input"]
    assert list(summary["kendall"]["gradient_x_input"]) == ["at2", "bm25", "random"]
    assert list(summary["order"]) == names[:3]
    assert summary["order_skipped"] == ["random"]

    def check(estimate: dict[str, float], *path: str) -> None:
        values = []
        for record in (first, third):
            value = record["methods"]
            for key in path:
                value = value[key]
            values.append(value)
        expected = bootstrap_mean(values)
        assert estimate == {"mean": sum(values) / 2, "low": expected.low, "high": expected.high}

    for name in names:
        check(summary["lds"][name], name, "lds")
        check(summary["top_k_drop"][name]["2"], name, "top_k_drop", "2")
        check(summary["permutation"][name]["scores"], name, "permutation", "scores", "same")
        check(summary["permutation"][name]["permuted"], name, "permutation", "permuted", "same")
        check(summary["permutation"][name]["log_p"]["scores"], name, "permutation", "scores", "log_p")
    assert list(summary["paired"]) == names[1:]
    differences = [r["methods"]["bm25"]["lds"] - r["methods"]["at2"]["lds"] for r in (first, third)]
    assert summary["paired"]["bm25"]["lds"] == asdict(bootstrap_mean(differences))
    drops = [r["methods"]["bm25"]["top_k_drop"]["1"] - r["methods"]["at2"]["top_k_drop"]["1"] for r in (first, third)]
    assert summary["paired"]["bm25"]["top_k_drop"]["1"] == asdict(bootstrap_mean(drops))
    check(summary["kendall"]["gradient_x_input"]["bm25"], "bm25", "kendall", "gradient_x_input")
    check(summary["order"]["at2"]["position"], "at2", "order", "position")


def test_differences_are_taken_within_a_question(
    loop: CachedLoop, methods: list[Scorer], some: list[Question], tmp_path: Path
) -> None:
    """The scores' answer beats the permuted one by half everywhere: an interval of no width, whatever the levels."""
    run_faithfulness(loop, Experiment(methods[:1], some), tmp_path, {}, SETTINGS)
    base = lines(tmp_path)[0]
    records = []
    for same in (0.5, 1.0, 0.5, 1.0):
        record = copy.deepcopy(base)
        permutation = record["methods"]["at2"]["permutation"]
        permutation["scores"]["same"], permutation["permuted"]["same"] = same, same - 0.5
        records.append(record)
    records[0]["methods"]["at2"]["lds"] = None  # too few sources: left out of this mean only
    records[1]["methods"]["at2"]["lds"] = 0.25
    summary = summarize_faithfulness([records[0], records[1]])
    assert summary["permutation"]["at2"]["difference"] == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert summary["permutation"]["at2"]["scores"] == {"mean": 0.75, "low": 0.5, "high": 1.0}
    assert summary["lds"]["at2"] == {"mean": 0.25, "low": 0.25, "high": 0.25}
    assert summary["n"] == 2


def test_nothing_measured(loop: CachedLoop, methods: list[Scorer], some: list[Question], tmp_path: Path) -> None:
    summary = run_faithfulness(loop, Experiment(methods, some[1:2]), tmp_path, {}, SETTINGS)
    assert (summary["n"], summary["lds"], summary["order"]) == (0, {}, {})
    assert summary["left_out"] == {"fewer than two sources": 1}


@pytest.mark.parametrize("granularity", ["passage", "sentence"])
def test_the_settings_are_those_that_version_0_1_0_wrote(granularity: Granularity) -> None:
    """A folder of version 0.1.0 would be refused otherwise."""
    with tarfile.open(Path(__file__).parents[3] / "docs" / "hotpotqa" / "run.tar.gz") as archive:
        file = archive.extractfile(f"faithfulness_{granularity}.config.json")
        assert file is not None
        known = json.load(file)["faithfulness"]
    found = {**FaithfulnessSettings(granularity).as_json(), "methods": known["methods"]}
    assert json.dumps(found) == json.dumps(known)
