"""The README is short, its numbers are those of the pages behind it, and its example prints what it says."""

from __future__ import annotations

import re
from pathlib import Path

from at2_prune_eval.study.cells import read_cells
from at2_prune_eval.study.short import END, START, key_of, short_table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
INTERVAL = r"[-+]?\d\.\d{3} \[[-+]?\d\.\d{3}, [-+]?\d\.\d{3}\]"


def test_the_readme_is_short() -> None:
    shown = re.sub(r"<!--.*?-->", "", README)
    words = [word for word in shown.split() if re.search(r"\w", word)]  # not the lines of tables
    assert len(words) <= 700


def test_the_numbers_of_the_readme_are_those_of_the_pages() -> None:
    section = README.split("## Results")[1].split("\n## ")[0]
    found = re.findall(INTERVAL, section)
    assert len(found) == 19
    pages = {name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("findings", "results")}
    for estimate in found:
        assert estimate in pages["findings"], estimate
        assert estimate in pages["results"], estimate


def test_the_table_of_the_readme_is_that_of_the_results() -> None:
    """`python -m at2_prune_eval.study docs/results.json docs/results.md --short README.md --columns ...` writes it."""
    cells = read_cells(ROOT / "docs" / "results.json")
    columns = [key_of(name, cells) for name in ("scout@2", "scout@3", "scout_dense@2", "scout_dense@3")]
    assert README.split(START)[1].split(END)[0].strip() == short_table(cells, columns)


def test_the_costs_of_the_readme_are_those_of_the_performance_page() -> None:
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    kept = re.findall(r"scoring ten passages that the index holds.*?\| ([\d.]+) \|", page)[0]
    new = re.findall(r"scoring ten new passages.*?\| ([\d.]+) \|", page)[0]
    rival = re.findall(r"scoring ten kept passages, over a cross-encoder.*?\| ([\d.]+) \|", page)[0]
    assert f"{float(kept):.3f} if indexed, else {float(new):.3f}" in README
    assert f"{1 / float(rival):.1f} times indexed" in README


def test_the_readme_holds_the_two_commands() -> None:
    assert re.search(r"^\$ make demo", README, re.M)
    assert re.search(r"^\$ make test", README, re.M)
