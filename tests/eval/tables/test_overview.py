"""Tables and words: every row is there, only differences whose interval does not contain 0 are named, chance is
counted."""

from __future__ import annotations

from typing import Any

import pytest

from at2_prune.catalogue import FAMILIES, by_family, family_of, label_of
from at2_prune_eval.tables.cells import TOO_FEW, estimate, markdown
from at2_prune_eval.tables.cost import cost_rows, mode_rows
from at2_prune_eval.tables.faithfulness import faithfulness_line, faithfulness_rows
from at2_prune_eval.tables.overview import markdown_table, text_table
from at2_prune_eval.tables.reading import reading
from at2_prune_eval.tables.scores import difference_rows, f1_rows
from at2_prune_eval.tables.settings import run_facts

from ..synthetic import KS, METHODS, make_records, make_results


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    return make_results(make_records())


def difference(mean: float, low: float, high: float) -> dict[str, Any]:
    return {"f1": {"mean": mean, "low": low, "high": high}}


UP, DOWN, FLAT = difference(0.2, 0.1, 0.3), difference(-0.2, -0.3, -0.1), difference(0.1, -0.1, 0.3)
EDGE = difference(0.1, 0.0, 0.2)


def test_a_row_for_every_method_and_k(results: dict[str, Any]) -> None:
    rows = [line.split("  ") for line in text_table(results).splitlines()[2:]]
    labels = [row[0] for row in rows]
    assert len(rows) == len(METHODS) * len(KS) + 2
    assert (labels[0], labels[-1]) == ("No pruning", "Oracle")
    assert set(labels) == {label_of(name) for name in (*METHODS, "none", "oracle")}
    lines = markdown_table(results).splitlines()
    assert len(lines) == len(rows) + 2
    assert len({line.count("|") for line in lines}) == 1
    at2 = results["methods"]["at2"]["at"]["3"]
    line = next(line for line in lines if line.startswith("| AT2 | 3 |"))
    assert f"{at2['f1']['mean']:.3f} [{at2['f1']['low']:.3f}, {at2['f1']['high']:.3f}]" in line
    read = at2["prompt_tokens"]["mean"] / results["methods"]["none"]["at"]["all"]["prompt_tokens"]["mean"]
    draft = results["draft"]["seconds"]["mean"] + results["methods"]["at2"]["cost"]["seconds"]["mean"]
    assert draft > 1
    assert f" | {1 + read:.2f} | {draft:.2f} | " in line  # the draft's pass, and those that read the kept passages


def test_methods_are_compared_with_the_default_method() -> None:
    """With AT2 in runs without it."""
    for names, main in ((("bm25", "at2", "scout"), "Scout"), (("bm25", "at2"), "AT2"), (("bm25",), None)):
        results = make_results(make_records(40, names, (1, 3)), faithfulness=False)
        header = text_table(results).splitlines()[0]
        assert [part.strip() for part in header.split("ΔF1 vs ")[1:]] == ["none", *([main] if main else [])]
        against = [paragraph.split(":")[0] for paragraph in reading(results).split("\n\n")]
        assert against == ["F1 against no pruning", *([f"F1 against {main} at the same k"] if main else [])]


def test_reading_names_only_differences_without_0_in_the_interval() -> None:
    paired = {
        "none": {"at2": {"1": DOWN, "3": UP}, "bm25": {"1": FLAT, "3": EDGE}, "oracle": {"gold": UP}},
        "at2": {"bm25": {"1": UP, "3": FLAT}, "none": {"all": UP}},
    }
    first, second = reading({"n": 200, "paired": paired}).split("\n\n")
    assert first == (
        "F1 against no pruning: higher for AT2 (k = 3); lower for AT2 (k = 1). The 95 % intervals of these differences "
        "do not contain 0. (4 comparisons; N = 200. By chance alone, 0.2 intervals on average would not contain 0.)"
    )
    assert second.startswith("F1 against AT2 at the same k: higher for BM25 (k = 1). The 95 % intervals of these")
    nothing = reading({"n": 12, "paired": {"none": {"bm25": {"1": FLAT}}}})
    assert "the 95 % interval of every difference contains 0. (1 comparison;" in nothing
    assert nothing.endswith("With fewer than 30 questions, the intervals are too narrow to rely on.")


def test_reading_of_every_k_and_of_losses_alone() -> None:
    text = reading({"n": 200, "paired": {"none": {"random": {"1": DOWN, "2": DOWN, "3": DOWN}}}})
    assert "F1 against no pruning: lower for Random (every k). The 95 % intervals of these differences do not" in text


def test_marks_in_the_table_agree_with_the_differences(results: dict[str, Any]) -> None:
    header, *rows = f1_rows(results)
    assert header == ["method", *(f"k = {k}" for k in KS)]
    differences = {row[0]: row[1:] for row in difference_rows(results, "none")[1:]}
    seen = set()
    for name in METHODS:
        row = next(row for row in rows if row[0] == label_of(name))
        for cell, k, signed in zip(row[1:], KS, differences[label_of(name)], strict=False):
            value = results["paired"]["none"][name][str(k)]["f1"]
            mark = "↑" if value["low"] > 0 else "↓" if value["high"] < 0 else ""
            assert cell.endswith(mark or "]")
            assert cell.startswith("**") == (mark == "↑")
            assert signed.startswith("**") == bool(mark)
            seen.add(mark)
    assert seen == {"↑", "↓", ""}


