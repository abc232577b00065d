"""Draw LDS and top-k drop, which say how well scores predict the effect of leaving sources out.

The figure follows AT2 (arXiv 2504.13752), figure 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from at2_prune.catalogue import by_family, family_of, label_of
from at2_prune.errors import InputError

from .style import FAMILY_COLORS, SIZE, WIDTH, error, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["faithfulness_figure", "measured"]

LEFT, RIGHT, GAP, HEAD, BOTTOM, ROW = 1.5, 0.12, 0.16, 0.45, 0.27, 0.18  # inches
HATCHES = {"retrieval": "", "attention": "////", "gradient": "....", "learned": "\\\\\\\\", "other": ""}


@styled
def faithfulness_figure(results: Mapping[str, Any]) -> Figure:
    """Draw a bar with its interval for each method. The panels are LDS and then the top-k drop at each k.

    If both passages and sentences were measured, the panels of passages stand above the panels of sentences.

    Args:
        results: the content of `results.json`.

    Raises:
        InputError: faithfulness was not measured.
    """
    blocks = measured(results)
    if not blocks:
        raise InputError("the results hold no faithfulness: run the evaluation with --faithfulness")
    names = {
        unit: [name for some in by_family({**part["top_k_drop"], **part["lds"]}).values() for name in some]
        for unit, part in blocks.items()
    }
    rows = {unit: _rows(names[unit]) for unit in blocks}
    heights = {unit: ROW * (rows[unit][-1] + 1) for unit in blocks}
    total = sum(heights.values()) + len(blocks) * (HEAD + BOTTOM)
    figure = new_figure(total)
    top = total
    for unit, part in blocks.items():
        columns = {"LDS": part["lds"]}
        for k in map(str, part["ks"]):
            columns[f"top-{k} drop"] = {name: drops[k] for name, drops in part["top_k_drop"].items() if k in drops}
        inches = (WIDTH - LEFT - RIGHT - GAP * (len(columns) - 1)) / len(columns)
        top -= HEAD
        figure.text(0.01, (top + 0.27) / total, f"{unit.capitalize()}s", fontweight="bold", fontsize=SIZE + 1)
        for index, (title, values) in enumerate(columns.items()):
            left, bottom = LEFT + index * (inches + GAP), top - heights[unit]
            axes = figure.add_axes((left / WIDTH, bottom / total, inches / WIDTH, heights[unit] / total))
            axes.set_title(title, fontweight="normal", pad=4)
            axes.set_ylim(rows[unit][-1] + 0.5, -0.5)
            axes.set_yticks(rows[unit], [label_of(name) for name in names[unit]] if index == 0 else [])
            places = dict(zip(names[unit], rows[unit], strict=True))
            _bars(axes, {place: (name, values[name]) for name, place in places.items() if name in values})
        top -= heights[unit] + BOTTOM
    return figure


def measured(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the measured parts of the results. The keys are the units `passage` and `sentence`."""
    parts = (results.get("faithfulness") or {}).items()
    return {unit: part for unit, part in parts if part and (part["lds"] or part["top_k_drop"])}


def _bars(axes: Axes, bars: Mapping[float, tuple[str, Mapping[str, float]]]) -> None:
    axes.axvline(0, color="#000000", linewidth=0.7)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=4)
    for row, (name, value) in bars.items():
        family = family_of(name)
        color, hatch = FAMILY_COLORS[family], HATCHES[family]
        axes.barh(row, value["mean"], height=0.72, color=color, hatch=hatch, edgecolor="white", linewidth=0, alpha=0.8)
        axes.errorbar(value["mean"], row, xerr=error([value]), color="#000000", linewidth=0.9)


def _rows(names: Sequence[str]) -> list[float]:
    """Return the place of each bar, with a gap between families."""
    rows: list[float] = []
    for before, name in zip(["", *names], names, strict=False):
        apart = 1.4 if rows and family_of(before) != family_of(name) else 1.0
        rows.append(rows[-1] + apart if rows else 0.0)
    return rows
