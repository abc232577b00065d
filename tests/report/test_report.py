from __future__ import annotations

import dataclasses
import io
import os
import re
import shutil
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest

from at2_prune.catalogue import METHODS
from at2_prune.datasets import Question
from at2_prune.errors import CacheError, InputError
from at2_prune.passages import Passage
from at2_prune.pruning.pruner import AT2Pruner
from at2_prune.pruning.results import PruneResult, ScoredSource
from at2_prune.report import check_report_path, html_report, terminal_report, write_html_report
from at2_prune.report.marks import LEVELS, Bar, Scale
from at2_prune.report.terminal import _cells, wants_color
from at2_prune.report.text import name_of, number, visible

Tokens = list[list[tuple[str, float]]]

PROBE = """<head><script>
document.documentElement.dataset.probe = "";
window.alert = x => { document.documentElement.dataset.alerted = x; };
</script>"""
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
    """Six characters a token, scores of both signs."""
    tokens = []
    for passage in passages:
        shown = (f"{passage.title}: " if passage.title else "") + passage.text + "\n"
        tokens.append([(shown[i : i + 6], ((7 * i) % 13 - 5) / 1000) for i in range(0, len(shown), 6)])
    return tokens


@pytest.fixture
def hostile() -> PruneResult:
    return made_result(
        HOSTILE,
        [0.5, -0.3, 0.2, 0.1, 0.0, 1e-9, -0.6],
        [0, 2, 3],
        question="Is <b>this</b> \x00 a question?",
        draft="<i>one</i> two",
        answer="<i>one</i> three\x1b[2J",
        fallback="the model wrote <img src=x onerror=alert(5)>; the first 3 were kept",
    )


