"""Draw answer F1 against k, with a line for each method (as in AT2, arXiv 2504.13752, figure 5)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from at2_prune.catalogue import FAMILIES, by_family, label_of
from at2_prune.errors import InputError

from ..k_values import ALL, GOLD, sorted_ks
from .style import COLORS, LINES, MARKERS, SIZE, WIDTH, error, new_figure, spread, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["LineEnd", "f1_by_k_figure", "reference_lines"]

LEFT, LABELS, TOP, BOTTOM, PANEL, GAP = 0.64, 1.42, 0.3, 0.42, 1.85, 0.45  # inches


COMMON, FAINT = "bm25", "#8c8c8c"
"""The method that is drawn in every panel, so that readers can compare the panels, and the colour of its line."""


@dataclass(frozen=True)
class LineEnd:
    """The right end of a line."""

    height: float
    label: str
    color: str


@styled
def f1_by_k_figure(results: Mapping[str, Any]) -> Figure:
    """Draw F1 and its interval against k. There is a panel for each family of methods.

    Every panel also shows no pruning, the oracle, and BM25 as a faint line without intervals.

    Args:
        results: the content of `results.json`.

    Raises:
        InputError: the run has no methods except none and oracle.
    """
    methods = results["methods"]
    families = by_family(methods)
    if not families:
        raise InputError("there is no method to draw: the run has no methods except none and oracle")
    ks = sorted_ks(k for names in families.values() for name in names for k in methods[name]["at"])
    columns = min(2, len(families))
    rows = math.ceil(len(families) / columns)
    width = WIDTH if columns == 2 else (WIDTH + LEFT) / 2
    height = TOP + rows * PANEL + (rows - 1) * GAP + BOTTOM
    figure = new_figure(height, width)
    panel = (width - LEFT) / columns - LABELS
    low, high = _limits(results)
    for index, (family, names) in enumerate(families.items()):
        row, column = divmod(index, columns)
        left, bottom = LEFT + column * (panel + LABELS), BOTTOM + (rows - 1 - row) * (PANEL + GAP)
        axes = figure.add_axes((left / width, bottom / height, panel / width, PANEL / height))
        axes.set(ylim=(low, high), xlim=(-0.5, len(ks) - 0.5), title=FAMILIES[family])
        axes.set_xticks(range(len(ks)), ks)
        axes.tick_params(labelleft=column == 0)
        if column == 0:
            axes.set_ylabel("answer F1")
        if index >= len(families) - columns:
            axes.set_xlabel("passages kept, k")
        ends = reference_lines(axes, methods)
        if COMMON in methods and COMMON not in names:
            ends.append(_common_line(axes, methods[COMMON], ks))
        ends += [_line(axes, name, methods[name], ks, place, len(names)) for place, name in enumerate(names)]
        _labels(axes, ends, (high - low) * (SIZE + 2.5) / 72 / PANEL)
    return figure


def reference_lines(axes: Axes, methods: Mapping[str, Any]) -> list[LineEnd]:
    """Draw no pruning and the oracle as lines, with their intervals as bands. Return the ends of the lines."""
    ends = []
    looks = (("none", ALL, "#555555", (0, (4, 2)), 0.13), ("oracle", GOLD, "#000000", (0, (1, 1.5)), 0.05))
    for name, k, color, line, shade in looks:
        if name in methods:
            value = methods[name]["at"][k]["f1"]
            axes.axhspan(value["low"], value["high"], color="#000000", alpha=shade, linewidth=0, zorder=0)
            axes.axhline(value["mean"], color=color, linestyle=line, linewidth=1.1, zorder=1)
            ends.append(LineEnd(value["mean"], label_of(name), color))
    return ends


def _common_line(axes: Axes, method: Mapping[str, Any], ks: list[str]) -> LineEnd:
    means = {ks.index(k): entry["f1"]["mean"] for k, entry in method["at"].items()}
    fixed = [index for index in sorted(means) if ks[index].isdigit()]
    axes.plot(fixed, [means[index] for index in fixed], color=FAINT, linewidth=0.9, zorder=2)
    axes.plot(sorted(set(means) - set(fixed)), [means[i] for i in sorted(set(means) - set(fixed))], "_", color=FAINT)
    return LineEnd(means[max(means)], label_of(COMMON), FAINT)


def _line(axes: Axes, name: str, method: Mapping[str, Any], ks: list[str], place: int, count: int) -> LineEnd:
    shift = (place - (count - 1) / 2) * min(0.13, 0.65 / count)
    entries = {ks.index(k): entry["f1"] for k, entry in method["at"].items()}
    color, marker = COLORS[place % len(COLORS)], MARKERS[place % len(MARKERS)]
    fixed = [index for index in sorted(entries) if ks[index].isdigit()]
    for index in sorted(entries):  # `auto` chooses k for each question, so it is not a point on the line
        axes.errorbar(
            index + shift, entries[index]["mean"], error([entries[index]]), color=color, marker=marker, lw=0.8
        )
    axes.plot(
        [index + shift for index in fixed],
        [entries[index]["mean"] for index in fixed],
        color=color,
        linestyle=LINES[place % len(LINES)],
        zorder=3,
    )
    return LineEnd(entries[max(entries)]["mean"], label_of(name), color)


def _labels(axes: Axes, ends: list[LineEnd], gap: float) -> None:
    """Write the names of the methods at the right edge. A short line joins each name to the end of its curve."""
    edge = axes.get_xlim()[1]
    unit = edge - axes.get_xlim()[0]
    for end, moved in zip(ends, spread([end.height for end in ends], gap), strict=True):
        axes.plot([edge, edge + 0.07 * unit], [end.height, moved], color=end.color, linewidth=1, clip_on=False)
        axes.annotate(end.label, (edge + 0.09 * unit, moved), va="center", annotation_clip=False)


def _limits(results: Mapping[str, Any]) -> tuple[float, float]:
    estimates = [entry["f1"] for method in results["methods"].values() for entry in method["at"].values()]
    low, high = min(value["low"] for value in estimates), max(value["high"] for value in estimates)
    margin = 0.05 * (high - low) or 0.05
    return low - margin, high + margin
