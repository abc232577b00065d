"""A report for the terminal, with a bar for every passage. Control characters in texts are made visible."""

from __future__ import annotations

import math
import os
import shutil
import sys
import textwrap
import unicodedata
from typing import TYPE_CHECKING, TextIO

from .text import by_sentences, count, decimals_for, k_line, kept_line, name_of, number, ranking, steps_of, visible

if TYPE_CHECKING:
    from ..pruning.results import PruneResult

__all__ = ["Lines", "terminal_report", "wants_color"]

BOLD, DIM, BLUE, ORANGE = "1", "2", "34", "33"
EIGHTHS = " ▏▎▍▌▋▊▉"


def terminal_report(
    result: PruneResult, *, width: int | None = None, color: bool | None = None, encoding: str | None = None
) -> str:
    """Format one result as text to print.

    Args:
        result: the result of `AT2Pruner.answer`.
        width: the number of columns, at least 40. With None, it is the terminal's width, but at most 120.
        color: whether to use ANSI colours. With None, `wants_color` decides.
        encoding: the encoding of the stream. With None, it is the encoding of stdout. If the encoding has no block
            characters, bars are drawn with `#`.
    """
    page = Lines.of(width, color, encoding)
    page.section("Question", result.question)
    if result.draft is not None:
        page.section("Draft", result.draft or "(the model wrote nothing)", "from " + _everything(result))
    if result.fallback:
        page.section("Scores could not be used", result.fallback)
    page.scores(result)
    note = f"from {kept_line(result)}"
    if len(result.candidates) > 1:
        note += f", {k_line(result)}"
    if result.draft is not None:
        note += "; the same as the draft" if result.answer == result.draft else "; changed"
    page.section("Answer", result.answer or "(the model wrote nothing)", note, BOLD)
    page.section("Time", ", ".join(f"{step} {took}" for step, took in steps_of(result)))
    return page.text()


