"""A page that shows one result: self-contained, without scripts, safe to open whatever was retrieved.

Everything that is written into the page passes through `visible` and Jinja's escaping; the page's own policy
forbids scripts, images and requests on top of that.
"""

from __future__ import annotations

import difflib
import functools
import math
import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CacheError, InputError
from ..files import write_atomically
from .text import by_sentences, count, decimals_for, k_line, kept_line, name_of, number, ranking, seconds_of, visible

if TYPE_CHECKING:
    from jinja2 import Template

    from ..passages import Passage
    from ..pruning.results import PruneResult

__all__ = ["check_report_path", "html_report", "write_html_report"]

Tokens = list[tuple[str, float]]

LEVELS = 9
"""Shades of each hue; the style sheet has as many."""
LONG = 1500
"""Characters beyond which a passage gets a keyboard stop, as it scrolls."""


@dataclass(frozen=True)
class Shade:
    """How a token is shown."""

    text: str
    css: str
    number: str


@dataclass(frozen=True)
class Scale:
    """Influence -> one of `LEVELS` shades, linear up to `top`."""

    top: float
    """The 99th percentile of the tokens' absolute influence: a few tokens that take most of it, as a model's resting
    places for attention do, do not wash out the rest. Those are outlined as off the scale."""
    decimals: int
    negative: bool
    """Whether any influence is."""
    beyond: int
    """How many tokens are off the scale."""
    largest: str
    """The largest absolute influence."""

    @classmethod
    def of(cls, scores: Sequence[float]) -> Scale:
        sizes = sorted(abs(score) for score in scores if math.isfinite(score))
        top = sizes[math.ceil(0.99 * len(sizes)) - 1] if sizes else 0.0
        top = top or (sizes[-1] if sizes else 0.0)
        beyond = sum(size > top for size in sizes)
        decimals = decimals_for([top])
        largest = number(sizes[-1] if sizes else 0.0, decimals)
        return cls(top, decimals, any(score < 0 for score in scores), beyond, largest)

    def level(self, score: float) -> int:
        """From 0 to `LEVELS`."""
        if not self.top or math.isnan(score):
            return 0
        return round(LEVELS * min(1.0, abs(score) / self.top))

    def shade(self, text: str, score: float) -> Shade:
        level = self.level(score)
        css = [f"{'n' if score < 0 else 'p'}{level}"] if level else []
        if abs(score) > self.top:
            css.append("beyond")
        if level and "\n" in text:
            css.append("newline")
        return Shade(text, " ".join(css), number(score, self.decimals + 1))

    def legend(self) -> list[tuple[str, str]]:
        """Class and number of every shade, least to most."""
        steps = range(-LEVELS if self.negative else 0, LEVELS + 1)
        return [
            (f"{'n' if step < 0 else 'p'}{abs(step)}", number(self.top * step / LEVELS, self.decimals))
            for step in steps
        ]


@dataclass(frozen=True)
class Bar:
    """A horizontal bar from zero, in percent of the width."""

    zero: float
    left: float
    width: float
    css: str

    @classmethod
    def of(cls, score: float, scores: Sequence[float]) -> Bar:
        finite = [value for value in scores if math.isfinite(value)]
        low, high = min([0.0, *finite]), max([0.0, *finite])
        extent = (high - low) or 1.0
        value = min(high, max(low, 0.0 if math.isnan(score) else score))
        left, right = sorted((0.0, value))
        places = (-low / extent, (left - low) / extent, (right - left) / extent)
        zero, left, width = (round(100 * place, 2) for place in places)
        return cls(zero, left, width, "negative" if value < 0 else "positive")


@dataclass(frozen=True)
class Block:
    """A stretch of a passage: all of it, what is shown before its text, or a sentence."""

    kind: str
    """`lead`, `text` or `sentence`."""
    shades: list[Shade]
    kept: bool = True
    note: str = ""


