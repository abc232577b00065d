"""Draw learned head coefficients as a heat map of layers x heads, with a panel for each row group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .style import SIZE, WIDTH, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from at2_prune.coefficients.head_coefficients import HeadCoefficients

__all__ = ["coefficients_figure"]

LEFT, RIGHT, TOP, BOTTOM, GAP, CELL = 0.55, 0.95, 0.6, 0.5, 0.35, 0.26  # inches
FULL = ("full_attention", "global", "attention")
"""The values in `layer_types` of a model's config that stand for a layer that attends to the whole context."""


@styled
def coefficients_figure(coefficients: HeadCoefficients, title: str = "", layer_types: Sequence[str] = ()) -> Figure:
    """Draw coefficients on one scale, with blue below 0 and red above 0.

    Coefficients clearly below 0 also get a dot, so that they can be told apart in a print without colour.

    Args:
        coefficients: the head coefficients, with weights of shape `(row groups, layers, heads)`.
        title: the text above the figure.
        layer_types: the `layer_types` of the model's config, with one entry for each layer of the model. If some layers
            attend only to a window, the layers that attend to the whole context are marked.
    """
    weight = coefficients.weight.float().cpu().numpy()
    groups, layers, heads = weight.shape
    cell = min(CELL, (WIDTH - LEFT - RIGHT) / layers)
    tall = max(cell, 0.06) * heads if heads > 8 else max(cell, 0.16) * heads
    height = TOP + groups * tall + (groups - 1) * GAP + BOTTOM
    room = max(cell * layers, 1.5)  # for the longest name of a row group
    width = max(3.4, LEFT + room + RIGHT)
    figure = new_figure(height, width)
    figure.text(LEFT / width, 1 - 0.16 / height, title, fontweight="bold", fontsize=SIZE + 1, va="center")
    top = float(abs(weight).max()) or 1.0
    full = [
        place
        for place, layer in enumerate(coefficients.layers)
        if layer < len(layer_types) and layer_types[layer] in FULL
    ]
    mixed = 0 < len(full) < layers
    image = None
    for index, group in enumerate(coefficients.row_groups):
        bottom = height - TOP - tall * (index + 1) - GAP * index
        axes = figure.add_axes((LEFT / width, bottom / height, cell * layers / width, tall / height))
        image = axes.imshow(weight[index].T, cmap="RdBu_r", vmin=-top, vmax=top, aspect="auto", interpolation="nearest")
        below = [
            (layer, head)
            for layer in range(layers)
            for head in range(heads)
            if weight[index, layer, head] < -0.02 * top
        ]
        if below:
            across, down = zip(*below, strict=True)
            axes.scatter(across, down, s=min(6.0, (cell * 72 / 5) ** 2), color="#000000", linewidths=0)
        axes.set_title(f"{group.name} rows", fontweight="normal", fontsize=SIZE, pad=10 if mixed else 4)
        step = 1 if heads <= 8 else 4
        axes.set_yticks(range(0, heads, step))
        every = max(1, round(0.24 / cell))
        axes.set_xticks(range(0, layers, every), [str(layer) for layer in coefficients.layers[::every]])
        axes.tick_params(length=2, labelbottom=index == groups - 1)
        axes.spines[["top", "right"]].set_visible(True)
        axes.set_ylabel("head")
        if index == groups - 1:
            axes.set_xlabel("layer" + ("   (▼ attends to the whole context)" if mixed else ""))
        if mixed:
            above = [-0.5 - 5 / 72 / tall * heads] * len(full)
            axes.plot(full, above, "v", color="#000000", markersize=4, clip_on=False)
            axes.set(xlim=(-0.5, layers - 0.5), ylim=(heads - 0.5, -0.5))
    if image is not None:
        bar = figure.add_axes(
            ((LEFT + room + 0.15) / width, BOTTOM / height, 0.11 / width, (height - TOP - BOTTOM) / height)
        )
        figure.colorbar(image, cax=bar).set_label("coefficient")
    return figure
