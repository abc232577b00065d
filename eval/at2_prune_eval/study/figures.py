"""Draw a study's figures: paired differences as a forest plot, and F1 against the tokens that the reader read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from at2_prune.bootstrap import Estimate

from ..figures.style import COLORS, LINES, MARKERS, SIZE, WIDTH, new_figure, styled
from ..k_values import ALL
from .cells import Cells, Key

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["curve_figure", "forest_figure", "forest_rows"]

ROW, TOP, BOTTOM, LEFT, GAP, RIGHT = 0.165, 0.36, 0.45, 1.6, 0.52, 0.5  # inches
FADED = "#555555"
PANELS = 4
"""The largest number of panels of a forest plot. More do not fit the width."""
Row = tuple[str, Key, list[str], list[str]]
"""A row of the forest plot: a label, a method and a k, the readers, and the data sets."""


def forest_rows(cells: Cells) -> list[list[Row]]:
    """Return the rows of the forest plot, as one list for each k.

    A list begins with one row for each reader and data set. Rows that pool data sets or readers follow.
    """
    blocks = []
    for key in (key for key in cells.keys if key[0] == cells.subject):
        rows: list[Row] = [(f"{reader}, {data}", key, [reader], [data]) for reader, data in cells.parts]
        for reader in cells.readers:
            if len(cells.data_of([reader])) > 1:
                rows.append((f"{reader}, pooled", key, [reader], cells.data_of([reader])))
        if len(cells.readers) > 1 and cells.data_of(cells.readers):
            rows.append(("all readers, pooled", key, cells.readers, cells.data_of(cells.readers)))
        blocks.append(rows)
    return blocks


@styled
def forest_figure(cells: Cells) -> Figure:
    """Draw the subject's paired differences in F1, with one panel for each of the first baselines.

    Pooled differences are bold.
    """
    baselines = [name for name in cells.baselines if name != cells.subject][:PANELS]
    blocks = forest_rows(cells)
    count = sum(len(rows) + 1 for rows in blocks)
    height = TOP + BOTTOM + ROW * count
    figure = new_figure(height)
    panel = (WIDTH - LEFT - RIGHT - GAP * (len(baselines) - 1)) / len(baselines)
    limit = 0.0
    panels = []
    for index, baseline in enumerate(baselines):
        place = ((LEFT + index * (panel + GAP)) / WIDTH, BOTTOM / height, panel / WIDTH, ROW * count / height)
        axes = figure.add_axes(place)
        axes.set_ylim(count - 0.3, -0.7)
        axes.set_title(f"− {_short(cells, baseline)}", fontsize=SIZE)
        axes.axvline(0, color="#000000", linewidth=0.8, zorder=1)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        limit = max(limit, _panel(axes, cells, blocks, baseline, index == 0))
        panels.append(axes)
    for axes in panels:
        axes.set_xlim(-1.06 * limit, 1.06 * limit)
    told = f"difference in answer F1: {cells.labels[cells.subject]} − the method above the panel"
    middle = (LEFT + (WIDTH - LEFT - RIGHT) / 2) / WIDTH
    figure.text(middle, 0.08 / height, told, ha="center", va="bottom", fontsize=SIZE)
    return figure


def _panel(axes: Axes, cells: Cells, blocks: list[list[Row]], baseline: str, labelled: bool) -> float:
    """Draw one panel. Return the largest distance between 0 and an end of an interval."""
    ticks, names, limit, place = [], [], 0.0, 0
    for rows in blocks:
        ticks.append(place)
        names.append(f"k = {rows[0][1][1]}")
        place += 1
        for label, key, readers, data in rows:
            value, pooled = cells.difference(key, baseline, readers, data), len(data) > 1
            if value is not None:
                _bar(axes, place, value, pooled)
                limit = max(limit, abs(value.low), abs(value.high))
            weight = "bold" if pooled else "normal"
            text = "–" if value is None else f"{value.mean:+.3f}"
            axes.text(1.02, place, text, fontweight=weight, va="center", transform=axes.get_yaxis_transform())
            ticks.append(place)
            names.append(label)
            place += 1
    axes.set_yticks(ticks, names if labelled else [""] * len(names))
    for tick in axes.get_yticklabels():
        if tick.get_text().startswith("k = ") or tick.get_text().endswith("pooled"):
            tick.set_fontweight("bold")
    return limit or 0.1


def _bar(axes: Axes, place: int, value: Estimate, pooled: bool) -> None:
    color = COLORS[1] if pooled else FADED
    axes.plot([value.low, value.high], [place, place], color=color, linewidth=2.0 if pooled else 1.1, zorder=2)
    axes.plot([value.mean], [place], "D" if pooled else "o", color=color, markersize=5 if pooled else 3.5, zorder=3)


def _short(cells: Cells, baseline: str) -> str:
    return "no pruning" if (baseline, ALL) in cells.keys else cells.labels[baseline]


@styled
def curve_figure(cells: Cells) -> Figure:
    """Draw F1 against the tokens that the reader read, pooled over data sets.

    There is a panel for each reader, and a line for each method.
    """
    readers = cells.readers
    columns = min(2, len(readers))
    rows = math.ceil(len(readers) / columns)
    panel_height, left, between = 2.7, 0.6, 0.55
    legend = 0.2 + 0.17 * math.ceil(len(cells.labels) / 4)
    height = legend + rows * (panel_height + 0.65)
    figure = new_figure(height)
    width = (WIDTH - left - 0.1 - between * (columns - 1)) / columns
    for index, reader in enumerate(readers):
        row, column = divmod(index, columns)
        bottom = 0.45 + (rows - 1 - row) * (panel_height + 0.65)
        place = ((left + column * (width + between)) / WIDTH, bottom / height, width / WIDTH, panel_height / height)
        axes = figure.add_axes(place)
        axes.set_title(reader)
        axes.set_xlabel("tokens that the reader read, mean (logarithmic)")
        if column == 0:
            axes.set_ylabel("answer F1")
        _curves(axes, cells, reader)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="upper left", ncols=4, bbox_to_anchor=(0.02, 1), columnspacing=1.4)
    return figure


def _curves(axes: Axes, cells: Cells, reader: str) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    data = cells.data_of([reader])
    axes.set_xscale("log")  # no pruning reads several times the tokens of any k
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.1)
    for index, (name, label) in enumerate(cells.labels.items()):
        keys = [key for key in cells.keys if key[0] == name]
        tokens = [cells.mean(key, "tokens", [reader], data).mean for key in keys]
        values = [cells.mean(key, "f1", [reader], data) for key in keys]
        main = name == cells.subject
        if (name, ALL) in keys:
            axes.axhline(values[0].mean, color=FADED, linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)
        color, turn = COLORS[index % len(COLORS)], index // len(COLORS)  # after all colors come hollow markers
        axes.plot(
            tokens,
            [value.mean for value in values],
            color=color,
            marker=MARKERS[(index + turn) % len(MARKERS)],
            markerfacecolor="white" if turn else color,
            label=label,
            linestyle=LINES[index % len(LINES)] if len(keys) > 1 else "none",
            linewidth=2 if main else 1.1,
            zorder=2 + main,
        )
        if main or len(keys) == 1:
            for x, value in zip(tokens, values, strict=True):
                axes.plot([x, x], [value.low, value.high], color=color, linewidth=0.8, zorder=1)
        if main:
            ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # over the intervals of other methods
            for key, x, value in zip(keys, tokens, values, strict=True):
                text = f"k={key[1]}"  # without spaces, so that neighbours do not overlap
                axes.annotate(text, (x, value.high), (0, 4), textcoords="offset points", ha="center", bbox=ground)