@dataclass(frozen=True)
class Card:
    """A passage."""

    index: int
    name: str
    facts: list[str]
    rank: int
    score: str
    bar: Bar
    kept: bool
    blocks: list[Block]
    long: bool


def html_report(result: PruneResult, tokens: Sequence[Tokens] | None = None, *, model: str, scorer: str) -> str:
    """A self-contained HTML page that shows what happened to one question.

    Args:
        result: what `AT2Pruner.answer` returned.
        tokens: what `AT2Pruner.token_scores` returned for the same passages; None leaves the text unshaded.
        model: the model's name.
        scorer: how passages were scored.

    Raises:
        InputError: there are not as many lists of tokens as passages.

    Example:
        >>> page = html_report(result, model="tiny", scorer="AT2")  # doctest: +SKIP
        >>> write_html_report("report.html", page)  # doctest: +SKIP
    """
    if tokens is not None and len(tokens) != len(result.passages):
        raise InputError(f"tokens has {len(tokens)} lists, but the result has {len(result.passages)} passages")
    scale = None if tokens is None else Scale.of([score for some in tokens for _, score in some])
    cards = _cards(result, tokens, scale)
    before, after = _changes(result.answer if result.draft is None else result.draft, result.answer)
    return _template().render(
        result=result,
        model=model,
        scorer=scorer,
        everything=count(len(result.passages), "passage", "all "),
        kept=f"{kept_line(result)} ({k_line(result)})",
        noun="sentence" if by_sentences(result) else "passage",
        seconds=seconds_of(result.seconds),
        total=seconds_of({"": sum(result.seconds.values())})[0][1],
        verdict=_verdict(result),
        before=before,
        after=after,
        cards=cards,
        ranked=sorted(cards, key=lambda card: card.rank),
        scale=scale,
        levels=LEVELS,
    )


def check_report_path(path: str | os.PathLike[str]) -> Path:
    """The path, if a report could be written there; ask before a long computation.

    Raises:
        InputError: it is a folder, or its folder does not exist.
        CacheError: it, or its folder, cannot be written to.
    """
    place = Path(path)
    if "\0" in str(place):
        raise InputError(f"cannot write the report to {str(place)!r}: there is a null character in it")
    try:
        if place.is_dir():
            raise InputError(f"cannot write the report to {place}: it is a folder; name a file in it")
        if not place.parent.is_dir():
            raise InputError(f"cannot write the report to {place}: there is no folder {place.parent}")
    except OSError as error:  # too long, or behind a folder that may not be entered
        raise CacheError(f"cannot write the report to {place}: {error.strerror}") from error
    if not os.access(place if _in_place(place) else place.parent, os.W_OK):
        raise CacheError(f"cannot write the report to {place}: no permission to write to {place.parent}")
    return place


def write_html_report(path: str | os.PathLike[str], html: str) -> None:
    """Write the page: a reader, or a crash, sees the old file or the new one, never half of it.

    Raises:
        InputError, CacheError: see `check_report_path`.
        CacheError: the disk is full, for instance.
    """
    place = check_report_path(path)
    if not _in_place(place):
        write_atomically(place, html, f"the report to {place}")
        return
    try:
        place.write_bytes(html.encode("utf-8"))
    except OSError as error:
        raise CacheError(f"cannot write the report to {place}: {error.strerror or error}") from error


def _in_place(path: Path) -> bool:
    """Devices, pipes and links are written to, not replaced: /dev/stdout is one."""
    return path.exists() and (path.is_symlink() or not path.is_file())


@functools.cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    def finalize(value: Any) -> Any:
        return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    folder = files(__package__)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=finalize, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["css"] = Markup((folder / "page.css").read_text(encoding="utf-8"))
    return environment.from_string((folder / "page.html").read_text(encoding="utf-8"))


