"""The version is written in one place; the files that repeat it agree."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from at2_prune import __version__

ROOT = Path(__file__).parents[2]


def test_the_changelog_begins_with_this_version() -> None:
    versions = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert versions[0] == __version__


def test_the_citation_names_this_version_and_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert [reference["title"] for reference in citation["references"]] == ["Learning to Attribute with Attention"]
