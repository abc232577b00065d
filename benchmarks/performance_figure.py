"""Figures of docs/performance.md: the cost of attributing one draft, and of scoring a number of passages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from measuring import Measurement
from performance_page import measured

from at2_prune_eval.figures.style import COLORS, FAMILY_COLORS, LINES, MARKERS, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "COST",
    "NAME",
    "PASSAGES",
    "attribution_cost",
    "passages_cost",
    "passages_picture",
    "picture",
    "seconds_by_way",
]

NAME = "attribution_cost"
PASSAGES = "passages_cost"
COST = "scoring N passages, seconds"

OWN, DRAFTING = "drafting: attribution's own code / the rest", "drafting with attribution / generate"
WAYS = (
    ("AT2, given a draft", "scoring a given draft / forward pass", 0, "learned"),
    ("all attention weights\n(output_attentions=True)", "output_attentions=True / forward pass", 0, "attention"),
    ("gradient × input", "gradient x input / forward pass", 0, "gradient"),
    ("leave-one-out, shared work", "leave-one-out: engine / plain loop", 0, "gradient"),
    ("leave-one-out, the target's logits only", "leave-one-out: engine / lean loop", 1, "gradient"),
    ("leave-one-out, whole passes", "leave-one-out: engine / plain loop", 1, "gradient"),
    ("{ablations} ablations, shared work", "random ablations: engine / plain loop", 0, "gradient"),
    ("{ablations} ablations, the target's logits only", "random ablations: engine / lean loop", 1, "gradient"),
    ("{ablations} ablations, whole passes", "random ablations: engine / plain loop", 1, "gradient"),
)
"""For each way: label, measurement, side (0 for the measurement's first way), and family, which gives the colour."""


def seconds_by_way(measurements: Sequence[Measurement]) -> list[tuple[str, float, str]]:
    """Return label, seconds and family of every measured way. AT2 during the writing of the draft comes first."""
    ways = []
    own, drafting = measured(measurements, OWN), measured(measurements, DRAFTING)
    if own and drafting:
        ways.append(("AT2, while the draft is written", own.ratio * drafting.inputs["seconds"][1], "learned"))
    for label, name, side, family in WAYS:
        found = measured(measurements, name)
        if found:
            ways.append((label.format(**found.inputs), found.inputs["seconds"][side], family))
    return ways


def picture(measurements: Sequence[Measurement], folder: str) -> str:
    """Return the figure in Markdown, with its caption. It is empty if nothing was measured."""
    if not seconds_by_way(measurements):
        return ""
    what = "What attributing one draft costs"
    return (
        f"![{what}]({folder}/{NAME}.png)\n\n*{what}: medians in seconds, on a logarithmic scale, of rows in the table "
        "below. The draft is written anyway. While it is written, AT2 adds only the time of its own code. "
        '"Whole passes" compute the logits of every row, as the published code does.*\n\n'
    )


@styled
def attribution_cost(measurements: Sequence[Measurement]) -> Figure:
    """Draw a line for each way, and the writing of the draft beside them."""
    ways = seconds_by_way(measurements)
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # over the line of the draft
    figure = new_figure(0.7 + 0.3 * len(ways))
    axes = figure.subplots()
    low = min(seconds for _, seconds, _ in ways) / 2
    for place, (_, seconds, family) in enumerate(ways):
        axes.plot([low, seconds], [place, place], color=FAMILY_COLORS[family])
        axes.plot(seconds, place, "o", color=FAMILY_COLORS[family])
        text = f"{float(f'{seconds:.2g}'):g} s"
        axes.annotate(text, (seconds, place), (6, 0), textcoords="offset points", va="center_baseline", bbox=ground)
    drafting = measured(measurements, DRAFTING)
    if drafting:
        writing = drafting.inputs["seconds"][1]
        axes.axvline(writing, color=FAMILY_COLORS["other"], linestyle=(0, (5, 1.5)), linewidth=1, zorder=0)
        axes.annotate(
            "writing the draft", (writing, -0.75), (4, 0), textcoords="offset points", color=FAMILY_COLORS["other"]
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(low, 3 * max(seconds for _, seconds, _ in ways))
    axes.set_ylim(len(ways) - 0.5, -1.1)
    axes.set_yticks(range(len(ways)), [label for label, _, _ in ways])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("seconds")
    figure.tight_layout()
    return figure


def passages_picture(measurements: Sequence[Measurement], folder: str) -> str:
    """Return the figure of the cost of many passages in Markdown. It is empty if nothing was measured."""
    if not any(m.name == COST for m in measurements):
        return ""
    what = "What scoring passages costs"
    return (
        f"![{what}]({folder}/{PASSAGES}.png)\n\n*{what}: seconds for one question against the number of passages, "
        "medians, both axes logarithmic. Kept passages are in the index already; new ones are read first. Generation "
        "from all passages is what a pipeline without pruning pays.*\n\n"
    )


@styled
def passages_cost(measurements: Sequence[Measurement]) -> Figure:
    """Draw seconds against the number of passages, with one line for each way."""
    figure = new_figure(3.0)
    axes = figure.subplots()
    timed = [m for m in measurements if m.name == COST]
    ways = list(dict.fromkeys(m.inputs["way"] for m in timed))
    for way, color, marker, line in zip(ways, COLORS, MARKERS, LINES, strict=False):
        found = sorted(
            (m.inputs["passages"], m.ratio) for m in measurements if m.name == COST and m.inputs["way"] == way
        )
        axes.plot(*zip(*found, strict=True), color=color, marker=marker, linestyle=line, markersize=4)
        axes.annotate(way, found[-1], (6, 0), textcoords="offset points", color=color, va="center")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("passages")
    axes.set_ylabel("seconds")
    axes.margins(x=0.02)
    figure.tight_layout()
    figure.subplots_adjust(right=0.68)
    return figure
