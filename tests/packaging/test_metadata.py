"""What a package index shows: links that lead somewhere, no formulas in TeX, the Pythons that are tested."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

pytest.importorskip("hatch_fancy_pypi_readme", reason="the build makes the README's links absolute with it")

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/at2-prune/at2-prune"
PLACES = {"a": f"{REPOSITORY}/blob/main/", "img": "https://raw.githubusercontent.com/at2-prune/at2-prune/main/"}


@cache
def metadata() -> dict[str, Any]:
    command = [sys.executable, "-m", "hatchling", "metadata"]
    found: dict[str, Any] = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    return found


def links(text: str) -> list[tuple[str, str]]:
    """The tag and the target of every link and picture of a Markdown text."""
    tokens = [child for token in MarkdownIt("commonmark").parse(text) for child in token.children or ()]
    found = [(token.tag, token.attrs.get("href") or token.attrs.get("src")) for token in tokens]
    return [(tag, str(target)) for tag, target in found if target]


def test_links_of_the_description_lead_into_the_repository() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    described = metadata()["readme"]
    assert described["content-type"] == "text/markdown"
    shown, written = links(described["text"]), links(readme)
    assert len(shown) == len(written) > 10
    assert {tag for tag, _ in shown} == {"a", "img"}
    for (tag, target), (_, source) in zip(shown, written, strict=True):
        if re.match(r"https?://|#", source):
            assert target == source
        else:
            assert target == PLACES[tag] + source
            assert (ROOT / source).exists()


def test_the_readme_has_no_formulas_in_tex() -> None:
    """A package index would show their source."""
    text = re.sub(r"```.*?```|`[^`]*`", "", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert re.findall(r"\$[^\s$][^$]*\$", text) == []


def test_urls_and_authors_are_named() -> None:
    found = metadata()
    assert {"Homepage", "Documentation", "Repository", "Issues", "Changelog"} <= set(found["urls"])
    assert all(url.startswith(REPOSITORY) for url in found["urls"].values())
    assert found["authors"] == [{"name": "The at2-prune developers"}]


def test_the_pythons_that_are_named_are_tested() -> None:
    named = {found[1] for line in metadata()["classifiers"] if (found := re.fullmatch(r".*Python :: (3\.\d+)", line))}
    matrix = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]["test"]["strategy"]
    tested = {*matrix["matrix"]["python"], *(one["python"] for one in matrix["matrix"]["include"])}
    assert named == tested
    assert metadata()["requires-python"] == f">={min(named, key=lambda one: int(one[2:]))}"


def test_pins_and_newest_versions_are_tested() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["constraints"] == ["constraints.txt"]
    assert [step["run"] for step in jobs["newest"]["steps"] if "run" in step] == ["make test CONSTRAINTS="]


def test_the_load_that_the_page_describes_is_put_on_a_server() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    lines = [step["run"] for step in jobs["load"]["steps"] if "benchmarks/" in step.get("run", "")]
    page = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
    assert len(lines) == 2
    for line in lines:
        assert f"`{line.removeprefix('.venv/bin/')}`" in page


def test_the_clients_of_other_services_are_installed_for_tests() -> None:
    tested = (ROOT / "tests/server/test_clients.py").read_text(encoding="utf-8")
    named = set(re.findall(r'reason="pip install ([\w-]+)"', tested))
    assert len(named) == 8
    assert named <= {*metadata()["optional-dependencies"]["dev"]}


def test_the_tests_run_on_several_cores() -> None:
    shown = subprocess.run(["make", "-n", "test"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert re.search(r"pytest -n 2 --dist loadfile", shown)


def test_the_readme_says_what_pytorch_costs_and_how_to_have_it_smaller() -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Install")[1].split("\n## ")[0]
    assert "GB" in section
    install = re.findall(r"^\$ (pip install .*?)(?:  +#.*)?$", section, re.M)
    assert install == [
        'pip install "at2-prune[embedded]"',
        "pip install -c constraints.txt torch --index-url https://download.pytorch.org/whl/cpu",
        'pip install -c constraints.txt -e ".[embedded]"',  # after it, so that it finds PyTorch of the pinned version
    ]
