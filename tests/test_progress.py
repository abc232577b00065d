"""Progress bars are shown at a terminal, and everywhere or nowhere if the environment says so."""

from __future__ import annotations

import io
import sys

import pytest

from at2_prune.errors import InputError
from at2_prune.passages import as_passages
from at2_prune.pipeline.config import PruneConfig
from at2_prune.progress import AFTER, progress
from at2_prune.pruning.pruner import AT2Pruner


@pytest.mark.parametrize(("value", "bar"), [("", False), ("off", False), ("on", True), (" ON ", True)])
def test_the_environment_asks_for_a_bar(
    value: str, bar: bool, tiny_pruner: AT2Pruner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AT2_PRUNE_PROGRESS", value)
    tiny_pruner.language_model.model.config.max_position_embeddings = 600
    try:
        tiny_pruner.score("Which river?", as_passages(["Dinant lies on the Meuse, in Namur. " * 12] * 4))
    finally:
        tiny_pruner.language_model.model.config.max_position_embeddings = 4096
    out, err = capsys.readouterr()
    assert out == ""
    assert ("drafting from windows" in err) == bar
    assert PruneConfig.load() == PruneConfig()  # it is no setting of pruning


def test_work_past_a_few_seconds_shows_a_bar_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def shown(after: float, stream: io.StringIO) -> bool:
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr("at2_prune.progress.AFTER", after)
        assert list(progress([1, 2, 3], "reading")) == [1, 2, 3]
        return "reading" in stream.getvalue()

    assert AFTER <= 5
    assert shown(0, Terminal())
    assert not shown(60, Terminal())  # work that is done before
    assert not shown(0, io.StringIO())  # a log file


def test_another_value_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AT2_PRUNE_PROGRESS", "loud")
    with pytest.raises(InputError, match="AT2_PRUNE_PROGRESS must be on or off, got 'loud'"):
        list(progress([1, 2], "reading"))
    assert list(progress([1], "reading")) == [1]
