"""The bar shows the F1 so far of all questions, those of an earlier run among them."""

from __future__ import annotations

from typing import Any

import pytest

from at2_prune_eval import ProgressBar


def record(none: float, pruned: float) -> dict[str, Any]:
    at = {k: {"f1": value} for k, value in (("1", 0.0), ("2", pruned), ("5", 0.0))}
    return {"methods": {"none": {"at": {"all": {"f1": none}}}, "bm25": {"at": at}}}


def test_running_f1(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar(3, [5, 1, 2], "bm25") as bar:
        bar(record(1.0, 0.5), True)
        bar(record(0.0, 1.0), False)
        bar(record(0.25, 0.0), False)
    last = capsys.readouterr().err.split("\r")[-1]
    assert "3/3" in last
    assert "F1 none 0.417, bm25@2 0.500" in last


def test_one_bar_for_all_processes(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar(1, [1], "bm25", shown=False) as bar:
        bar(record(1.0, 0.5), False)
    assert capsys.readouterr().err == ""
