"""Draw answer F1 against the cost of choosing passages, in forward passes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from at2_prune.catalogue import FAMILIES, REFERENCES, by_family, family_of, label_of
from at2_prune.errors import InputError

from ..tables.cells import Estimates
from ..tables.cost import forward_passes, has_reader
from .by_k import reference_lines
from .style import FAMILY_COLORS, MARKERS, SIZE, WIDTH, error, new_figure, spread, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["f1_by_cost_figure"]

COLUMN = 0.21
"""The width in inches that a method's label takes on the horizontal axis. Labels are written upwards."""
FREE, DRAFT = 0.05, 1.15
"""Two limits, in forward passes. Methods that take at most `FREE` passes stand in the column of methods that cost
nothing. `DRAFT` is the same limit for the column of methods that cost only the draft."""
LEFT, RIGHT, BOTTOM, TOP, HEIGHT = 0.66, 0.75, 0.62, 0.5, 3.1  # inches


@styled
def f1_by_cost_figure(results: Mapping[str, Any], k: str | None = None) -> Figure:
    """Draw F1 at one k against the number of forward passes that a method takes to choose passages.

    If a method needs a draft, the pass of the draft is included. A logarithmic axis cannot show 0, and many methods
    cost the same: nothing, or only the draft. There are therefore three columns: for methods that cost nothing, for
    methods that cost less than a pass, and for methods that cost only the draft. In a column, only the height has a
    meaning. The rest of the axis is logarithmic. Methods of about the same cost are drawn side by side.

    Args:
        results: the content of `results.json`.
        k: the k to show. The default is `middle_k(results)`.

    Raises:
        InputError: no method was run at this k.
    """
    k = middle_k(results) if k is None else k
    methods = results["methods"]
    names = [name for some in by_family(methods).values() for name in some if k in methods[name]["at"]]
    if not names:
        raise InputError(f"no method was run at k = {k}")
    figure = new_figure(BOTTOM + HEIGHT + TOP)
    full = figure.get_size_inches()
    inches = WIDTH - LEFT - RIGHT
    axes = figure.add_axes((LEFT / full[0], BOTTOM / full[1], inches / full[0], HEIGHT / full[1]))
    axes.set(xlim=(0, inches), ylabel=f"answer F1 at k = {k}")
    whose = " of both models" if has_reader(results) else ""
    axes.set_xlabel(
        f"forward passes{whose} over the whole prompt to choose the passages (including the draft)", labelpad=3
    )
    places = _places(axes, {name: forward_passes(methods[name]) for name in names}, inches)
    values = {name: methods[name]["at"][k]["f1"] for name in names}
    legend = _points(axes, places, values)
    _references(axes, results, values, inches)
    _labels(axes, places, values)
    figure.legend(
        legend.values(),
        legend.keys(),
        loc="upper left",
        bbox_to_anchor=(LEFT / full[0], 1),
        ncols=2,
        columnspacing=2,
        handletextpad=0.3,
        borderaxespad=0.2,
    )
    return figure


def _points(axes: Axes, places: Mapping[str, float], values: Mapping[str, Estimates]) -> dict[str, Any]:
    """Draw a point with its interval for each method, and return a legend handle for each family."""
    shapes = dict(zip(FAMILIES, MARKERS, strict=False))
    legend: dict[str, Any] = {}
    for name, value in values.items():
        family = family_of(name)
        bar = axes.errorbar(
            places[name],
            value["mean"],
            error([value]),
            color=FAMILY_COLORS[family],
            marker=shapes[family],
            linewidth=1.1,
        )
        legend.setdefault(FAMILIES[family], bar.lines[0])
    return legend


def _references(axes: Axes, results: Mapping[str, Any], values: Mapping[str, Estimates], inches: float) -> None:
    """Draw lines for no pruning and for the oracle, with their names at the right edge."""
    ends = reference_lines(axes, results["methods"])
    _limits(axes, results, values)
    low, high = axes.get_ylim()
    apart = spread([end.height for end in ends], (high - low) * (SIZE + 2.5) / 72 / HEIGHT)
    for height, end in zip(apart, ends, strict=True):
        axes.annotate(end.label, (inches + 0.06, height), va="center", annotation_clip=False)


