"""The reports on citations: every statement with its numbers, its sources by share, and no harm from hostile texts."""

from __future__ import annotations

from dataclasses import replace

from made_reports import CONTROL, HOSTILE

from at2_prune.passages import Passage
from at2_prune.pruning.citations import AblationFit, Citations, Statement
from at2_prune.report import html_citations, terminal_citations

PASSAGES = [
    Passage("Adolphe Sax was born in Dinant.", title="Adolphe Sax"),
    Passage("The Meuse flows through Dinant.", title="Dinant"),
    Passage("Ghent lies on the Scheldt."),
]
ANSWER = "He was born in Dinant. The Meuse flows there.\nWho knows?"


def cited(passages: list[Passage] = PASSAGES, answer: str = ANSWER, **changes: object) -> Citations:
    cuts = [(0, 22), (23, 45), (46, len(answer))]
    scores = [[0.6, 0.3, 0.1], [0.0, 0.5, -0.1], [-1.0, -1.0, -1.0]]
    statements = [
        Statement(answer[a:b], a, b, own + [-2.0] * (len(passages) - 3))
        for (a, b), own in zip(cuts, scores, strict=True)
    ]
    owners = list(range(len(passages)))
    return Citations("Which river?", passages, answer, [p.text for p in passages], owners, statements, "at2", **changes)  # type: ignore[arg-type]


def test_the_terminal_shows_numbers_after_each_statement_and_shares() -> None:
    text = terminal_citations(cited(), width=100, color=False, encoding="utf-8")
    assert "He was born in Dinant.[1][2] The Meuse flows there.[2]" in text
    assert "Who knows?\n" in text
    assert "    60 %  [1] Adolphe Sax" in text
    assert "   100 %  [2] Dinant" in text
    assert "no source" in text
    assert "[2] Dinant: The Meuse flows through Dinant." in text
    assert "Ghent" not in text


def test_fitted_statements_say_what_they_lose() -> None:
    known = AblationFit([2.25, 0.5, 0.0], 0.75, 32)
    plain = cited()
    both = replace(plain, statements=[replace(one, fit=known) for one in plain.statements])
    text = terminal_citations(both, width=120, color=False, encoding="utf-8")
    assert "correlation with 32 ablations 0.75" in text
    assert "[1] Adolphe Sax  2.2 nats" in text
    assert "expected to lose" in html_citations(both, model="tiny")
    assert both.to_dict()["statements"][0]["citations"][0]["effect"] == 2.25


def test_the_page_links_statements_and_sources() -> None:
    html = html_citations(cited(), model="tiny")
    assert "<script" not in html
    for target in ("source-1", "source-2", "statement-0", "statement-2"):
        assert f'id="{target}"' in html
    assert 'href="#source-1"' in html
    assert 'href="#statement-1"' in html
    assert html.count('class="pop"') == 3
    assert "source-3" not in html


def test_hostile_texts_stay_texts() -> None:
    answer = "<img src=x onerror=alert(1)>. \x1b[31mRed \u202e text here it is.\n<script>alert(2)</script>"
    html = html_citations(cited(list(HOSTILE), answer), model="<b>tiny</b>")
    assert "<img" not in html
    assert "<script" not in html
    assert not CONTROL.search(html)
    assert "&lt;script&gt;alert(1)" in html
    text = terminal_citations(cited(list(HOSTILE), answer), width=60, color=False, encoding="ascii")
    assert not CONTROL.search(text.replace("\n", ""))
    assert text.isascii()