class Page(HTMLParser):
    """The page's elements: every tag with its attributes, and the text inside those of a class."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.shown: dict[str, str] = {}
        """Passage text by the id of its card."""
        self.cards: dict[str, str] = {}
        """All text of a card."""
        self.tokens: list[tuple[str, str, str | None]] = []
        """Class, text and number."""
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
    """Tags and names of attributes, but for those of tokens, whose number depends on the text."""
    return [(tag, tuple(sorted(attributes))) for tag, attributes in page.tags if tag not in ("span", "del", "ins")]


def test_page_of_a_real_result(tiny_pruner: AT2Pruner, sample_questions: list[Question]):
    question = sample_questions[0]
    result = tiny_pruner.answer(question.text, question.passages, k=3, draft="the Meuse")
    tokens = tiny_pruner.token_scores(question.text, question.passages, result.draft)
    html = html_report(result, tokens, model="tiny-random-llama", scorer="at2")
    page = Page(html)
    assert not page.open
    assert len(page.shown) == 10
    for index, passage in enumerate(question.passages):
        assert page.shown[f"passage-{index}"] == "".join(text for text, _ in tokens[index])
        assert passage.text in page.shown[f"passage-{index}"]
        card = page.cards[f"passage-{index}"]
        assert ("✓ kept" in card) == (index in result.kept)
        assert ("✕ dropped" in card) == (index not in result.kept)
        assert passage.title in card
    for told in ("tiny-random-llama", "at2", "3 of 10 passages (k = 3)", visible(question.text)):
        assert told in html


@pytest.mark.parametrize("shaded", [True, False])
def test_passages_cannot_inject_markup(hostile: PruneResult, shaded: bool):
    tokens = made_tokens(HOSTILE) if shaded else None
    page = Page(html_report(hostile, tokens, model="<u>m", scorer="'\"><u>s"))
    plain = [Passage("a", title=p.title and "b", id=p.id and "c") for p in HOSTILE]
    plain[5] = Passage("a" * 5000, title="b")  # long, so that it gets a keyboard stop too
    harmless = made_result(plain, hostile.scores, hostile.kept, draft="a", answer="b", fallback="c")
    expected = Page(html_report(harmless, made_tokens(plain) if shaded else None, model="m", scorer="s"))
    assert structure(page) == structure(expected)
    assert {name for tag, a in page.tags if tag == "span" for name in a} <= {"class", "title", "dir", "lang", "id"} | {
        "aria-hidden"
    }
    for index, passage in enumerate(HOSTILE):
        shown = "".join(text for text, _ in made_tokens(HOSTILE)[index]) if shaded else passage.text
        assert page.shown.get(f"passage-{index}", "") == visible(shown)


def test_page_shows_control_characters_and_can_be_encoded(hostile: PruneResult):
    html = html_report(hostile, made_tokens(HOSTILE), model="m", scorer="s")
    assert not CONTROL.search(html)
    html.encode("utf-8")
    assert visible("\x00\x1b\x7f\x9b\u202e\U000e0041\ud800\uffff\t\n\u200d") == (
        "␀␛␡[U+009B][U+202E][U+E0041]\ufffd\ufffd\t\n\u200d"
    )


def test_page_is_self_contained(hostile: PruneResult):
    html = html_report(hostile, made_tokens(HOSTILE), model="m", scorer="s")
    page = Page(html)
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "img", "iframe", "object", "form", "base")]
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    for _, attributes in page.tags:
        assert "src" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        if "href" in attributes:
            assert attributes["href"][1:] in ids
            assert attributes["href"][0] == "#"
    assert not re.search(r"https?://|@import|url\(", html)
    assert "default-src 'none'" in html


def test_style_sheet_is_package_data_and_has_every_shade():
    css = (files("at2_prune.report") / "page.css").read_text(encoding="utf-8")
    for level in range(1, LEVELS + 1):
        assert f".p{level} {{ background" in css
        assert f".n{level} {{ background" in css


def test_shading_is_monotone_in_the_score():
    scores = [i / 1000 for i in range(-300, 301)]
    scale = Scale.of(scores)
    levels = [scale.level(score) * (-1 if score < 0 else 1) for score in scores]
    assert levels == sorted(levels)
    assert set(levels) == set(range(-LEVELS, LEVELS + 1))
    passages = [Passage("".join(f"{i:05d}" for i in range(601)))]
    tokens = [[(f"{i:05d}", score) for i, score in enumerate(scores)]]
    page = Page(html_report(made_result(passages, [1.0], [0]), tokens, model="m", scorer="s"))
    classes = [css.split()[0] if css else "p0" for css, _, _ in page.tokens]
    assert [int(c[1:]) * (-1 if c[0] == "n" else 1) for c in classes] == levels
    assert page.tokens[0][2] == "−0.3000"


def test_one_token_does_not_wash_out_the_rest():
    scores = [0.001 * i for i in range(1, 200)] + [90.0]
    scale = Scale.of(scores)
    assert scale.top == pytest.approx(0.198)
    assert scale.beyond == 2
    assert "beyond" in scale.shade(" ", 90.0).css
    assert scale.level(0.1) > LEVELS // 3


@pytest.mark.parametrize("scores", [[], [0.0] * 5, [float("nan"), 0.0]])
def test_no_influence_no_shade(scores: list[float]):
    scale = Scale.of(scores)
    assert [scale.level(score) for score in scores] == [0] * len(scores)


def test_the_only_influence_sets_the_scale():
    assert Scale.of([0.0] * 500 + [0.2]).level(0.2) == LEVELS


def test_tokens_within_a_character_count_together():
    passages = [Passage("東x")]
    tokens = [[("東", 0.25), ("", 0.5), ("x", 0.25), ("\n", 0.0)]]
    page = Page(html_report(made_result(passages, [1.0], [0]), tokens, model="m", scorer="s"))
    assert [(text, title) for _, text, title in page.tokens] == [("東", "0.7500"), ("x", "0.2500"), ("\n", "0.0000")]


def test_bars_share_one_scale():
    scores = [0.5, -0.25, 0.0, float("nan"), float("-inf")]
    bars = [Bar.of(score, scores) for score in scores]
    assert [(bar.left, bar.width, bar.css) for bar in bars] == [
        (33.33, 66.67, "positive"),
        (0, 33.33, "negative"),
        (33.33, 0, "positive"),
        (33.33, 0, "positive"),
        (0, 33.33, "negative"),
    ]
    assert Bar.of(0.0, [0.0, 0.0]).width == 0


def test_sentences_kept_are_marked():
    passages = [
        Passage("One. Two. ", title="A", sentences=("One. ", "Two. ")),
        Passage("Three.", sentences=("Three.",)),
    ]
    sources = [
        ScoredSource("One. ", 0.1, 2, 0, False),
        ScoredSource("Two. ", 0.3, 1, 0, True),
        ScoredSource("Three.", -0.2, 3, 1, False),
    ]
    result = made_result(passages, [0.4, -0.2], [0], sources=sources)
    tokens = [[("A: O", 0.1), ("ne. T", 0.2), ("wo. \n", 0.3)], [("Three.\n", 0.1)]]
    page = Page(html_report(result, tokens, model="m", scorer="s"))
    assert page.shown == {"passage-0": "A: One. Two. \n", "passage-1": "Three.\n"}
    assert "✕ #2  0.100" in page.cards["passage-0"]
    assert "✓ #1  0.300" in page.cards["passage-0"]
    assert "1 of 3 sentences, in 1 of 2 passages" in terminal_report(result, width=100, color=False, encoding="utf-8")


def test_tokens_of_other_passages_are_refused(hostile: PruneResult):
    with pytest.raises(InputError, match="tokens has 1 lists, but the result has 7 passages"):
        html_report(hostile, [[]], model="m", scorer="s")


def test_what_changed_is_marked():
    html = html_report(made_result([Passage("a")], [1.0], [0]), None, model="m", scorer="s")
    assert "in <del>one</del> <del>town</del>" in html
    assert "in <ins>two</ins> <ins>towns</ins>" in html
    same = html_report(made_result([Passage("a")], [1.0], [0], answer="in one town"), None, model="m", scorer="s")
    assert "<del>" not in same
    assert "The answer is the same: everything was kept." in same


@pytest.mark.parametrize("scorer", ["scout", "bm25", "at2"])
def test_the_page_says_what_a_score_means(scorer: str):
    html = html_report(made_result([Passage("a")], [1.0], [0]), None, model="m", scorer=scorer)
    assert f"The score of a passage: {METHODS[scorer].score}" in unescape(html)
    mine = made_result([Passage("a")], [1.0], [0])
    assert "The score of a passage" not in html_report(mine, None, model="m", scorer="my_method")


def test_without_a_draft_the_page_explains_scores_without_one():
    passages = [Passage("a")]
    result = made_result(passages, [1.0], [0], draft=None, seconds={"draft": 0.0, "score": 0.5, "answer": 1.5})
    html = html_report(result, made_tokens(passages), model="m", scorer="bm25")
    page = Page(html)
    assert [a["aria-label"] for tag, a in page.tags if a.get("class") == "answers"] == ["Answer"]
    assert "score 0.50 s · answer 1.50 s · total 2.00 s" in html
    assert "draft" not in terminal_report(result, width=80, color=False, encoding="utf-8").lower()
    assert re.findall(r"[^.>]*[Dd]raft[^.<]*", html) == ["No draft was written: the method scores passages without one"]


def test_write(tmp_path: Path):
    path = tmp_path / "report.html"
    write_html_report(path, "<p>é")
    write_html_report(str(path), "<p>è")
    assert path.read_text(encoding="utf-8") == "<p>è"
    assert os.listdir(tmp_path) == ["report.html"]


def test_write_failures_leave_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "report.html"
    write_html_report(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CacheError, match=r"report\.html: No space left on device"):
        write_html_report(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.html"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("", "it is a folder"), ("no/such/report.html", "there is no folder"), ("x\x00y", "null"), ("x" * 300, "long")],
)
def test_unwritable_paths(tmp_path: Path, name: str, reason: str):
    with pytest.raises((InputError, CacheError), match=f"cannot write the report to .*(?i:{reason})"):
        write_html_report(tmp_path / name, "page")


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(CacheError, match="no permission"):
        check_report_path(tmp_path / "report.html")


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="needs /dev/stdout")
def test_devices_are_written_to_not_replaced():
    code = "from at2_prune.report import write_html_report as w; w('/dev/stdout', 'page')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "page"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252", "no-such-encoding"])
@pytest.mark.parametrize("width", [40, 60, 100])
def test_terminal_report_fits_and_has_no_control_characters(hostile: PruneResult, encoding: str, width: int):
    text = terminal_report(hostile, width=width, color=False, encoding=encoding)
    assert not CONTROL.search(text)
    assert max(map(_cells, text.split("\n"))) <= width
    text.encode("ascii" if encoding == "no-such-encoding" else encoding)
    assert ("█" in text) == (encoding == "utf-8")
    assert "Scores could not be used" in text


def test_terminal_report_reads_best_first():
    passages = [Passage("First passage, without a title."), Passage("b", title="Bee"), Passage("c", title="Sea")]
    text = terminal_report(made_result(passages, [-0.05, 0.4, 0.2], [1, 2]), width=70, color=False, encoding="utf-8")
    assert (
        text
        == """Question
  Where?