def test_costs_count_the_draft_once(results: dict[str, Any]) -> None:
    rows = {row[1]: row for row in cost_rows(results)[1:]}
    assert set(rows) == {f"`{name}`" for name in METHODS}
    assert (rows["`bm25`"][2], rows["`bm25`"][4]) == ("no", "0.00 [0.00, 0.00]")
    assert (rows["`at2`"][2], rows["`at2`"][4]) == ("yes", "1.00 [1.00, 1.00]")
    assert rows["`surrogate_32`"][3:5] == ["16.00 [16.00, 16.00]", "17.00 [17.00, 17.00]"]
    draft = results["draft"]["seconds"]["mean"]
    for name, uses_draft in (("bm25", False), ("at2", True), ("surrogate_32", True)):
        seconds = results["methods"][name]["cost"]["seconds"]["mean"] + draft * uses_draft
        assert rows[f"`{name}`"][6] == f"{seconds:.2f}"
    assert rows["`at2`"][7] == "1 [1, 1]"  # MiB


def test_a_faithfulness_test_that_was_not_made_leaves_a_dash(results: dict[str, Any]) -> None:
    part = dict(results["faithfulness"]["passage"])
    part["order"] = {name: value for name, value in part["order"].items() if name != "bm25"}
    rows = {row[0]: row for row in faithfulness_rows(part)}
    assert rows["BM25"][-2:] == ["–", "–"]
    assert rows["AT2"][-2] == estimate(part["order"]["at2"]["content"])
    assert {len(row) for row in rows.values()} == {8}


def test_few_questions_of_faithfulness_are_warned_of(results: dict[str, Any]) -> None:
    part = results["faithfulness"]["passage"]
    assert TOO_FEW not in faithfulness_line(part)
    assert TOO_FEW in faithfulness_line({**part, "n": 29})
    assert "Methods without the order test: Random, Leave-one-out." in faithfulness_line(
        {**part, "order_skipped": ["random", "leave_one_out"]}
    )


def test_facts_name_what_numbers_depend_on(results: dict[str, Any]) -> None:
    facts = dict(run_facts({**results, "skipped": {"no gold passages": 3}}))
    assert facts["Model"] == "gemma-3-270m"
    assert facts["Precision"] == "bfloat16"
    assert facts["Questions"] == "40 (skipped: 3 no gold passages)"
    assert facts["Seed"] == "0"
    assert facts["Types"] == "bridge"
    assert facts["Passages shuffled"] == "yes, with seed 0"
    assert facts["Coefficients"] == "AT2: rows draft (sha256 dd0cda97406a54da)"
    assert "torch 2.13.0+cpu" in facts["Versions"]
    assert "ca171b77fefb1f7d" in facts["Prompt"]
    assert dict(run_facts({**results, "config": {}}))["Questions"] == "40"


def test_names_from_outside_cannot_break_a_markdown_table() -> None:
    assert markdown([["a"], ["x | y\n<b>"]]).splitlines() == ["| a |", "| --- |", "| x \\| y &lt;b> |"]


def test_every_method_has_a_family_and_order_is_fixed() -> None:
    names = ["surrogate_64", "mine", *METHODS, "surrogate_128"]
    groups = by_family(names)
    assert set(groups) <= set(FAMILIES)
    assert sorted(name for members in groups.values() for name in members) == sorted(names)
    assert [name for name in groups["gradient"] if name.startswith("sur")][-1] == "surrogate_128"
    assert family_of("mine") == "other"
    assert by_family(dict.fromkeys(reversed(names))) == by_family(dict.fromkeys(names))


def test_modes_add_up_choosing_and_answering(results: dict[str, Any]) -> None:
    header, none, *rows = mode_rows(results)
    rows = [row for row in rows if row[0] == "AT2"]  # the other learned ones are made alike
    assert none[:2] == ["No pruning", "all"]
    assert [row[:2] for row in rows] == [["AT2", k] for k in results["methods"]["at2"]["at"]]
    whole = results["methods"]["none"]["at"]["all"]["prompt_tokens"]["mean"]
    for row in rows:
        cells = dict(zip(header, row, strict=True))
        answer = results["methods"]["at2"]["at"][cells["k"]]["prompt_tokens"]["mean"] / whole
        choose = 1 + results["methods"]["at2"]["cost"]["passes"]["mean"]
        assert float(cells["to answer"]) == pytest.approx(answer, abs=0.005)
        assert float(cells["in all"]) == pytest.approx(choose + answer, abs=0.005)
        assert cells["passages"] == f"{int(cells['k'])}.0"
    assert len(mode_rows({"methods": {}, "paired": {}})) == 1
