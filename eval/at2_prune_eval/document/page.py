"""`docs/results.md` from `results.json`: every number with its interval, and in words only what is outside its own."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from at2_prune.bootstrap import RESAMPLES, SEED
from at2_prune.catalogue import by_family
from at2_prune.errors import CacheError, DataError, InputError

from ..figures import HEADS, caption_of
from ..results.summary import FORMAT
from ..tables.overview import comparisons, estimate, markdown, reading
from ..tables.sections import (
    MARKS,
    ablation_difference_rows,
    ablation_rows,
    all_rows,
    cost_rows,
    difference_rows,
    f1_rows,
    faithfulness_line,
    faithfulness_rows,
    mode_rows,
    reference_line,
    run_command,
    run_facts,
    whole_passes,
)

__all__ = ["FAITHFULNESS", "about_cost", "load_results", "results_document", "short_table", "write_document"]

COST = (
    "Measured, per question. One pass is the model's work for a forward pass over the whole prompt; a backward pass "
    "counts two. Methods that need the draft pay one pass for it first, in which attention is read as well. Encoders "
    "are in the seconds and not in the passes. Seconds are the clock's, whatever else the machine did; passes do not "
    "depend on it. Writing the answer from what was kept is not included. Memory is what is held beyond the model at "
    "the peak, as far as the system tells."
)
READ_APART = (
    "Contribution and effective attention, which a pruner reads while the draft is written, were read in a pass of "
    "their own: its seconds are counted, the pass is not."
)
ABLATED = (
    "An ablation costs its share of the call that ran it, in which common beginnings run once; of two surrogates, the "
    "larger one runs the smaller one's ablations and more."
)
FAITHFULNESS = (
    "LDS: rank correlation, over random ablations, of the measured log-odds of the draft and the sum of kept scores; "
    "ablations keep more or fewer sources, so that it sees the level of scores as well as their order. "
    "Top-k drop: log-probability of the draft from everything, minus that without the k best sources. τ: Kendall's "
    "rank correlation of a method's scores with another's. Same answer: the share of questions whose answer, written "
    "again from the k best sources, is the draft; with the scores, and with the scores permuted among the sources: "
    "where the interval of the difference holds 0, the scores were not seen to matter. τ by content, by position: of "
    "the scores before and after the sources are shuffled, each matched with itself, or with what now stands in its "
    "place."
)
MODES = (
    "What each mode costs whole, per question, in forward passes over the prompt with all passages: to choose (a draft "
    "included, where one is written), and to read what was kept before the answer is written. No pruning reads "
    "everything once. `auto` reads the best 1, 2, 3 and 5 passages, their common prefix once, and takes the most "
    "confident answer. An embedder's work is not counted, nor is the writing of answers: `auto`, which writes four, "
    "takes more time than its passes say. The way to the oracle is its gain in F1 over no pruning; the interval is of "
    "the ratio of the two gains on the same questions."
)
DIFFERENCES = {
    "none": "no pruning",
    "at2": "AT2 at the same k",
    "scout": "scout at the same k",
    "bm25": "BM25 at the same k",
    "dense": "dense retrieval at the same k",
    "surrogate_32": "a surrogate of 32 ablations at the same k",
}
"""Sections by the reference, in this order."""


def results_document(results: Mapping[str, Any], figures: Sequence[str] = (), command: str = "") -> str:
    """The page, in Markdown.

    Args:
        results: what `results.json` holds.
        figures: paths of PNG files, relative to the page; their names say what they show.
        command: that made the page, named in it.

    Returns:
        Markdown that ends in a line break.
    """
    parts = [
        "# Results",
        f"Written from `results.json`{f' by `{command}`' if command else ''}; do not edit by hand. Brackets hold 95 % "
        f"percentile-bootstrap intervals over questions ({RESAMPLES:,} resamples, seed {SEED}). Nothing inside its "
        "interval is called a difference.",
        "## The run",
        f"```console\n$ {run_command(results)}\n```",
        markdown([["setting", "value"], *map(list, run_facts(results))]),
        *(
            [f"The prompt, a passage in it once:\n\n```text\n{results['prompt'].rstrip()}\n```"]
            if results.get("prompt")
            else []
        ),
        "## In words",
        reading(results),
        "All comparisons are made on the same questions, so they are not independent of one another; intervals are not "
        "widened for their number.",
        "## Answer F1",
        f"{reference_line(results)} {MARKS}",
        markdown(f1_rows(results)),
        *_pictures(figures, ("f1_by_k", "f1_by_cost")),
    ]
    modes = mode_rows(results)
    if len(modes) > 1:
        parts += ["## Modes", MODES, markdown(modes)]
    for reference, title in DIFFERENCES.items():
        rows = difference_rows(results, reference)
        if len(rows) > 1:
            parts += [
                f"## Difference in F1 to {title}",
                "On the same questions. Bold: the interval leaves out 0.",
                markdown(rows),
            ]
    parts += [
        "## Cost of choosing",
        about_cost(results),
        markdown(cost_rows(results)),
    ]
    parts += _faithfulness(results, figures)
    heads = [path for path in figures if Path(path).stem.startswith(HEADS)]
    if heads:
        parts += ["## Learned head coefficients", *_pictures(heads, [Path(path).stem for path in heads])]
    parts += [
        "## Every number",
        "### Answers",
        markdown(all_rows(results, "answer")),
        "### Passages kept",
        "Precision, recall and F1 of the gold passages among the kept ones; `both gold` is the share of questions for "
        "which no gold passage is missing.",
        markdown(all_rows(results, "kept")),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def about_cost(results: Mapping[str, Any]) -> str:
    """What stands before the table of costs: how they were measured, and what the draft itself took."""
    methods = results["methods"]
    parts = [COST]
    if any(name.startswith(("contribution", "effective_attention")) for name in methods):
        parts.append(READ_APART)
    if any(name.startswith("surrogate") for name in methods):
        parts.append(ABLATED)
    if any(method["uses_draft"] for method in methods.values()):
        seconds = estimate(results["draft"]["seconds"], decimals=2)
        parts.append(f"The draft itself, attention read as it is written: {seconds} seconds.")
    return " ".join(parts)


def short_table(results: Mapping[str, Any], k: str = "3") -> str:
    """F1 by method and k without intervals, for a README, and the whole work at one k; the line under it explains both.

    Example:
        >>> half = {"mean": 0.5, "low": 0.4, "high": 0.6}
        >>> methods = {"none": {"at": {"all": {"f1": half}}}, "at2": {"at": {"2": {"f1": half}}}}
        >>> results = {"n": 200, "methods": methods, "paired": {"none": {"at2": {"2": {"f1": half}}}}}
        >>> print(short_table(results))
        | method | k = 2 |
        | --- | --- |
        | AT2 | **0.500** ↑ |
        <BLANKLINE>
        No pruning: 0.500 [0.400, 0.600]. ↑ ↓: higher, lower than no pruning on the same questions, outside the 95 % bootstrap interval of the difference. (N = 200, 1 comparison.)
    """  # noqa: E501
    total = len(list(comparisons(results, "none")))
    header, *rows = f1_rows(results, intervals=False)
    names = [name for members in by_family(results["methods"]).values() for name in members]
    passes = [whole_passes(results, name, k) for name in names]
    if any(passes):
        header = [*header, f"passes, k = {k}"]
        rows = [[*row, f"{sum(both):.2f}" if both else ""] for row, both in zip(rows, passes, strict=True)]
    return (
        f"{markdown([header, *rows])}\n\n{reference_line(results)} {MARKS} "
        f"(N = {results['n']}, {total} comparison{'s' * (total != 1)}.)"
    )


def load_results(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a `results.json`.

    Raises:
        DataError: it cannot be read, or is not one that this version writes.
    """
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as results ({error})") from error
    if not isinstance(results, dict) or results.get("format") != FORMAT:
        found = results.get("format") if isinstance(results, dict) else type(results).__name__
        raise DataError(
            f"{path}: results of format {found!r}; this version reads format {FORMAT}: run the evaluation again"
        )
    return results


