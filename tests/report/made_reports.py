"""Results to report on, hostile ones among them, and a parser of the page."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

from at2_prune.passages import Passage
from at2_prune.pruning.results import PruneResult, ScoredSource

Tokens = list[list[tuple[str, float]]]

HOSTILE = [
    Passage("<script>alert(1)</script></span></div></style> & &amp; {{ 7 * 7 }}", title="</title><script>alert(2)"),
    Passage('"><img src=x onerror="alert(3)">', title="\" onmouseover='alert(4)'", id="<b>\x00"),
    Passage(
        "NUL \x00, ESC \x1b[31m, C1 \x9b, override \u202e, tag \U000e0041, lone \ud800, lines\r\n\n  two  spaces\t."
    ),
    Passage("القاهرة هي عاصمة مصر (Cairo).", title="القاهرة"),
    Passage("東京は日本の首都である。" * 4, title="東京"),
    Passage("word " * 10_000, title="T" * 500),
    Passage(""),
]
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
VOID = {"meta", "br"}


def made_result(passages: list[Passage], scores: list[float], kept: list[int], **changes: object) -> PruneResult:
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    sources = [ScoredSource(p.text, scores[i], order.index(i) + 1, i, i in kept) for i, p in enumerate(passages)]
    result = PruneResult(
        "Where?",
        passages,
        "in one town",
        "in two towns",
        len(kept),
        kept,
        scores,
        sources,
        {"draft": 1.5, "score": 0.001},
    )
    return dataclasses.replace(result, **changes)


def made_tokens(passages: list[Passage]) -> Tokens:
    """Make tokens of six characters with scores of both signs."""
    tokens = []
    for passage in passages:
        shown = (f"{passage.title}: " if passage.title else "") + passage.text + "\n"
        tokens.append([(shown[i : i + 6], ((7 * i) % 13 - 5) / 1000) for i in range(0, len(shown), 6)])
    return tokens


class Page(HTMLParser):
    """The elements of a page: every tag with its attributes, and the text of every card."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.shown: dict[str, str] = {}
        """The text of each passage, by the id of its card."""
        self.cards: dict[str, str] = {}
        """All text of each card, by id."""
        self.tokens: list[tuple[str, str, str | None]] = []
        """The class, the text and the number of each token."""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        card = next((a["id"] for t, a in self.open if t == "article"), None)
        if card is None:
            return
        self.cards[card] = self.cards.get(card, "") + data
        if any("shown" in (a.get("class") or "").split() for _, a in self.open):
            self.shown[card] = self.shown.get(card, "") + data
            attributes = self.open[-1][1]
            self.tokens.append((attributes.get("class") or "", data, attributes.get("title")))


def structure(page: Page) -> list[tuple[str, tuple[str, ...]]]:
    """Return the tags with the names of their attributes, without those of tokens, which depend on the text."""
    return [(tag, tuple(sorted(attributes))) for tag, attributes in page.tags if tag not in ("span", "del", "ins")]
