"""Format texts and numbers for reports. Control characters in texts are replaced, and numbers get equal precision."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..passages import Passage
    from ..pruning.results import PruneResult

__all__ = [
    "by_sentences",
    "count",
    "decimals_for",
    "duration",
    "k_line",
    "kept_line",
    "name_of",
    "number",
    "ranking",
    "steps_of",
    "visible",
]

# The pattern has two character classes. The characters of the first class could change what a person sees. They are
# control characters, line separators, bidi controls, annotation controls, and invisible tags. Tab and line feed are not
# in this class. The second class holds code points that UTF-8 or HTML cannot represent.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb\U000e0000-\U000e007f]"
    "|[\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)


def visible(text: str) -> str:
    """Replace control characters by visible characters, so that a terminal or a browser does not act on them.

    C0 controls and DEL become their Unicode pictures. Any other control character, such as a bidi override, becomes its
    code point in brackets, such as `[U+202E]`. A code point that is not a character becomes U+FFFD. Tabs and line feeds
    are not replaced.

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
    """Return a passage's title, or its first words if there is no title, in one line of at most `width` characters."""
    words = " ".join((passage.title or "").split()) or " ".join(passage.text[: 4 * width].split())
    words = visible(words) or "(empty)"
    return words if len(words) <= width else words[: width - 1].rstrip() + "…"


def ranking(scores: Sequence[float]) -> list[int]:
    """Return the indices in descending order of score. If scores are equal, the earlier index comes first."""
    return sorted(range(len(scores)), key=lambda index: (-scores[index], index))


def decimals_for(values: Sequence[float]) -> int:
    """Return the number of decimals that shows the largest value with three significant digits.

    The number is at least 0 and at most 9.
    """
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return 2 if largest == 0 else min(9, max(0, 2 - math.floor(math.log10(largest))))


def number(value: float, decimals: int, minus: str = "−") -> str:
    """Format a number with the given number of decimals. Zero gets no sign.

    Example:
        >>> number(-0.01234, 3), number(-0.0001, 3)
        ('−0.012', '0.000')
    """
    if math.isfinite(value):
        value = round(value, decimals) or 0.0
    return f"{value:.{decimals}f}".replace("-", minus)


def duration(seconds: float) -> str:
    """Format a time.

    Example:
        >>> duration(0), duration(0.001), duration(1.9)
        ('0 s', '< 0.01 s', '1.90 s')
    """
    return "0 s" if seconds == 0 else "< 0.01 s" if seconds < 0.01 else f"{seconds:.2f} s"


def steps_of(result: PruneResult) -> list[tuple[str, str]]:
    """Return each step with its time, for example `("score", "1.90 s")`. If there is no draft, `draft` is left out."""
    steps = result.seconds.items()
    return [(step, duration(took)) for step, took in steps if step != "draft" or result.draft is not None]


def by_sentences(result: PruneResult) -> bool:
    """Return whether sentences were scored and kept instead of whole passages."""
    return len(result.sources) != len(result.passages) or any(
        source.text != result.passages[source.passage].text for source in result.sources
    )


def kept_line(result: PruneResult) -> str:
    """Return a text on how much was kept: `3 of 10 passages`, or `3 of 42 sentences, in 2 of 10 passages`."""
    passages = f"{len(result.kept)} of {count(len(result.passages), 'passage')}"
    if not by_sentences(result):
        return passages
    chosen = sum(source.kept for source in result.sources)
    return f"{chosen} of {count(len(result.sources), 'sentence')}, in {passages}"


def k_line(result: PruneResult) -> str:
    """Return a text on the k that was used: `k = 3`, or `k = 3, the most confident of 1, 2, 3, 5`."""
    tried = ", ".join(str(candidate.k) for candidate in result.candidates)
    return f"k = {result.k}" + (f", the most confident of {tried}" if len(result.candidates) > 1 else "")


def count(n: int, noun: str, every: str = "") -> str:
    """Format a count with its noun: `1 passage` or `2 passages`.

    `every` is put before any count except 1. With `every="all "`, the count 2 gives `all 2 passages`.
    """
    return f"{n} {noun}" if n == 1 else f"{every}{n} {noun}s"