Draft  from all 3 passages
  in one town

Passages by score  [i] counts from 0; ✓ kept: 2 of 3 passages
  ✓ 1     │████████████████████   0.400  [1] Bee
  ✓ 2     │██████████             0.200  [2] Sea
    3  ███│                      −0.050  [0] First passage, without a…

Answer  from 2 of 3 passages; changed
  in two towns

Time
  draft 1.50 s, score < 0.01 s"""
    )


def test_colours_are_for_terminals(hostile: PruneResult, monkeypatch: pytest.MonkeyPatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wants_color(Terminal())
    assert not wants_color(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_color(Terminal())
    coloured = terminal_report(hostile, width=80, color=True, encoding="utf-8")
    plain = terminal_report(hostile, width=80, color=False, encoding="utf-8")
    assert "\x1b[" in coloured
    assert [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", coloured).split("\n")] == plain.split("\n")


def test_names_and_numbers():
    assert name_of(Passage(" \n")) == "(empty)"
    assert name_of(Passage("one  two\nthree four"), 10) == "one two t…"
    assert name_of(Passage("text", title="  ")) == "text"
    assert number(-0.0001, 2) == "0.00"
    assert number(float("nan"), 2) == "nan"


@pytest.mark.slow
def test_a_browser_shows_hostile_text_as_text(hostile: PruneResult, tmp_path: Path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium to look at the page with")
    html = html_report(hostile, made_tokens(HOSTILE), model="m", scorer="s")
    # what would tell that a script ran, under a policy that would let it
    html = html.replace("default-src 'none'", "default-src 'unsafe-inline' data:", 1)
    html = html.replace("<head>", PROBE, 1)
    page = tmp_path / "page.html"
    write_html_report(page, html)
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    flags += "--disable-sync --disable-component-update --virtual-time-budget=2000"
    done = subprocess.run(
        [browser, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )
    if done.returncode or "</html>" not in done.stdout:
        pytest.skip(f"{browser} does not run here: {done.stderr[-300:]}")
    assert "data-probe" in done.stdout
    assert "data-alerted" not in done.stdout
    dom = Page(done.stdout)
    assert [tag for tag, _ in dom.tags if tag in ("script", "img")] == ["script"]
    for index, some in enumerate(made_tokens(HOSTILE)):
        assert dom.shown[f"passage-{index}"] == visible("".join(text for text, _ in some))
