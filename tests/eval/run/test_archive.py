"""A run that went through an archive is what it was."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from at2_prune.datasets import Question
from at2_prune.errors import DataError
from at2_prune.scorers import BM25Scorer, RandomScorer
from at2_prune_eval import CachedLoop, Experiment, Workers, evaluate
from at2_prune_eval.records import TEXT
from at2_prune_eval.run.archive import write_archive

from ..conftest import KS, Calls


def run(loop: CachedLoop, questions: list[Question], out: Path, **options: Any) -> dict[str, Any]:
    experiment = Experiment([BM25Scorer(), RandomScorer()], questions, KS, {"name": "sample"})
    return evaluate(loop, experiment, out, Workers(**options))


def unpacked(archive: Path, folder: Path) -> Path:
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    return folder


def test_a_run_comes_back_whole(loop: CachedLoop, questions: list[Question], tmp_path: Path, calls: Calls) -> None:
    results = run(loop, questions, tmp_path / "run")
    first = write_archive(tmp_path / "run", tmp_path / "docs" / "run.tar.gz")
    again = unpacked(first, tmp_path / "again")
    text = "".join(path.read_text() for path in again.iterdir())
    for question in questions:
        assert question.id in text
        assert question.text not in text
        assert all(passage.text not in text for passage in question.passages)
    before = calls.passes
    assert run(loop, questions, again) == results
    assert calls.passes == before
    lines = [[json.loads(line) for line in (folder / "questions.jsonl").open()] for folder in (tmp_path / "run", again)]
    assert lines[0] == lines[1]
    assert all({*TEXT} < {*line} for line in lines[1])
    assert write_archive(again, tmp_path / "second.tar.gz").read_bytes() == first.read_bytes()


def test_a_run_goes_on_from_an_archive(loop: CachedLoop, questions: list[Question], tmp_path: Path) -> None:
    def stop(record: dict[str, Any], resumed: bool) -> None:
        raise KeyboardInterrupt

    whole = run(loop, questions, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(loop, questions, tmp_path / "cut", progress=stop)
    (tmp_path / "cut" / "questions.jsonl").open("a").write('{"id": "torn')
    again = unpacked(write_archive(tmp_path / "cut", tmp_path / "cut.tar.gz"), tmp_path / "again")
    resumed: list[bool] = []
    assert run(loop, questions, again, progress=lambda record, old: resumed.append(old)) == whole
    assert resumed == [True] + [False] * (len(questions) - 1)


def test_no_run_no_archive(tmp_path: Path) -> None:
    for content in (None, "not JSON\n"):
        if content:
            (tmp_path / "questions.jsonl").write_text(content)
        with pytest.raises(DataError, match=str(tmp_path)):
            write_archive(tmp_path, tmp_path / "out.tar.gz")
        assert not (tmp_path / "out.tar.gz").exists()
