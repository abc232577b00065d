"""Print how long the sentences of each page are: the number, the mean and the longest.

    $ python docs/readability.py
    $ python docs/readability.py --over 35 docs/method.md      # each sentence of more than 35 words

Only prose counts: paragraphs, and the items of lists. Code blocks, tables and headings do not. A formula, an interval
in brackets and inline code are one word each.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
MEAN, LONGEST = 20, 35
"""The limits, in words: the mean of a page is below the first, and no sentence is above the second."""
WRITTEN = ("docs/results.md", "docs/hotpotqa/results.md", "docs/held-out/results.md")
"""Pages that a command writes, with sentences that list methods."""
_ABBREVIATIONS = re.compile(r"\b(e\.g|i\.e|etc|vs|cf|Dr|St|No|Fig)\.$")
_END = re.compile(r"""(?<=[.!?])["”’)\]*_]*\s+(?=["“‘(\[*_]*[A-Z0-9«`—])""")


def pages() -> list[Path]:
    """Return the pages that people write: the README, the guide for contributors, the changelog, and `docs/`."""
    top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
    docs = sorted((ROOT / "docs").rglob("*.md"))
    return [page for page in (*top, *docs) if page.relative_to(ROOT).as_posix() not in WRITTEN]


def sentences(text: str) -> list[str]:
    """Return the sentences of a page's prose.

    Example:
        >>> sentences("# Title\\n\\nOne `a b` here. It is 0.5 [0.4, 0.6].\\n\\n    code. Here.\\n\\n- An item")
        ['One `code` here.', 'It is 0.5 [interval].', 'An item']
    """
    found: list[str] = []
    inside_heading = inside_table = False
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        inside_heading = (inside_heading or token.type == "heading_open") and token.type != "heading_close"
        inside_table = (inside_table or token.type == "table_open") and token.type != "table_close"
        if token.type == "inline" and not inside_heading and not inside_table:
            parts = []
            for child in token.children or ():
                breaks = child.type in ("softbreak", "hardbreak")
                parts.append("`code`" if child.type == "code_inline" else " " if breaks else child.content)
                if child.type in ("image", "html_inline"):
                    parts.pop()
            found += _split(_simplified("".join(parts)))
    return found


def _simplified(text: str) -> str:
    """Replace each formula and each interval by one word."""
    text = re.sub(r"\$\$.*?\$\$|\$[^$\s][^$]*\$", "Formula", text, flags=re.DOTALL)
    text = re.sub(r"\[[-+−]?[\d.]+, ?[-+−]?[\d.]+\]", "[interval]", text)
    return text.replace("::: ", "")


def _split(text: str) -> list[str]:
    parts: list[str] = []
    for part in _END.split(text.strip()):
        if parts and _ABBREVIATIONS.search(parts[-1]):
            parts[-1] += " " + part
        elif part.strip():
            parts.append(part.strip())
    return parts


def words(sentence: str) -> int:
    """Return the number of words. A word has a letter or a digit."""
    return sum(bool(re.search(r"\w", word)) for word in sentence.split())


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each page. Return 1 if a page is above the limits."""
    parser = argparse.ArgumentParser(description="Print the number, the mean and the longest of each page's sentences.")
    parser.add_argument("pages", nargs="*", type=Path, metavar="PAGE", help="by default all pages that people write")
    parser.add_argument("--over", type=int, metavar="N", help="print each sentence of more than N words too")
    options = parser.parse_args(arguments)
    failed = False
    print("sentences   mean  longest  page")
    for page in options.pages or pages():
        found = sentences(page.read_text(encoding="utf-8"))
        counts = [words(sentence) for sentence in found] or [0]
        mean = sum(counts) / len(counts)
        failed |= mean >= MEAN or max(counts) > LONGEST
        name = page.resolve().relative_to(ROOT).as_posix() if page.resolve().is_relative_to(ROOT) else str(page)
        print(f"{len(found):9}  {mean:5.1f}  {max(counts):7}  {name}")
        if options.over is not None:
            long = [(count, one) for count, one in zip(counts, found, strict=False) if count > options.over]
            print(*(f"    {count}: {one}" for count, one in long), sep="\n", end="\n" if long else "")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
