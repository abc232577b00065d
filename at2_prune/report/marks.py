"""Draw scores, as the shade of a token or as the bar of a passage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .text import decimals_for, number

__all__ = ["LEVELS", "Bar", "Scale", "Shade"]

LEVELS = 9
"""The number of shades of each hue. The style sheet has a class for each shade."""


@dataclass(frozen=True)
class Shade:
    """A piece of text with the class that shades it."""

    text: str
    css: str
    """Classes of the style sheet, as one string. This string is empty if there is no shade."""
    number: str
    """The score as text. It is empty if there is no score."""


@dataclass(frozen=True)
class Scale:
    """A linear scale from token scores to `LEVELS` shades."""

    top: float
    """The absolute score that gets the darkest shade. It is the 99th percentile of the absolute finite scores of all
    tokens, or the maximum if the percentile is 0. A model often puts most attention on a few tokens. If the maximum
    were the top, all other tokens would be pale. A token with an absolute score above `top` gets an outline."""
    decimals: int
    negative: bool
    """True if any score is negative."""
    beyond: int
    """The number of tokens with a finite absolute score above `top`."""
    largest: str
    """The largest finite absolute score, as text."""

    @classmethod
    def of(cls, scores: Sequence[float]) -> Scale:
        """Make the scale for the scores of all tokens on the page."""
        sizes = sorted(abs(score) for score in scores if math.isfinite(score))
        top = sizes[math.ceil(0.99 * len(sizes)) - 1] if sizes else 0.0
        top = top or (sizes[-1] if sizes else 0.0)
        beyond = sum(size > top for size in sizes)
        decimals = decimals_for([top])
        largest = number(sizes[-1] if sizes else 0.0, decimals)
        return cls(top, decimals, any(score < 0 for score in scores), beyond, largest)

    def level(self, score: float) -> int:
        """Return the shade of a score, from 0 (none) to `LEVELS`."""
        if not self.top or math.isnan(score):
            return 0
        return round(LEVELS * min(1.0, abs(score) / self.top))

    def shade(self, text: str, score: float) -> Shade:
        """Shade the text of a token by its score."""
        level = self.level(score)
        css = [f"{'n' if score < 0 else 'p'}{level}"] if level else []
        if abs(score) > self.top:
            css.append("beyond")
        if level and "\n" in text:
            css.append("newline")
        return Shade(text, " ".join(css), number(score, self.decimals + 1))

    def legend(self) -> list[tuple[str, str]]:
        """Return the class of every shade with the score that the shade stands for, in ascending order of the score."""
        steps = range(-LEVELS if self.negative else 0, LEVELS + 1)
        return [
            (f"{'n' if step < 0 else 'p'}{abs(step)}", number(self.top * step / LEVELS, self.decimals))
            for step in steps
        ]


@dataclass(frozen=True)
class Bar:
    """A horizontal bar from zero to a score. All lengths and places are percentages of the full width."""

    zero: float
    """The place of the score 0."""
    left: float
    width: float
    css: str
    """`positive` or `negative`."""

    @classmethod
    def of(cls, score: float, scores: Sequence[float]) -> Bar:
        """Make the bar of one score, on a scale that fits all `scores`."""
        finite = [value for value in scores if math.isfinite(value)]
        low, high = min([0.0, *finite]), max([0.0, *finite])
        extent = (high - low) or 1.0
        value = min(high, max(low, 0.0 if math.isnan(score) else score))
        left, right = sorted((0.0, value))
        places = (-low / extent, (left - low) / extent, (right - left) / extent)
        zero, left, width = (round(100 * place, 2) for place in places)
        return cls(zero, left, width, "negative" if value < 0 else "positive")