def _cards(result: PruneResult, tokens: Sequence[Tokens] | None, scale: Scale | None) -> list[Card]:
    ranks = {index: rank for rank, index in enumerate(ranking(result.scores), start=1)}
    decimals = decimals_for(result.scores)
    sentences = by_sentences(result)
    cards = []
    for index, passage in enumerate(result.passages):
        shades = (
            [Shade(passage.text, "", "")]
            if tokens is None or scale is None
            else [scale.shade(text, score) for text, score in _whole_characters(tokens[index])]
        )
        sources = [source for source in result.sources if source.passage == index] if sentences else []
        decimals_of_sources = decimals_for([source.score for source in result.sources]) if sentences else 0
        notes = [(s.text, s.kept, f"#{s.rank}  {number(s.score, decimals_of_sources)}") for s in sources]
        cards.append(
            Card(
                index=index,
                name=name_of(passage, 80),
                facts=_facts(passage),
                rank=ranks[index],
                score=number(result.scores[index], decimals),
                bar=Bar.of(result.scores[index], result.scores),
                kept=index in result.kept,
                blocks=list(_blocks(passage, shades, notes)),
                long=len(passage.text) > LONG,
            )
        )
    return cards


def _verdict(result: PruneResult) -> str:
    if result.draft is None:
        return "No draft was written: the method reads the question alone."
    if result.draft != result.answer:
        return "The answer changed."
    everything = all(source.kept for source in result.sources)
    return f"The answer is the same{': everything was kept' if everything else ''}."


def _facts(passage: Passage) -> list[str]:
    facts = [] if passage.id is None else [f"id {passage.id}"]
    return facts if passage.score is None else [*facts, f"retriever's score {passage.score:.4g}"]


def _whole_characters(tokens: Tokens) -> Iterator[tuple[str, float]]:
    """Tokens that show something: one that only ends a character counts with the token that began it."""
    text, total = "", 0.0
    for piece, score in tokens:
        if piece and text:
            yield text, total
            text, total = "", 0.0
        text, total = text + piece, total + score
    if text:
        yield text, total


def _blocks(passage: Passage, shades: list[Shade], notes: list[tuple[str, bool, str]]) -> Iterator[Block]:
    """The passage cut where its text begins and, where sentences were scored, at each of them."""
    shown = "".join(shade.text for shade in shades)
    start = shown.find(passage.text, len(passage.title or ""))
    start = shown.find(passage.text) if start < 0 else start
    if start < 0:  # a template that changes the text
        yield Block("text", shades)
        return
    rest = deque(shades)
    if start:
        yield Block("lead", _cut(rest, start))
    for number_, (text, kept, note) in enumerate(notes, start=1):
        last = number_ == len(notes)
        yield Block("sentence", _cut(rest, len(shown) if last else len(text)), kept, note)
    if rest or not (start or notes):
        yield Block("text", list(rest))


def _cut(shades: deque[Shade], length: int) -> list[Shade]:
    """Take so many characters off the front; a token on the edge is shown on both sides."""
    taken = []
    while shades and length > 0:
        shade = shades.popleft()
        taken.append(Shade(shade.text[:length], shade.css, shade.number))
        if len(shade.text) > length:
            shades.appendleft(Shade(shade.text[length:], shade.css, shade.number))
        length -= len(shade.text)
    return taken


def _changes(draft: str, answer: str) -> tuple[list[tuple[bool, str]], list[tuple[bool, str]]]:
    """Both texts in stretches, with whether each is only in this one."""
    one, two = re.findall(r"\s+|\S+", draft), re.findall(r"\s+|\S+", answer)
    if draft == answer or len(one) + len(two) > 4000:
        return [(False, draft)], [(False, answer)]
    before, after = [], []
    for kind, i, j, k, m in difflib.SequenceMatcher(None, one, two, autojunk=False).get_opcodes():
        before.append((kind != "equal", "".join(one[i:j])))
        after.append((kind != "equal", "".join(two[k:m])))
    return [part for part in before if part[1]], [part for part in after if part[1]]
