"""Means, intervals and paired differences against numpy; the shape of results.json; the table."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from at2_prune.datasets import Question
from at2_prune.errors import InputError
from at2_prune.scorers import Scorer
from at2_prune_eval import CachedLoop, Experiment, evaluate, markdown_table, reading, summarize
from at2_prune_eval.loop.cache import model_fingerprint
from at2_prune_eval.results.summary import COSTS, METRICS, PAIRED
from at2_prune_eval.run.store import RunStore
from at2_prune_eval.tables.cells import estimate
from at2_prune_eval.tables.cost import cost_rows
from at2_prune_eval.tables.settings import run_facts

from ..conftest import KS, MAX_NEW_TOKENS


def made_up(n: int = 60, gain: float = 0.0) -> list[dict[str, Any]]:
    """Records with F1 drawn at random, and `gain` more for at2 at k = 3 on every question."""
    random = np.random.default_rng(0)

    def method(at: dict[str, float], tokens: float = 0.0) -> dict[str, Any]:
        cost = {"seconds": float(random.random()), "tokens": tokens, "memory": 10}
        entries = {k: {**dict.fromkeys(METRICS, 0.5), "f1": f1} for k, f1 in at.items()}
        return {"scores": None, "uses_draft": True, "cost": cost, "fell_back": False, "at": entries}

    records = []
    for index in range(n):
        base = float(random.random())
        methods = {
            "none": method({"all": base}),
            "at2": method({"1": float(random.random()), "3": base + gain}),
            "bm25": method({"1": float(random.random()), "3": base - 0.1}, tokens=100.0 * (index + 1)),
            "oracle": method({"gold": base + 0.3}),
        }
        draft = {"seconds": 1.0, "tokens": 1000, "memory": 5}
        text = "" if index < 2 else "a draft"
        records.append({"id": str(index), "draft": text, "prompt_tokens": 100, "draft_cost": draft, "methods": methods})
    return records


def numpy_interval(values: np.ndarray) -> tuple[float, float]:
    draws = np.random.default_rng(7).integers(len(values), size=(20_000, len(values)))
    low, high = np.quantile(values[draws].mean(1), [0.025, 0.975])
    return float(low), float(high)


def test_means_and_paired_differences_against_numpy() -> None:
    records = made_up()
    results = summarize(records, {"model": "m"}, {"no answer": 2})
    assert (results["n"], results["empty_drafts"], results["config"]) == (60, 2, {"model": "m"})
    assert results["skipped"] == {"no answer": 2}
    f1 = {
        (name, k): np.array([record["methods"][name]["at"][k]["f1"] for record in records])
        for name, method in records[0]["methods"].items()
        for k in method["at"]
    }
    for (name, k), values in f1.items():
        found = results["methods"][name]["at"][k]["f1"]
        assert found["mean"] == pytest.approx(values.mean())
        assert (found["low"], found["high"]) == pytest.approx(numpy_interval(values), abs=0.01)
    base = f1["none", "all"]
    assert set(results["paired"]["none"]) == {"at2", "bm25", "oracle"}
    difference = results["paired"]["none"]["at2"]["1"]["f1"]
    assert difference["mean"] == pytest.approx((f1["at2", "1"] - base).mean())
    assert (difference["low"], difference["high"]) == pytest.approx(numpy_interval(f1["at2", "1"] - base), abs=0.01)
    # paired: the same 0.3 on every question has an interval of no width, however wide those of the two means are
    assert list(results["paired"]["none"]["oracle"]["gold"]["f1"].values()) == pytest.approx([0.3, 0.3, 0.3])
    assert set(results["paired"]["none"]["at2"]["1"]) == set(PAIRED)
    em = [
        record["methods"]["at2"]["at"]["1"]["em"] - record["methods"]["none"]["at"]["all"]["em"] for record in records
    ]
    assert results["paired"]["none"]["at2"]["1"]["em"]["mean"] == pytest.approx(np.mean(em))
    to_at2 = results["paired"]["at2"]["bm25"]["1"]["f1"]
    assert to_at2["mean"] == pytest.approx((f1["bm25", "1"] - f1["at2", "1"]).mean())
    assert results["paired"]["at2"]["none"] == {} == results["paired"]["at2"]["oracle"]  # no k in common


def test_costs_are_in_forward_passes_over_the_prompt() -> None:
    results = summarize(made_up(), {}, {})
    assert results["methods"]["bm25"]["cost"]["passes"]["mean"] == pytest.approx(np.mean(np.arange(1, 61)))
    assert results["methods"]["at2"]["cost"]["passes"] == {"mean": 0, "low": 0, "high": 0}
    assert results["draft"]["passes"]["mean"] == 10
    assert results["methods"]["at2"]["cost"]["memory"]["mean"] == 10
    header, *rows = cost_rows(results)
    costs = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    passes = results["methods"]["bm25"]["cost"]["passes"]
    assert costs["BM25"]["passes beyond the draft"] == estimate(passes, decimals=2)
    more = {key: value + 1 for key, value in passes.items()}  # the draft, which these made-up methods all look at
    assert costs["BM25"]["passes in all"] == estimate(more, decimals=2)


def test_the_gap_to_the_oracle_is_closed_in_part() -> None:
    gap = summarize(made_up(gain=0.1), {}, {})["gap"]
    assert gap["at2"]["3"] == pytest.approx({"mean": 1 / 3, "low": 1 / 3, "high": 1 / 3})
    assert gap["bm25"]["3"]["high"] < 0
    assert gap["at2"]["1"]["low"] < gap["at2"]["1"]["mean"] < gap["at2"]["1"]["high"]
    assert set(gap) == {"at2", "bm25"}
    records = made_up()
    for record in records:  # an oracle that is no better
        record["methods"]["oracle"]["at"]["gold"]["f1"] = record["methods"]["none"]["at"]["all"]["f1"]
    assert summarize(records, {}, {})["gap"]["at2"] == {"1": None, "3": None}


def test_nothing_to_summarise() -> None:
    with pytest.raises(InputError, match="no question"):
        summarize([], {}, {})


def test_schema_on_disk(loop: CachedLoop, scorers: list[Scorer], questions: list[Question], tmp_path: Path) -> None:
    returned = evaluate(loop, Experiment(scorers, questions, [4, 2, 1], {"name": "sample", "seed": 3}), tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results == returned
    assert (results["format"], results["n"]) == (3, len(questions))
    ks = [str(k) for k in KS]
    assert {name: list(method["at"]) for name, method in results["methods"].items()} == {
        "none": ["all"],
        "at2": ks,
        "average_attention": ks,
        "oracle": ["gold"],
    }
    for method in results["methods"].values():
        assert list(method["cost"]) == list(COSTS)
        for entry in method["at"].values():
            assert list(entry) == list(METRICS)
            for value in entry.values():
                assert list(value) == ["mean", "low", "high"]
                assert value["low"] - 1e-12 <= value["mean"] <= value["high"] + 1e-12
    config = results["config"]
    assert config == json.loads((tmp_path / "config.json").read_text())
    assert (config["model"], config["dtype"], config["device"]) == ("tiny-random-llama", "float32", "cpu")
    assert (config["ks"], config["max_new_tokens"], config["prompt"]["name"]) == (KS, MAX_NEW_TOKENS, "text-v1")
    assert (config["data"]["name"], config["data"]["seed"], config["data"]["questions"]) == (
        "sample",
        3,
        len(questions),
    )
    assert config["methods"]["at2"]["coefficients"]["row_groups"] == ["draft"]
    assert {"at2-prune", "torch", "transformers", "python"} <= set(config["versions"])
    assert config["weights"] == model_fingerprint(loop.language_model)
    assert not any(name.startswith("_") for settings in config["methods"].values() for name in settings)
    facts = dict(run_facts(results))
    assert facts["Coefficients"].startswith("AT2: rows draft (sha256 ")
    assert (facts["Seed"], facts["Passages shuffled"]) == ("3", "no")
    assert results["gap"]["at2"].keys() == results["methods"]["at2"]["at"].keys()
    table = (tmp_path / "table.md").read_text()
    assert markdown_table(results) in table
    assert reading(results) in table


def test_the_run_of_version_0_1_0_goes_on_and_has_the_committed_results(tmp_path: Path) -> None:
    """All of it takes a minute: some methods, at one k."""
    docs = Path(__file__).parents[3] / "docs" / "hotpotqa"
    committed = json.loads((docs / "results.json").read_text(encoding="utf-8"))
    with tarfile.open(docs / "run.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert config == committed["config"]
    store = RunStore(tmp_path, {**config, "versions": {**config["versions"], "at2-prune": "0.2.0"}})
    records = list(store.load().values())
    assert len(records) == committed["n"] == 200
    some = {"none": "all", "at2": "3", "scout": "auto", "oracle": "gold"}
    for record in records:
        record["methods"] = {
            name: {**record["methods"][name], "at": {k: record["methods"][name]["at"][k]}} for name, k in some.items()
        }
    found = summarize(records, config, committed["skipped"])
    assert found["draft"]["passes"] == pytest.approx(committed["draft"]["passes"])
    for name, k in some.items():
        for metric, value in found["methods"][name]["at"][k].items():
            assert value == pytest.approx(committed["methods"][name]["at"][k][metric])
        for cost, value in found["methods"][name]["cost"].items():
            assert value == pytest.approx(committed["methods"][name]["cost"][cost])
    for name in ("at2", "scout"):
        difference = committed["paired"]["none"][name][some[name]]
        assert found["paired"]["none"][name][some[name]]["f1"] == pytest.approx(difference["f1"])
        assert found["gap"][name][some[name]] == pytest.approx(committed["gap"][name][some[name]])