def _labels(axes: Axes, places: Mapping[str, float], values: Mapping[str, Estimates]) -> None:
    """Write the name of each method above the method's interval. The names are written upwards."""
    from matplotlib.patheffects import withStroke

    halo = withStroke(linewidth=2.5, foreground="white")
    for name, value in values.items():
        axes.annotate(
            label_of(name),
            (places[name], value["high"]),
            (0, 3),
            textcoords="offset points",
            rotation=90,
            ha="center",
            va="bottom",
            path_effects=[halo],
        )


def middle_k(results: Mapping[str, Any]) -> str:
    """Return 3 if k = 3 was run, else the middle one of the numbers that were run. If no number was run, return `auto`.

    Example:
        >>> middle_k({"methods": {"at2": {"at": {"1": {}, "2": {}, "5": {}}}}})
        '2'
    """
    ks = sorted({int(k) for method in results["methods"].values() for k in method["at"] if k.isdigit()})
    return "auto" if not ks else str(3 if 3 in ks else ks[(len(ks) - 1) // 2])


def _places(axes: Axes, passes: Mapping[str, float], inches: float) -> dict[str, float]:
    """Draw the columns and the ticks. Return the place of each method, in inches from the left."""
    free = [name for name, cost in passes.items() if cost <= FREE]
    part = [name for name, cost in passes.items() if FREE < cost < 1 - FREE]
    draft = [name for name, cost in passes.items() if 1 - FREE <= cost <= DRAFT]
    dear = {name: cost for name, cost in passes.items() if cost > DRAFT}
    places: dict[str, float] = {}
    ticks: list[tuple[float, str]] = []
    left = 0.0
    columns = [(free, "0\nno draft"), (part, "below 1\nno draft"), (draft, "1\nthe draft")]
    slots = sum(len(members) + 1 for members, _ in columns if members)
    for members, label in columns:
        if members:
            slot = len(members) + 1
            width = max(0.75, COLUMN * slot) if dear else inches * slot / slots
            if left + width < 0.99 * inches:
                axes.axvline(left + width, color="#999999", linewidth=0.7)
            for index, name in enumerate(members, start=1):
                places[name] = left + width * index / (len(members) + 1)
            ticks.append((left + width / 2, label))
            left += width
    if dear:
        low, high = math.log(min(dear.values()) / 1.35), math.log(max(dear.values()) * 1.35)

        def along(cost: float, start: float) -> float:
            return start + (math.log(cost) - low) / (high - low) * (inches - start)

        start = left
        places |= _side_by_side(dear, along, start)
        while (hidden := left + COLUMN * 0.6 - min(places[name] for name in dear)) > 0 and start < inches / 2:
            start += hidden  # without this, the leftmost method would be drawn in the previous column
            places |= _side_by_side(dear, along, start)
        for tick in (2, 3, 5, 10, 20, 30, 50, 100, 200, 500, 1000):
            if low <= math.log(tick) <= high:
                ticks.append((along(tick, start), str(tick)))
    axes.set_xticks([place for place, _ in ticks], [label for _, label in ticks])
    return places


def _side_by_side(costs: Mapping[str, float], along: Callable[[float, float], float], start: float) -> dict[str, float]:
    """Return places along an axis. Methods of equal cost get different places, so that no method hides another."""
    return dict(zip(costs, spread([along(cost, start) for cost in costs.values()], COLUMN * 0.8), strict=True))


def _limits(axes: Axes, results: Mapping[str, Any], values: Mapping[str, Estimates]) -> None:
    """Set the limits of the vertical axis, so that each name has room above the interval of its method."""
    references = [
        next(iter(results["methods"][name]["at"].values()))["f1"] for name in REFERENCES if name in results["methods"]
    ]
    low = min(value["low"] for value in (*values.values(), *references))
    high = max(value["high"] for value in references) if references else low
    # The width of a letter is about 0.6 times the font size.
    for name, value in values.items():
        room = (len(label_of(name)) * 0.6 * SIZE + 8) / 72 / HEIGHT
        high = max(high, low + (value["high"] - low) / (1 - room))
    margin = 0.04 * (high - low) or 0.05
    axes.set_ylim(low - margin, high + margin / 2)