def wants_color(stream: TextIO) -> bool:
    """Return whether the output of a stream gets colours.

    Only a terminal gets colours. It gets none if `NO_COLOR` is set (https://no-color.org) or `TERM` is `dumb`.
    """
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Lines:
    """The lines of a report, for a stream of a given width and encoding."""

    @classmethod
    def of(cls, width: int | None, color: bool | None, encoding: str | None) -> Lines:
        """Make lines for stdout, with the options of `terminal_report`."""
        width = max(40, min(120, shutil.get_terminal_size().columns) if width is None else width)
        encoding = encoding or getattr(sys.stdout, "encoding", None) or "ascii"
        return cls(width, wants_color(sys.stdout) if color is None else color, encoding)

    def __init__(self, width: int, color: bool, encoding: str) -> None:
        self.width = width
        self.color = color
        self.encoding = encoding
        self.blocks = self._can_show("".join(EIGHTHS) + "█✓│")
        self.lines: list[str] = []

    def text(self) -> str:
        return "\n".join(self.lines)

    def section(self, title: str, body: str, note: str = "", style: str = "") -> None:
        """Add a heading and a wrapped, indented text."""
        if self.lines:
            self.lines.append("")
        self._heading(title, note)
        for paragraph in visible(body).expandtabs(4).split("\n"):
            for line in _wrap(self._shown(paragraph), self.width - 2):
                self.lines.append("  " + self._paint(line, style) if line else "")

    def scores(self, result: PruneResult) -> None:
        """Add a bar for every passage, the best passage first. If sentences were scored, add the kept sentences."""
        scores = result.scores
        decimals = decimals_for(scores)
        minus = "−" if self._can_show("−") else "-"
        numbers = [number(score, decimals, minus) for score in scores]
        figures = max(map(len, numbers))
        digits = len(str(len(scores)))
        room = max(8, min(30, self.width // 3))
        low, high = min([0.0, *filter(math.isfinite, scores)]), max([0.0, *filter(math.isfinite, scores)])
        below = round(room * -low / (high - low)) if low < 0 else 0
        if low < 0 < high:
            below = min(room - 1, max(1, below))
        self.lines.append("")
        self._heading("Passages by score", f"[i] counts from 0; {self._mark(True)} kept: {kept_line(result)}")
        for rank, index in enumerate(ranking(scores), start=1):
            kept = index in result.kept
            bar = self._bar(scores[index], low, high, below, room - below)
            head = f"  {self._mark(kept)} {rank:>{digits}}  "
            tail = f"  {numbers[index]:>{figures}}  {f'[{index}]':>{digits + 2}} "
            space = self.width - _cells(head) - _cells(tail) - room - (1 if low < 0 else 0)
            name = _clip(self._shown(name_of(result.passages[index], 200)), space, "…" if self.blocks else "...")
            painted = self._paint(bar, ORANGE if scores[index] < 0 else BLUE)
            self.lines.append(f"{head}{painted}{tail}{self._paint(name, BOLD if kept else DIM)}".rstrip())
        if by_sentences(result):
            chosen = [f"[{s.passage}] {' '.join(s.text.split())}" for s in result.sources if s.kept]
            self.section("Sentences kept", "\n".join(chosen))

    def _bar(self, score: float, low: float, high: float, below: int, above: int) -> str:
        """Draw a bar. It has columns below zero, an axis if any score is negative, and columns above zero."""
        if math.isnan(score):
            score = 0.0
        up = above * min(1.0, score / high) if high > 0 and score > 0 else 0.0
        down = below * min(1.0, score / low) if low < 0 and score < 0 else 0.0
        full = "█" if self.blocks else "#"
        right = full * int(up)
        if self.blocks and up - int(up) >= 1 / 16 and (part := min(7, round(8 * (up - int(up))))):
            right += EIGHTHS[part]
        elif not right and up > 0:
            right = EIGHTHS[1] if self.blocks else "."
        left = full * max(round(down), 1 if down > 0 else 0)
        axis = ("│" if self.blocks else "|") if low < 0 else ""
        return f"{left:>{below}}{axis}{right:<{above}}" if below else f"{axis}{right:<{above}}"

    def _heading(self, title: str, note: str) -> None:
        note = _clip(note, self.width - len(title) - 2, "…" if self.blocks else "...")
        self.lines.append(self._paint(title, BOLD) + (f"  {self._paint(note, DIM)}" if note else ""))

    def _mark(self, kept: bool) -> str:
        return " " if not kept else "✓" if self.blocks else "*"

    def _paint(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self.color and style and text else text

    def _can_show(self, text: str) -> bool:
        try:
            text.encode(self.encoding)
        except (UnicodeEncodeError, LookupError):
            return False
        return True

    def _shown(self, text: str) -> str:
        """Escape the characters that the stream cannot show."""
        try:
            return text.encode(self.encoding, "backslashreplace").decode(self.encoding)
        except LookupError:
            return text.encode("ascii", "backslashreplace").decode("ascii")


def _everything(result: PruneResult) -> str:
    return count(len(result.passages), "passage", "all ")


def _cells(text: str) -> int:
    """Return the number of columns that a text takes."""
    return sum(map(_cell, text))


def _cell(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _clip(text: str, width: int, end: str) -> str:
    """Cut a text that is wider than `width` columns, and mark the cut with `end`."""
    if _cells(text) <= width:
        return text
    taken, used = "", len(end)
    for character in text:
        used += _cell(character)
        if used > width:
            break
        taken += character
    return taken.rstrip() + end if width >= len(end) else ""


def _wrap(text: str, width: int) -> list[str]:
    """Wrap a text into lines of at most `width` columns. Lines end at spaces where that is possible."""
    lines = []
    for line in textwrap.wrap(text, width, break_on_hyphens=False) or [""]:
        while _cells(line) > width:  # textwrap counts a wide character as one column, but it takes two
            head = _clip(line, width, "")
            lines.append(head)
            line = line[len(head) :]
        lines.append(line)
    return lines
