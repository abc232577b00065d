"""Text that is safe to show, whatever was retrieved, and numbers that line up."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..passages import Passage
    from ..pruning.results import PruneResult

__all__ = [
    "by_sentences",
    "count",
    "decimals_for",
    "k_line",
    "kept_line",
    "name_of",
    "number",
    "ranking",
    "seconds_of",
    "visible",
]

# Controls but tab and line feed, line and bidi controls, invisible tags; then what UTF-8 or HTML cannot hold.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb\U000e0000-\U000e007f]"
    "|[\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)
_STEPS = {"draft": "draft", "score": "score", "regenerate": "new answer"}


def visible(text: str) -> str:
    """The text with control characters shown instead of obeyed.

    C0 controls become their pictures; others, such as bidi overrides and invisible tags, become `[U+202E]`; what is
    no character at all becomes U+FFFD. Tabs and line feeds stay.

    Example:
        >>> visible("a\\x00b\\u202ec")
        'a␀b[U+202E]c'
    """
    return _HIDDEN.sub(_show, text)


def _show(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    return "\ufffd" if unicodedata.category(chr(code)) in ("Cs", "Cn") and code < 0xE0000 else f"[U+{code:04X}]"


def name_of(passage: Passage, width: int = 60) -> str:
    """The passage's title, or its first words, on one line."""
    words = " ".join((passage.title or "").split()) or " ".join(passage.text[: 4 * width].split())
    words = visible(words) or "(empty)"
    return words if len(words) <= width else words[: width - 1].rstrip() + "…"


def ranking(scores: Sequence[float]) -> list[int]:
    """Indices, best first; ties go to the earlier one."""
    return sorted(range(len(scores)), key=lambda index: (-scores[index], index))


def decimals_for(values: Sequence[float]) -> int:
    """Decimals that give the largest of these numbers three significant digits."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return 2 if largest == 0 else min(9, max(0, 2 - math.floor(math.log10(largest))))


def number(value: float, decimals: int, minus: str = "−") -> str:
    """A number of so many decimals; 0 has no sign.

    Example:
        >>> number(-0.01234, 3), number(-0.0001, 3)
        ('−0.012', '0.000')
    """
    if math.isfinite(value):
        value = round(value, decimals) or 0.0
    return f"{value:.{decimals}f}".replace("-", minus)


def seconds_of(seconds: Mapping[str, float]) -> list[tuple[str, str]]:
    """Steps and how long they took, `("draft", "1.9 s")` say."""
    return [
        (_STEPS.get(step, step), "0 s" if took == 0 else "< 0.01 s" if took < 0.01 else f"{took:.2f} s")
        for step, took in seconds.items()
    ]


def by_sentences(result: PruneResult) -> bool:
    """Whether sentences were scored and kept, not whole passages."""
    return len(result.sources) != len(result.passages) or any(
        source.text != result.passages[source.passage].text for source in result.sources
    )


def kept_line(result: PruneResult) -> str:
    """`3 of 10 passages`, or `3 of 42 sentences, in 2 of 10 passages`."""
    passages = f"{len(result.kept)} of {count(len(result.passages), 'passage')}"
    if not by_sentences(result):
        return passages
    chosen = sum(source.kept for source in result.sources)
    return f"{chosen} of {count(len(result.sources), 'sentence')}, in {passages}"


def k_line(result: PruneResult) -> str:
    """`k = 3`, or how it was chosen."""
    tried = ", ".join(str(candidate.k) for candidate in result.candidates)
    return f"k = {result.k}" + (f", the most confident of {tried}" if len(result.candidates) > 1 else "")


def count(n: int, noun: str, every: str = "") -> str:
    """`1 passage`, `2 passages`; with `every="all "`, `all 2 passages`."""
    return f"{n} {noun}" if n == 1 else f"{every}{n} {noun}s"
