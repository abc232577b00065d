"""The README's example prints what the README says it prints."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

from at2_prune.models.language_model import LanguageModel
from at2_prune.report.text import steps_of

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.slow
def test_the_sixty_second_example(embedded_lm: LanguageModel) -> None:
    section = README.read_text(encoding="utf-8").split("## In 60 seconds")[1].split("\n## ")[0]
    code = re.findall(r"```python\n(.*?)```", section, re.S)[0]
    expected = re.findall(r"```text\n(.*?)```", section, re.S)[0]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        names: dict[str, Any] = {}
        exec(code, names)
    demo = README.read_text(encoding="utf-8").split("`make demo` prints:")[1]
    steps = re.findall(r"\nTime\n  (.*)\n", demo)[0]
    assert re.sub(r" [0-9.]+ s", "", steps).split(", ") == [step for step, _ in steps_of(names["result"])]
    answer, numbers = printed.getvalue().strip().split(" [", 1)
    said, shown = expected.strip().split(" [", 1)
    assert answer == said
    kept, scores = numbers.split("] [")
    expected_kept, expected_scores = shown.split("] [")
    assert kept == expected_kept
    assert [float(x) for x in scores.rstrip("]").split(",")] == pytest.approx(
        [float(x) for x in expected_scores.rstrip("]").split(",")], abs=2e-4
    )
