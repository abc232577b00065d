"""Draw a run's results, as matplotlib figures or as a folder of PNG and SVG files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from at2_prune.catalogue import by_family, label_of

from .by_cost import f1_by_cost_figure, middle_k
from .by_k import f1_by_k_figure
from .faithfulness import faithfulness_figure, measured
from .heads import coefficients_figure
from .style import save_figure, svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from at2_prune.coefficients.head_coefficients import HeadCoefficients

__all__ = [
    "CAPTIONS",
    "HEADS",
    "all_figures",
    "caption_of",
    "coefficients_figure",
    "f1_by_cost_figure",
    "f1_by_k_figure",
    "faithfulness_figure",
    "middle_k",
    "save_figure",
    "svg",
    "write_figures",
]


CAPTIONS = {
    "f1_by_k": "Answer F1 against the number of passages kept. BM25 is drawn faintly in every panel. Bars are 95 % "
    "bootstrap intervals over questions; the bands are the intervals of no pruning and of the oracle, which keeps "
    "only the gold passages.",
    "f1_by_cost": "Answer F1 against the cost of choosing passages, in forward passes over the whole prompt. If a "
    "method needs a draft, the pass of the draft is included. Methods that cost at most about one pass stand in "
    "columns. The place within a column has no meaning.",
    "faithfulness": "Left: LDS, the rank correlation, over random ablations, between the measured log-odds of the "
    "draft and the sum of the kept sources' scores. Right: the fall of the draft's log-probability when the k best "
    "sources are left out. Lines are 95 % bootstrap intervals; a longer bar is better.",
}
HEADS = "coefficients_"
"""The names of heat maps of head coefficients begin with this prefix."""


def caption_of(name: str) -> str:
    """Return the caption of the figure with this name.

    Example:
        >>> caption_of("coefficients_at2")
        'Head coefficients of AT2: a red head raises the score of a source, a blue and dotted head lowers it.'
    """
    if name.startswith(HEADS):
        label = label_of(name.removeprefix(HEADS))
        return (
            f"Head coefficients of {label}: a red head raises the score of a source, a blue and dotted head lowers it."
        )
    return CAPTIONS[name]


def all_figures(
    results: Mapping[str, Any],
    coefficients: Mapping[str, HeadCoefficients] | None = None,
    layer_types: Sequence[str] = (),
) -> Iterator[tuple[str, Figure]]:
    """Draw all figures for which the results have the numbers.

    Args:
        results: the content of `results.json`.
        coefficients: learned head coefficients, by the method that uses them.
        layer_types: the `layer_types` of the model's config; see `coefficients_figure`.

    Returns:
        A pair of a name and a figure, for each figure.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    if by_family(results["methods"]):
        yield "f1_by_k", f1_by_k_figure(results)
        yield "f1_by_cost", f1_by_cost_figure(results)
    if measured(results):
        yield "faithfulness", faithfulness_figure(results)
    for name, learned in (coefficients or {}).items():
        yield f"{HEADS}{name}", coefficients_figure(learned, label_of(name), layer_types)


def write_figures(
    results: Mapping[str, Any],
    coefficients: Mapping[str, HeadCoefficients] | None,
    folder: str | os.PathLike[str],
    layer_types: Sequence[str] = (),
) -> list[Path]:
    """Write every figure as PNG and SVG. The same numbers give the same bytes.

    Args:
        results: see `all_figures`.
        coefficients: see `all_figures`.
        folder: the folder for the files. A folder that does not exist is made.
        layer_types: see `all_figures`.

    Returns:
        The paths of the files. The first is `f1_by_k.png`, if it was drawn.

    Raises:
        MissingExtraError: matplotlib is not installed.
        CacheError: the folder cannot be written to.
    """
    return [
        path
        for name, figure in all_figures(results, coefficients, layer_types)
        for path in save_figure(figure, folder, name)
    ]
