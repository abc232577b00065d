from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html import escape, unescape
from pathlib import Path

import pytest

from at2_prune.catalogue import METHODS
from at2_prune.datasets import Question
from at2_prune.errors import InputError
from at2_prune.passages import Passage
from at2_prune.pruning.pruner import AT2Pruner
from at2_prune.pruning.results import PruneResult, ScoredSource
from at2_prune.report import html_report, terminal_report, write_html_report
from at2_prune.report.text import visible

sys.path.insert(0, str(Path(__file__).parent))

from made_reports import CONTROL, HOSTILE, Page, made_result, made_tokens, structure

PROBE = """<head><script>
document.documentElement.dataset.probe = "";
window.alert = x => { document.documentElement.dataset.alerted = x; };
</script>"""
FRAME = """<!DOCTYPE html><iframe style="width:{width}px;height:900px;border:0" srcdoc="{page}" onload='
const inside = this.contentDocument, wide = this.clientWidth;
document.documentElement.dataset.cut = [...inside.querySelectorAll("body *")].filter(one => {{
  const beyond = one.getBoundingClientRect().right > wide + 1;
  const range = inside.createRange();
  range.selectNodeContents(one);
  const cut = one.closest(".legend") && range.getBoundingClientRect().right > wide + 1;
  const hidden = getComputedStyle(one).overflowX !== "visible" && one.scrollWidth > one.clientWidth + 1;
  return beyond || cut || (hidden && one.clientWidth);
}}).map(one => one.tagName + "." + one.className).join(" ");
'></iframe>"""
"""A page in a frame of a given width; the host's data-cut names what is cut or stands out of it."""


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
    plain[5] = Passage("a" * 5000, title="b")  # long enough to get a keyboard stop too
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


def test_tokens_within_a_character_count_together():
    passages = [Passage("東x")]
    tokens = [[("東", 0.25), ("", 0.5), ("x", 0.25), ("\n", 0.0)]]
    page = Page(html_report(made_result(passages, [1.0], [0]), tokens, model="m", scorer="s"))
    assert [(text, title) for _, text, title in page.tokens] == [("東", "0.7500"), ("x", "0.2500"), ("\n", "0.0000")]


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


def test_a_passage_without_a_title_is_shown_once():
    passages = [Passage("one text"), Passage("  "), Passage("another", title="A title"), Passage("a third", title=" ")]
    html = html_report(made_result(passages, [0.3, 0.2, 0.1, 0.0], [0]), model="m", scorer="s")
    page = Page(html)
    heads = {name: page.cards[name].split("rank")[0] for name in page.cards}
    assert ["one text" in head or "third" in head for head in heads.values()] == [False] * 4
    assert ["untitled" in head for head in heads.values()] == [True, True, False, True]
    assert "A title" in heads["passage-2"]
    assert page.cards["passage-0"].count("one text") == page.cards["passage-3"].count("a third") == 1
    ranked = re.search(r'<ol class="ranking">.*?</ol>', html, flags=re.DOTALL)
    assert ranked is not None
    assert all(words in ranked[0] for words in ("one text", "(empty)", "A title", "a third"))


@pytest.mark.parametrize("name", METHODS)
def test_a_report_speaks_of_a_draft_only_where_one_was_read(name: str):
    passages = [Passage("a text"), Passage("another")]
    info = METHODS[name]
    draft = None if info.passes in ("0", "part of 1") else "in one town"
    html = html_report(made_result(passages, [0.2, 0.1], [0], draft=draft), model="m", scorer=name)
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", unescape(html), flags=re.DOTALL)
    told = text.replace("No draft was written", "").replace("needs no draft", "").replace("Time  draft 1.50 s", "")
    assert info.score in text
    assert ("draft" in told.lower()) == (draft is not None)
    assert ("No draft was written" in text) == (draft is None)


def chromium(page: Path, profile: Path) -> str:
    """The elements of a page once its scripts have run."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium to look at the page with")
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    flags += "--disable-sync --disable-component-update --virtual-time-budget=2000"
    done = subprocess.run(
        [browser, *flags.split(), f"--user-data-dir={profile}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )
    if done.returncode or "</html>" not in done.stdout:
        pytest.skip(f"{browser} does not run here: {done.stderr[-300:]}")
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390, 320])
def test_nothing_is_cut_on_a_narrow_screen(width: int, tmp_path: Path):
    passages = [Passage("a text " * 30, title="A title"), Passage("another text without a title " * 9)]
    html = html_report(made_result(passages, [0.3, -0.2], [0]), made_tokens(passages), model="m", scorer="at2")
    host = tmp_path / "host.html"
    host.write_text(FRAME.format(width=width, page=escape(html)), encoding="utf-8")
    found = re.search(r'data-cut="([^"]*)"', chromium(host, tmp_path / "profile"))
    assert found is not None
    assert unescape(found[1]) == ""


@pytest.mark.slow
def test_a_browser_shows_hostile_text_as_text(hostile: PruneResult, tmp_path: Path):
    html = html_report(hostile, made_tokens(HOSTILE), model="m", scorer="s")
    # This policy would let a script run, and the probe would then show it.
    html = html.replace("default-src 'none'", "default-src 'unsafe-inline' data:", 1)
    html = html.replace("<head>", PROBE, 1)
    page = tmp_path / "page.html"
    write_html_report(page, html)
    shown = chromium(page, tmp_path / "profile")
    assert "data-probe" in shown
    assert "data-alerted" not in shown
    dom = Page(shown)
    assert [tag for tag, _ in dom.tags if tag in ("script", "img")] == ["script"]
    for index, some in enumerate(made_tokens(HOSTILE)):
        assert dom.shown[f"passage-{index}"] == visible("".join(text for text, _ in some))
