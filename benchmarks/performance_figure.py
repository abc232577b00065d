"""docs/figures/attribution_cost: the cost of attributing one draft, for every way that was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from measuring import Measurement
from performance_page import measured

from at2_prune_eval.figures.style import FAMILY_COLORS, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["NAME", "attribution_cost", "picture", "seconds_by_way"]

NAME = "attribution_cost"

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
"""The label, the measurement, its side, and the family that gives the colour."""


def seconds_by_way(measurements: Sequence[Measurement]) -> list[tuple[str, float, str]]:
    """The label, seconds and family of every way that was measured; AT2 while the draft is written comes first."""
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
    """The figure in Markdown, with its caption; empty if nothing was measured."""
    if not seconds_by_way(measurements):
        return ""
    what = "What attributing one draft costs"
    return (
        f"![{what}]({folder}/{NAME}.png)\n\n*{what}: medians in seconds, on a logarithmic scale, of rows in the table "
        "below. The draft is written anyway; while it is written, AT2 adds the time in its own code, its share "
        "of the draft's. Whole passes, with every row's logits, are the published code's.*\n\n"
    )


@styled
def attribution_cost(measurements: Sequence[Measurement]) -> Figure:
    """Draw a line for each way, and the writing of the draft beside them."""
    from matplotlib.patheffects import withStroke

    ways, halo = seconds_by_way(measurements), [withStroke(linewidth=3, foreground="white")]
    figure = new_figure(0.7 + 0.3 * len(ways))
    axes = figure.subplots()
    low = min(seconds for _, seconds, _ in ways) / 2
    for place, (_, seconds, family) in enumerate(ways):
        axes.plot([low, seconds], [place, place], color=FAMILY_COLORS[family])
        axes.plot(seconds, place, "o", color=FAMILY_COLORS[family])
        text = f"{float(f'{seconds:.2g}'):g} s"
        axes.annotate(
            text, (seconds, place), (6, 0), textcoords="offset points", va="center_baseline", path_effects=halo
        )
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
