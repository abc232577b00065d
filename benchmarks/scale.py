"""Print what scout's passage index costs for many passages, computed from measured figures.

    python benchmarks/scale.py [--passages 100000 100000000] [--tokens 130] [--index DIR]

The figures are those of `benchmarks/results.json`, which `make bench` measures. With --index, the bytes of a passage
are those of an index that `at2-prune index` made, with SQLite's own. docs/scale.md holds the output without options.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results.json"
KEPT_SHARES = (1.0, 0.1, 0.01, 0.0)


@dataclass(frozen=True)
class Figures:
    """The measured figures. Seconds are those of one machine."""

    passage_bytes: float
    """Bytes that are kept for each passage."""
    read: float
    """Seconds to read one passage."""
    question_kept: float
    """Seconds to score the passages of a question whose keys are kept."""
    question_new: float
    """Seconds to score the passages of a question whose keys are not kept."""
    passages: int
    """The number of passages of that question."""


def figures(tokens: int, index: str | None = None) -> Figures:
    """Return the figures of `benchmarks/results.json`.

    Args:
        tokens: the number of tokens of a passage.
        index: the folder of an index, whose bytes of a passage replace those of the file.
    """
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text(encoding="utf-8"))
    found = {row["name"]: row for row in rows}
    reading, kept, new = (
        found[name]["inputs"]
        for name in (
            "indexing / forward pass of as many layers",
            "scout: kept passages / forward pass",
            "scout: new passages / forward pass",
        )
    )
    size = found["scout: bytes kept for each token"]["ratio"] * tokens if index is None else bytes_of(index)
    return Figures(
        passage_bytes=size,
        read=reading["seconds"][0] / reading["passages"],
        question_kept=kept["seconds"][0],
        question_new=new["seconds"][0],
        passages=kept["passages"],
    )


def bytes_of(folder: str) -> float:
    """Return the bytes on disk of each passage of an index."""
    file = Path(folder) / "passages.sqlite"
    with sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True) as connection:
        (count,) = connection.execute("SELECT count(*) FROM records").fetchone()
    return file.stat().st_size / int(count)


def sizes(some: Figures, numbers: Sequence[int]) -> str:
    """Return a table of the cost of keeping all passages, by their number."""
    lines = [
        "| passages | keys on disk | machine-hours to read them | machines that read them in a day |",
        "|---|---|---|---|",
    ]
    for number in numbers:
        hours = number * some.read / 3600
        machines = max(1, -(-hours // 24))
        lines.append(f"| {number:,} | {size(number * some.passage_bytes)} | {hours:,.1f} | {machines:,.0f} |")
    return "\n".join(lines)


def shares(some: Figures, number: int) -> str:
    """Return a table of the cost of keeping a share of the passages, if questions ask for all passages alike."""
    lines = [
        "| kept of the passages | keys on disk | machine-hours to read them | seconds of a question |",
        "|---|---|---|---|",
    ]
    for share in KEPT_SHARES:
        kept = number * share
        seconds = share * some.question_kept + (1 - share) * some.question_new
        lines.append(
            f"| {share:.0%} | {size(kept * some.passage_bytes)} | {kept * some.read / 3600:,.1f} | {seconds:.2f} |"
        )
    return "\n".join(lines)


def size(count: float) -> str:
    """Return a number of bytes in words.

    Example:
        >>> size(20_488_000_000_000)
        '20.5 TB'
    """
    for unit, limit in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= limit:
            return f"{count / limit:.1f} {unit}"
    return f"{count:.0f} B"


def page(numbers: Sequence[int], tokens: int, index: str | None = None) -> str:
    """Return the tables, with the figures that they are computed from."""
    some = figures(tokens, index)
    keys, speed, count = some.passage_bytes / 1e3, 1 / some.read, some.passages
    kept, new = some.question_kept, some.question_new
    return f"""\
A passage of {tokens} tokens takes {keys:.1f} kB of keys, and a machine reads {speed:.1f} passages a second.
A question with {count} passages takes {kept:.2f} s if all keys are kept, and {new:.2f} s if none are.
The keys that a question needs take {size(count * some.passage_bytes)}.

{sizes(some, numbers)}

Of {max(numbers):,} passages:

{shares(some, max(numbers))}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    numbers = [10**5, 10**6, 10**7, 10**8]
    parser.add_argument("--passages", type=int, nargs="+", default=numbers, metavar="N", help="numbers of passages")
    parser.add_argument("--tokens", type=int, default=130, metavar="N", help="tokens of a passage (default: 130)")
    parser.add_argument("--index", metavar="DIR", help="take the bytes of a passage from this index")
    args = parser.parse_args()
    print(page(args.passages, args.tokens, args.index), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
