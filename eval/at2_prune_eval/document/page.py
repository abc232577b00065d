"""Write the Markdown page of a run: all numbers with their intervals, and a description of the clear differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from at2_prune.bootstrap import RESAMPLES, SEED

from ..figures import HEADS, caption_of
from ..tables.cells import markdown
from ..tables.cost import cost_rows, has_reader, mode_rows
from ..tables.faithfulness import ablation_difference_rows, ablation_rows, faithfulness_line, faithfulness_rows
from ..tables.reading import reading
from ..tables.scores import MARKS, all_rows, difference_rows, f1_rows, reference_line
from ..tables.settings import run_command, run_facts
from .explanations import EARLIER_SCOUT, FAITHFULNESS, KEPT, MODES, MODES_OF_READER, NOT_INDEPENDENT, about_cost

__all__ = ["results_document"]

DIFFERENCES = {
    "none": "no pruning",
    "scout": "scout at the same k",
    "at2": "AT2 at the same k",
    "bm25": "BM25 at the same k",
    "dense": "dense retrieval at the same k",
    "surrogate_32": "a surrogate of 32 ablations at the same k",
}
"""The sections on differences, in the order of the page. A key is the reference method. A value is its name in the
heading."""


def results_document(results: Mapping[str, Any], figures: Sequence[str] = (), command: str = "") -> str:
    """Write the page in Markdown.

    Args:
        results: the content of `results.json`.
        figures: the paths of PNG files, relative to the page. The name of a file is the name of its figure.
        command: the command that writes the page. The page names the command.

    Returns:
        Markdown that ends with a line break.
    """
    written_by = f" by `{command}`" if command else ""
    parts = [
        "# Results",
        f"This page is written from `results.json`{written_by}; do not edit it by hand. Brackets hold 95 % "
        f"percentile-bootstrap intervals over questions ({RESAMPLES:,} resamples, seed {SEED}). If the "
        "interval of a difference contains 0, the page does not claim that there is a difference.",
        EARLIER_SCOUT if _earlier_scout(results) else "",
        *_run(results),
        "## In words",
        reading(results),
        NOT_INDEPENDENT,
        "## Answer F1",
        f"{reference_line(results)} {MARKS}",
        markdown(f1_rows(results)),
        *_pictures(figures, ("f1_by_k", "f1_by_cost")),
        *_modes(results),
        *_differences(results),
        "## Cost of choosing",
        about_cost(results),
        markdown(cost_rows(results)),
        *_faithfulness(results, figures),
        *_heads(figures),
        "## Every number",
        "### Answers",
        markdown(all_rows(results, "answer")),
        "### Passages kept",
        KEPT,
        markdown(all_rows(results, "kept")),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _earlier_scout(results: Mapping[str, Any]) -> bool:
    """Return whether the run used scout of version 0.1. Only the coefficients of that version have row groups."""
    scout = results["config"].get("methods", {}).get("scout", {})
    return "row_groups" in (scout.get("coefficients") or {})


def _run(results: Mapping[str, Any]) -> list[str]:
    parts = [
        "## The run",
        f"```console\n$ {run_command(results)}\n```",
        markdown([["setting", "value"], *map(list, run_facts(results))]),
    ]
    if results.get("prompt"):
        parts.append(f"The prompt, with one passage in it:\n\n```text\n{results['prompt'].rstrip()}\n```")
    return parts


def _modes(results: Mapping[str, Any]) -> list[str]:
    rows = mode_rows(results)
    about = MODES + (MODES_OF_READER if has_reader(results) else "")
    return ["## Modes", about, markdown(rows)] if len(rows) > 1 else []


def _differences(results: Mapping[str, Any]) -> list[str]:
    parts = []
    for reference, title in DIFFERENCES.items():
        rows = difference_rows(results, reference)
        if len(rows) > 1:
            parts += [
                f"## Difference in F1 to {title}",
                "The differences are taken on the same questions. Bold: the interval does not contain 0.",
                markdown(rows),
            ]
    return parts


def _faithfulness(results: Mapping[str, Any], figures: Sequence[str]) -> list[str]:
    parts = []
    for unit, part in (results.get("faithfulness") or {}).items():
        if part:
            parts += [
                f"### {unit.capitalize()}s",
                faithfulness_line(part),
                markdown(ablation_rows(part)),
                markdown(faithfulness_rows(part)),
            ]
            differences = ablation_difference_rows(part)
            if len(differences) > 1:
                parts += [
                    f"Differences to AT2, on the same {unit}s. Bold: the interval does not contain 0.",
                    markdown(differences),
                ]
    if not parts:
        return []
    return ["## Faithfulness", FAITHFULNESS, *_pictures(figures, ("faithfulness",)), *parts]


def _heads(figures: Sequence[str]) -> list[str]:
    heads = [path for path in figures if Path(path).stem.startswith(HEADS)]
    return ["## Learned head coefficients", *_pictures(heads, [Path(path).stem for path in heads])] if heads else []


def _pictures(figures: Sequence[str], names: Sequence[str]) -> list[str]:
    found = {Path(path).stem: path for path in figures}
    return [f"![{name}]({found[name]})\n\n*{caption_of(name)}*" for name in names if name in found]
