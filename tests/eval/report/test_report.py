"""The page: whole, self-contained, deaf to what questions contain; its one script is the one its policy allows."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from at2_prune.catalogue import label_of
from at2_prune.errors import DataError
from at2_prune_eval.report import report_page, write_report
from at2_prune_eval.report.questions import choose_questions

from ..synthetic import KS, METHODS, make_records, make_results, write_run

pytest.importorskip("matplotlib")

SOME = ("bm25", "at2", "leave_one_out")
HOSTILE = [
    "<script>alert(1)</script></p></article></main></style>",
    "\"><img src=x onerror='alert(2)'> {{ 7 * 7 }} {% raw %}",
    "القاهرة \u202e هي <b>عاصمة</b> مصر",
    "T" * 5000,
    "lone \ud800, NUL \x00, `**bold**`, line\u2028separator",
    "",
]


class Page(HTMLParser):
    """Tags, attributes and text of a page; `text` by the tag it is in."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text: dict[str, str] = {}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1] == tag, (self.open, tag)
        self.open.pop()

    def handle_data(self, data: str) -> None:
        place = self.open[-1] if self.open else ""
        self.text[place] = self.text.get(place, "") + data


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    return make_records(60, SOME, (1, 3))


@pytest.fixture(scope="module")
def results(records: list[dict[str, Any]]) -> dict[str, Any]:
    return make_results(records)


def test_choice_is_spread_over_outcomes_and_fixed(records: list[dict[str, Any]]) -> None:
    chosen = choose_questions(records, "at2", "3")
    assert len(chosen) == 20
    assert len({record["id"] for _, record in chosen}) == 20
    found: dict[str, int] = {}
    for outcome, record in chosen:
        change = record["methods"]["at2"]["at"]["3"]["f1"] - record["methods"]["none"]["at"]["all"]["f1"]
        assert outcome == ("helped" if change > 0 else "hurt" if change < 0 else "unchanged")
        found[outcome] = found.get(outcome, 0) + 1
    there = {
        "helped": sum(r["methods"]["at2"]["at"]["3"]["f1"] > r["methods"]["none"]["at"]["all"]["f1"] for r in records),
        "hurt": sum(r["methods"]["at2"]["at"]["3"]["f1"] < r["methods"]["none"]["at"]["all"]["f1"] for r in records),
    }
    assert all(min(n, 6) <= found.get(outcome, 0) <= n for outcome, n in there.items())
    assert chosen == choose_questions(json.loads(json.dumps(records)), "at2", "3")
    assert len(choose_questions(records[:5], "at2", "3")) == 5


