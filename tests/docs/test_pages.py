"""Every page that a page points to is there, and says something; so are figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from at2_prune.catalogue import method_table

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_cost_of_many_documents_is_told() -> None:
    section = (
        (ROOT / "docs" / "performance.md").read_text(encoding="utf-8").split("## Many documents")[1].split("\n## ")[0]
    )
    assert re.findall(r"^\| (\d+) \| [\d,]+ \| [\d.]+ \| [\d,]+ \|$", section, re.M) == ["10", "50", "100"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(text) > 100
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    for link in links:
        target = page.parent / link
        assert target.exists(), link
        assert target.is_dir() or target.stat().st_size > 100, link


def removed_scripts() -> list[str]:
    """Return the scripts that the research record names as removed."""
    record = (ROOT / "docs" / "research.md").read_text(encoding="utf-8")
    names = re.findall(r"`(\w+\.py)`", record.split("These scripts are")[1].split("`git show")[0])
    assert not any((ROOT / "research" / name).exists() for name in names)
    return [f"research/{name}" for name in names]


def test_commands_in_the_pages_name_scripts_that_are_there() -> None:
    removed = removed_scripts()
    for page in PAGES:
        for script in re.findall(
            r"python ((?:benchmarks|research|examples|eval|docs)/\w+\.py)", page.read_text(encoding="utf-8")
        ):
            there = (ROOT / script).is_file() or (page.name == "research.md" and script in removed)
            assert there, f"{page.name}: {script}"


def test_the_page_on_evaluation_has_the_table_of_methods() -> None:
    shown = method_table() in (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    assert shown, "paste what method_table() prints into docs/evaluation.md"
