from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest

from at2_prune.passages import Passage
from at2_prune.pruning.results import PruneResult
from at2_prune.report import terminal_report
from at2_prune.report.terminal import _cells, wants_color
from at2_prune.report.text import name_of, number

sys.path.insert(0, str(Path(__file__).parent))

from made_reports import CONTROL, made_result


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