def test_page_is_self_contained_and_whole(results: dict[str, Any], records: list[dict[str, Any]]) -> None:
    html = report_page(results, records)
    page = Page(html)
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    scripts = [tag for tag, _ in page.tags if tag == "script"]
    assert len(scripts) == 1
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    digest = base64.b64encode(hashlib.sha256(page.text["script"].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "form")
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("#")
    pictures = [a for tag, a in page.tags if tag == "img"]
    assert len(pictures) == 3
    assert all(base64.b64decode(a["src"].split(",")[1]).startswith(b"<?xml") and a["alt"] for a in pictures)
    chosen = [a["id"] for tag, a in page.tags if tag == "input" and "checked" in a]
    assert chosen == ["m2", "k1"]  # by family AT2 comes last of three
    text = re.sub(r"<[^>]+>", " ", html)
    for name in SOME:
        assert label_of(name) in text


def test_the_default_method_is_chosen_and_compared_with() -> None:
    records = make_records(8, (*SOME, "scout"), (1, 3))
    html = report_page(make_results(records, faithfulness=False), records)
    chosen = re.findall(r'<input type="radio" name="method" [^>]*checked>([^<]*)', html)
    assert chosen == ["Scout"]
    assert "the effect that Scout at k = 3 had on F1" in html
    titles = re.findall(r"<summary>Differences to ([^<]*), on the same questions", html)
    assert titles == ["no pruning", "Scout at the same k"]


def test_questions_show_scores_kept_passages_and_answers(
    results: dict[str, Any], records: list[dict[str, Any]]
) -> None:
    html = report_page(results, records)
    articles = re.findall(r"<article.*?</article>", html, flags=re.DOTALL)
    assert len(articles) == 20
    order = ["bm25", "leave_one_out", "at2"]
    for article, (_, record) in zip(articles, choose_questions(records, "at2", "3"), strict=True):
        assert record["question"] in article
        assert article.count('class="goldmark"') == len(record["gold"])
        rows = re.findall(r"<li>.*?</li>", article, flags=re.DOTALL)
        assert len(rows) == len(record["passages"])
        for index, row in enumerate(rows):
            assert ('class="goldmark"' in row) == (index in record["gold"])
            says = re.findall(r'class="m says m(\d)">(.*?)</div>', row, flags=re.DOTALL)
            for (place, said), name in zip(says, order, strict=True):
                entry = record["methods"][name]
                assert order[int(place)] == name
                rank = 1 + sum(other > entry["scores"][index] for other in entry["scores"])
                assert f"#{rank}<" in said
                kept = re.search(r'class="mark yes ([^"]*)"', said)
                ks = [k for k in ("1", "3") if index in entry["at"][k]["kept"]]
                assert kept is not None
                assert kept[1].split() == [f"k{('1', '3').index(k)}" for k in ks]
        for name in order:
            for k in ("1", "3"):
                entry = record["methods"][name]["at"][k]
                assert f"{entry['answer']}</p><small>F1 {entry['f1']:.2f}, from {k} passage" in article


def test_hostile_text_is_text(tmp_path: Path) -> None:
    records = make_records(8, SOME, (1, 3))
    for index, record in enumerate(records):
        words = HOSTILE[index % len(HOSTILE)]
        record.update(question=words, answer=words, draft=words, id=f"{index}{words}", kind=words)
        record["passages"][0] = {"title": words, "text": words}
        record["passages"][1] = {"title": None, "text": words}
        for method in record["methods"].values():
            for entry in method["at"].values():
                entry["answer"] = words
    records[0]["methods"]["at2"].update(scores=None, fell_back=True)
    results = make_results(records)
    results["config"]["model"] = HOSTILE[0]
    results["config"]["data"]["name"] = HOSTILE[1]
    run = write_run(tmp_path / "run", records, results)
    path = write_report(run)
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert page.open == []
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "alert" not in page.text["script"]
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "{{ 7 * 7 }}" in html
    assert not re.search("[\x00-\x08\u202a-\u202e\u2028\ud800-\udfff]", html)
    assert "the first k passages were kept." in html
    assert "T" * 5000 in html


def test_a_passage_without_a_title_is_shown_once_when_it_is_opened() -> None:
    records = make_records(4, SOME, (1, 3))
    for record in records:
        record["passages"][0] = {"title": None, "text": "the first words and the rest"}
    html = report_page(make_results(records, faithfulness=False), records)
    summary = re.search(r"<summary[^>]*>((?:(?!</summary>).)*the first words.*?)</summary>", html)
    assert summary is not None
    assert re.findall(r'<span class="(\w+)">([^<]*)</span>', summary[1]) == [
        ("closed", "the first words and the rest"),
        ("opened", "untitled"),
    ]
    assert ".sources details[open] .closed, .sources details:not([open]) .opened { display: none; }" in html


def test_two_hundred_questions_and_every_method(tmp_path: Path) -> None:
    records = make_records(250)
    html = report_page(make_results(records[:40]), records)
    assert len(html) < 6_000_000
    assert html.count("<article") == 20
    assert all(f'id="m{index}"' in html for index in range(len(METHODS)))
    assert all(f'id="k{index}"' in html for index in range(len(KS)))


def test_no_pruning_alone_makes_a_page() -> None:
    records = make_records(4, (), ())
    assert "<article" not in report_page(make_results(records, faithfulness=False), records)


def test_a_folder_without_a_run_is_refused(results: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"results\.json"):
        write_report(tmp_path)
    run = write_run(tmp_path / "run", [], results)
    (run / "questions.jsonl").write_text("{")
    with pytest.raises(DataError, match=r"questions\.jsonl"):
        write_report(run)


@pytest.mark.slow
def test_browser_runs_the_script_that_the_policy_allows(
    results: dict[str, Any], records: list[dict[str, Any]], tmp_path: Path
) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium to look at the page with")
    path = write_report(write_run(tmp_path / "run", records, results))
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    flags += "--disable-sync --disable-component-update --virtual-time-budget=2000"
    done = subprocess.run(
        [browser, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    heads = re.findall(r"<th scope=\"col\">(.*?)</th>", done.stdout)
    assert heads
    assert all(head.startswith('<button type="button">') for head in heads)
