"""Means, intervals and paired differences against numpy; the shape of results.json; the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from at2_prune.errors import InputError
from at2_prune.model import LanguageModel
from at2_prune.questions import Question
from at2_prune.scorers import Scorer
from at2_prune_eval import evaluate, markdown_table, reading, summarize, text_table

from .conftest import KS, MAX_NEW_TOKENS


def made_up(n: int = 60, gain: float = 0.0) -> list[dict[str, Any]]:
    """Records with F1 drawn at random, and `gain` more for at2 at k = 3 on every question."""
    random = np.random.default_rng(0)
    records = []
    for index in range(n):

        def entry(f1: float) -> dict[str, Any]:
            seconds = {"draft": float(random.random()), "regenerate": 1.0}
            return {"f1": f1, "em": float(f1 > 0.5), "recall": 0.5, "seconds": seconds}

        base = float(random.random())
        methods = {
            "none": {"all": entry(base)},
            "at2": {"1": entry(float(random.random())), "3": entry(base + gain)},
            "oracle": {"all": entry(base + 0.3)},
        }
        records.append({"id": str(index), "fell_back": ["at2"] if index < 2 else [], "methods": methods})
    return records


def numpy_interval(values: np.ndarray) -> tuple[float, float]:
    draws = np.random.default_rng(7).integers(len(values), size=(20_000, len(values)))
    low, high = np.quantile(values[draws].mean(1), [0.025, 0.975])
    return float(low), float(high)


def test_means_and_paired_differences_against_numpy() -> None:
    records = made_up()
    results = summarize(records, {"model": "m"})
    assert (results["n"], results["empty_drafts"], results["config"]) == (60, 2, {"model": "m"})
    f1 = {
        (name, k): np.array([record["methods"][name][k]["f1"] for record in records])
        for name, entries in records[0]["methods"].items()
        for k in entries
    }
    for (name, k), values in f1.items():
        estimate = results["methods"][name][k]["f1"]
        assert estimate["mean"] == pytest.approx(values.mean())
        assert (estimate["low"], estimate["high"]) == pytest.approx(numpy_interval(values), abs=0.01)
    base = f1["none", "all"]
    assert set(results["paired"]["none"]) == {"at2", "oracle"}
    difference = results["paired"]["none"]["at2"]["1"]["f1"]
    assert difference["mean"] == pytest.approx((f1["at2", "1"] - base).mean())
    assert (difference["low"], difference["high"]) == pytest.approx(numpy_interval(f1["at2", "1"] - base), abs=0.01)
    # paired: the same 0.3 on every question has an interval of no width, however wide those of the two means are
    assert list(results["paired"]["none"]["oracle"]["all"]["f1"].values()) == pytest.approx([0.3, 0.3, 0.3])
    seconds = [sum(record["methods"]["at2"]["1"]["seconds"].values()) for record in records]
    assert results["methods"]["at2"]["1"]["seconds"]["mean"] == pytest.approx(np.mean(seconds))


def test_nothing_to_summarise() -> None:
    with pytest.raises(InputError, match="no question"):
        summarize([], {})


def test_schema_on_disk(
    tiny_lm: LanguageModel, scorers: list[Scorer], questions: list[Question], tmp_path: Path
) -> None:
    returned = evaluate(
        tiny_lm, scorers, questions, [4, 2, 1], tmp_path, data_name="sample", seed=3, max_new_tokens=MAX_NEW_TOKENS
    )
    results = json.loads((tmp_path / "results.json").read_text())
    assert results == returned
    assert list(results) == ["config", "n", "empty_drafts", "methods", "paired"]
    assert results["n"] == len(questions)
    ks = [str(k) for k in KS]
    assert {name: list(entries) for name, entries in results["methods"].items()} == {
        "none": ["all"],
        "at2": ks,
        "average_attention": ks,
        "oracle": ["all"],
    }
    for entries in results["methods"].values():
        for entry in entries.values():
            assert list(entry) == ["f1", "em", "recall", "seconds"]
            for estimate in entry.values():
                assert list(estimate) == ["mean", "low", "high"]
                assert estimate["low"] <= estimate["mean"] <= estimate["high"]
    config = results["config"]
    assert config == json.loads((tmp_path / "config.json").read_text())
    assert (config["model"], config["dtype"], config["device"]) == ("tiny-random-llama", "float32", "cpu")
    assert (config["ks"], config["max_new_tokens"], config["prompt"]["name"]) == (KS, MAX_NEW_TOKENS, "text-v1")
    assert (config["data"]["name"], config["data"]["limit"], config["data"]["seed"]) == ("sample", None, 3)
    assert config["coefficients"]["at2"]["row_groups"] == ["draft"]
    assert set(config["versions"]) == {"at2-prune", "torch", "transformers"}
    table = (tmp_path / "table.md").read_text()
    assert markdown_table(results) in table
    assert reading(results) in table


def test_reading_names_gains_and_losses_outside_their_intervals() -> None:
    assert reading(summarize(made_up(gain=0.2), {})) == (
        "Gains over no pruning outside their 95 % intervals: at2 (k = 3). (2 comparisons, N = 60.)"
    )
    assert reading(summarize(made_up(gain=-0.2), {})) == (
        "No method's gain over no pruning is outside its 95 % interval. Losses that are: at2 (k = 3). "
        "(2 comparisons, N = 60.)"
    )
    assert reading(summarize(made_up(gain=0.0), {})) == (
        "No method's gain over no pruning is outside its 95 % interval. (2 comparisons, N = 60.)"
    )
    assert reading(summarize(made_up(n=5, gain=0.2), {})).endswith("too narrow to go by.")


def test_tables_hold_every_row() -> None:
    results = summarize(made_up(gain=0.2), {})
    lines = text_table(results).splitlines()
    assert [line.split()[:2] for line in lines[2:]] == [["none", "all"], ["at2", "1"], ["at2", "3"], ["oracle", "gold"]]
    assert "+0.200 [+0.200, +0.200]" in lines[4]
    assert lines[2].endswith(f"{results['methods']['none']['all']['seconds']['mean']:.2f}")
    rows = markdown_table(results).splitlines()
    assert len(rows) == 6
    assert len({row.count("|") for row in rows}) == 1
    assert rows[1] == "| --- | --- | --- | --- | --- | --- | --- |"
