"""The style of all figures, and the functions that write figures. The same numbers give the same bytes.

The colours are the colours of Okabe and Ito, which colour-blind readers can tell apart. Markers, line styles and labels
carry the same information without colour. If a figure is as wide as the text of a page, its text has 8 points or more.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from at2_prune.errors import CacheError, MissingExtraError
from at2_prune.files import user_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "COLORS",
    "FAMILY_COLORS",
    "LINES",
    "MARKERS",
    "SIZE",
    "WIDTH",
    "error",
    "new_figure",
    "save_figure",
    "spread",
    "styled",
    "svg",
]

WIDTH = 6.8
"""The width of a page's text, in inches."""
SIZE = 8
"""The size of text, in points."""
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (2, 1)), (0, (6, 1.5, 1.5, 1.5)), (0, (1, 1)), "-", "-")
FAMILY_COLORS = {
    "retrieval": "#0072B2",
    "attention": "#E69F00",
    "gradient": "#009E73",
    "learned": "#D55E00",
    "other": "#555555",
}

_STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": SIZE,
    "axes.labelsize": SIZE,
    "axes.titlesize": SIZE + 1,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.unicode_minus": True,
    "xtick.labelsize": SIZE,
    "ytick.labelsize": SIZE,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "legend.fontsize": SIZE,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "at2-prune",
    "path.simplify": False,
}
P = ParamSpec("P")
R = TypeVar("R")


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function to run with this style and matplotlib's defaults. The user's own settings are ignored."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            import matplotlib
        except ImportError as error:
            raise MissingExtraError("matplotlib", "eval", "drawing figures") from error
        settings: dict[Any, Any] = {**matplotlib.rcParamsDefault, "backend": "agg", **_STYLE}
        with matplotlib.rc_context(settings):
            return function(*args, **kwargs)

    return run


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Make a figure without pyplot. The figure has no window, and pyplot does not keep it in memory. Height and width
    are in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


@styled
def svg(figure: Figure) -> str:
    """Return the figure as SVG. Text is drawn as shapes, so that the figure looks the same on every machine."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


@styled
def save_figure(figure: Figure, folder: str | os.PathLike[str], name: str) -> list[Path]:
    """Write `name.png` (200 dots per inch) and `name.svg`, and return their paths.

    Raises:
        CacheError: the folder cannot be written to.
    """
    folder = user_path(folder)
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(paths[0], dpi=200, metadata={"Software": None})
        paths[1].write_text(svg(figure), encoding="utf-8")
    except OSError as error:
        raise CacheError(f"cannot write figures to {folder}: {error.strerror or error}") from error
    return paths


def error(estimates: Sequence[Mapping[str, float]]) -> list[list[float]]:
    """Return the distances from each mean to both ends of its interval, in the form that `errorbar` takes."""
    return [
        [max(0.0, value["mean"] - value["low"]) for value in estimates],
        [max(0.0, value["high"] - value["mean"]) for value in estimates],
    ]


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Return places that are at least `gap` apart, in the same order and as near as possible to the given places.

    Example:
        >>> spread([0.0, 0.1, 5.0], gap=1.0)
        [-0.45, 0.55, 5.0]
    """
    blocks: list[tuple[float, list[int]]] = []  # (center, members)
    for index in sorted(range(len(places)), key=places.__getitem__):
        center, members = places[index], [index]
        while blocks and center - gap * (len(members) - 1) / 2 < blocks[-1][0] + gap * (len(blocks[-1][1]) + 1) / 2:
            before, earlier = blocks.pop()
            center = (before * len(earlier) + center * len(members)) / (len(earlier) + len(members))
            members = earlier + members
        blocks.append((center, members))
    moved = [0.0] * len(places)
    for center, members in blocks:
        for position, index in enumerate(members):
            moved[index] = round(center + gap * (position - (len(members) - 1) / 2), 9)
    return moved