def write_document(results_path: str | os.PathLike[str], out_path: str | os.PathLike[str]) -> Path:
    """Write the page, and copy the results and the run's `figures/` beside it.

    Raises:
        DataError: the results cannot be read.
        InputError: the page's name ends in .json.
        CacheError: the page or the figures cannot be written.
    """
    results = load_results(results_path)
    out = Path(out_path)
    if out.suffix == ".json":
        raise InputError(f"{out}: the page is Markdown, and its results go into a .json beside it; name it .md")
    data = out.with_suffix(".json")
    data_name, name = (path.name if path.is_absolute() else path.as_posix() for path in (data, out))
    command = f"python -m at2_prune_eval.document {data_name} {name}"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if Path(results_path).resolve() != data.resolve():
            shutil.copyfile(results_path, data)
        figures = []
        known = sorted((Path(results_path).parent / "figures").glob("*.*"))
        for path in known:
            if path.suffix in (".png", ".svg"):
                (out.parent / "figures").mkdir(exist_ok=True)
                if path.parent.resolve() != (out.parent / "figures").resolve():
                    shutil.copyfile(path, out.parent / "figures" / path.name)
                figures += [f"figures/{path.name}"] * (path.suffix == ".png")
        out.write_text(results_document(results, figures, command), encoding="utf-8")
    except OSError as error:
        raise CacheError(f"cannot write {out}: {error.strerror or error}") from error
    return out


def _pictures(figures: Sequence[str], names: Sequence[str]) -> list[str]:
    found = {Path(path).stem: path for path in figures}
    return [f"![{name}]({found[name]})\n\n*{caption_of(name)}*" for name in names if name in found]


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
                parts += [f"Less AT2's, on the same {unit}s. Bold: the interval leaves out 0.", markdown(differences)]
    if not parts:
        return []
    return ["## Faithfulness", FAITHFULNESS, *_pictures(figures, ("faithfulness",)), *parts]
