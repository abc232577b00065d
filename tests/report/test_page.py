from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html import unescape
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


@pytest.mark.slow
def test_a_browser_shows_hostile_text_as_text(hostile: PruneResult, tmp_path: Path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium to look at the page with")
    html = html_report(hostile, made_tokens(HOSTILE), model="m", scorer="s")
    # This policy would let a script run, and the probe would then show it.
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
