"""Every code block of the README and of docs/ is run, or checked, or says why it is not run.

A comment before a block, `<!-- not run: REASON -->`, leaves the block out. `<!-- not run on this page: REASON -->`
leaves out the blocks of a page. Commands of blocks that are left out are still parsed.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from at2_prune.cli import build_parser, main
from at2_prune.datasets import Question
from at2_prune.models.language_model import LanguageModel
from at2_prune.pruning.pruner import AT2Pruner
from at2_prune.report import terminal_report

from .test_pages import removed_scripts

ROOT = Path(__file__).parents[2]
WRITTEN = {"docs/performance.md", "docs/results.md", "docs/hotpotqa/results.md", "docs/held-out/results.md"}
"""The pages that commands write, from measurements of hours."""
ELSEWHERE = {
    ("README.md", "bash"): "tests/docs/test_served_blocks.py",
    ("docs/serving.md", "bash"): "tests/server/test_serving_page.py",
    ("docs/serving.md", "python"): "tests/server/test_serving_page.py",
    ("docs/integrations.md", "python"): "tests/integrations/test_docs.py",
    ("docs/integrations.md", "yaml"): "tests/integrations/test_docs.py",
    ("docs/own-model.md", "python"): "tests/docs/test_own_model_page.py",
}
"""The blocks that need a server or a framework's objects, and the tests that run them."""
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES if page.relative_to(ROOT).as_posix() not in WRITTEN]
NOT_RUN = re.compile(r"<!-- not run: (.{6,}?) -->")


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    reason: str
    """The reason not to run the block; it is empty for a block that runs."""


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    whole = re.search(r"<!-- not run on this page: (.{6,}?) -->", text)
    found, reason = [], ""
    for token in MarkdownIt("commonmark").parse(text):
        if token.type == "html_block":
            mark = NOT_RUN.fullmatch(token.content.strip())
            reason = mark[1] if mark else ""
        elif token.type == "fence":
            found.append(Block(token.info, token.content, reason or (whole[1] if whole else "")))
            reason = ""
        elif token.type == "code_block":
            raise AssertionError(f"{page}: a block without a language: {token.content[:60]!r}")
    return found


def commands(block: Block) -> list[list[str]]:
    """Return the commands of a console block as lists of words, without variables before them."""
    joined = re.sub(r"\\\n\s*", "", block.text)
    lines = re.findall(r"^\$ (.+)$", joined, re.M)
    lines = [re.sub(r"\$\(seq 0 (\d+)\)", r"0 \1", line) for line in lines]
    split = [shlex.split(line, comments=True) for line in lines]
    return [[word for i, word in enumerate(words) if i or "=" not in word] or words[1:] for words in split]


@pytest.mark.parametrize("page", NAMES)
def test_every_block_is_run_or_says_why_not(page: str) -> None:
    before = None
    for block in blocks(page):
        if (page, block.language) in ELSEWHERE:
            assert (ROOT / ELSEWHERE[page, block.language]).is_file()
        elif block.language == "text" and not block.reason:  # the output of the block above
            assert before is not None
            assert before.language == "python"
        else:
            assert block.reason or block.language in ("python", "console", "text"), block
        before = block


def removed(words: list[str]) -> bool:
    """Return whether the research record says that the option or the script of a command was removed."""
    option = "--learn-from evidence"
    assert option in (ROOT / "docs" / "research.md").read_text(encoding="utf-8").split("## 1.")[0]
    return option in " ".join(words) or words[1] in removed_scripts()


@pytest.mark.parametrize("page", NAMES)
def test_every_command_can_be_given(page: str) -> None:
    parser = build_parser()
    for words in (words for block in blocks(page) if block.language == "console" for words in commands(block)):
        if "at2_prune" in words:
            words = ["at2-prune", *words[words.index("at2_prune") + 1 :]]
        if page == "docs/research.md" and removed(words):
            continue
        if words[0] == "at2-prune":
            parser.parse_args(words[1:])
        elif words[0] == "python" and words[1] != "-m":
            assert (ROOT / words[1]).is_file(), words
        elif words[0] == "make":
            targets = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
            assert {word for word in words[1:] if "=" not in word} <= set(targets), words
        elif words[:2] == ["pip", "install"]:
            project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
            extras = project.split("[project.optional-dependencies]")[1].split("\n[")[0]
            named = re.findall(r"\[([a-z,-]+)\]", words[-1])
            for extra in named[0].split(",") if named else ():
                assert re.search(rf"^{extra} = ", extras, re.M), words
        else:
            assert words[0] == "export" or words[:2] == ["serve", "run"] or "-m" in words, words


def expected(shown: str, printed: str) -> None:
    """Compare texts. A number may differ by one in its last digit, as it does between processors."""
    number = r"-?\d+\.\d+"
    assert re.sub(number, "#", printed).split() == re.sub(number, "#", shown).split()
    for one, other in zip(re.findall(number, shown), re.findall(number, printed), strict=True):
        digit = 10.0 ** -len(one.split(".")[1])
        assert float(one) == pytest.approx(float(other), abs=1.01 * digit), (shown, printed)


RUN_HERE = [
    page
    for page in NAMES
    if any(b.language == "python" and not b.reason and (page, "python") not in ELSEWHERE for b in blocks(page))
    and page != "README.md"
]


def run_blocks(found: list[Block]) -> None:
    """Run blocks in one namespace, and compare what each prints with the text after it."""
    names: dict[str, Any] = {}
    printed = ""
    for block in found:
        if block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(block.text, names)
            printed = out.getvalue()
        elif block.language == "text":
            expected(block.text, printed)


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN_HERE)
def test_the_blocks_of_a_page(page: str, embedded_lm: LanguageModel) -> None:
    run_blocks([block for block in blocks(page) if block.language in ("python", "text") and not block.reason])


@pytest.mark.slow
def test_the_quick_start_of_the_readme(embedded_lm: LanguageModel) -> None:
    found = blocks("README.md")
    start = next(i for i, block in enumerate(found) if block.language == "python")
    run_blocks(found[start : start + 2])
    assert len(found[start].text.strip().splitlines()) == 12


def test_commands_that_are_not_left_out_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for page in NAMES:
        for block in blocks(page):
            if block.language == "console" and not block.reason:
                for words in commands(block):
                    assert words[0] in ("make", "pip", "at2-prune"), (page, words)
                    if words[0] == "at2-prune":
                        assert main(words[1:]) == 0, words


@pytest.mark.slow
def test_the_demo_prints_what_the_quick_start_shows(
    embedded_lm: LanguageModel, sample_questions: list[Question]
) -> None:
    (shown,) = [block.text for block in blocks("docs/quick-start.md") if "F1 before  after" in block.text]
    question = sample_questions[0]
    report = terminal_report(AT2Pruner.from_pretrained().answer(question.text, question.passages, 3))
    seconds = r" +\d+\.\d+ s\b"
    first = shown.split("k = 3\n\n")[1].split("\n\nF1 before")[0]
    expected(re.sub(seconds, "", first), re.sub(seconds, "", report))
