"""Defaults and checks of a training run, and example stores that an earlier version wrote."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from at2_prune.attention.rows import DRAFT_ROWS, RowGroup
from at2_prune.datasets import Question
from at2_prune.errors import DataError, InputError
from at2_prune.models.language_model import LanguageModel
from at2_prune.training import CollectSettings, ExampleStore, FitSettings, TrainingData, TrainingSettings, train
from at2_prune.training.settings import example_settings

FROM_DRAFTS = """{
  "model": "tiny-random-llama",
  "dtype": "float32",
  "prompt": "text-v1",
  "data": "sample.jsonl",
  "ablations": 4,
  "granularity": "passage",
  "targets": "draft",
  "positions": "kept",
  "max_new_tokens": 6,
  "seed": 0
}
"""
SHUFFLED = FROM_DRAFTS.replace('"sample.jsonl"', '"data/sample.jsonl"').replace(
    '"seed": 0\n', '"seed": 0,\n  "learn_from": "answer",\n  "shuffle_passages": 7\n'
)


@pytest.fixture(scope="module")
def questions(sample_questions: list[Question]) -> list[Question]:
    return [replace(question, passages=question.passages[:3], gold=(0,)) for question in sample_questions[:2]]


@pytest.mark.parametrize(
    ("written", "data", "collect"),
    [
        (FROM_DRAFTS, {"name": "sample.jsonl"}, CollectSettings(ablations=4, max_new_tokens=6)),
        (
            SHUFFLED,
            {"name": "data/sample.jsonl", "selection": {"shuffle_passages": 7, "limit": 2, "split": None}},
            CollectSettings(ablations=4, max_new_tokens=6, learn_from="answer"),
        ),
    ],
)
def test_settings_are_those_that_version_0_1_0_wrote(
    tiny_lm: LanguageModel, questions: list[Question], tmp_path: Path, written: str, data: Any, collect: CollectSettings
) -> None:
    described = example_settings(tiny_lm, TrainingData(questions, **data), collect)
    ExampleStore(tmp_path, described)
    assert (tmp_path / "settings.json").read_text(encoding="utf-8") == written


def test_a_store_of_version_0_1_0_is_read(
    tiny_lm: LanguageModel, questions: list[Question], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files as that version wrote them, byte for byte but for the order of the metadata."""
    (tmp_path / "examples").mkdir()
    (tmp_path / "settings.json").write_text(FROM_DRAFTS, encoding="utf-8")
    generator = torch.Generator().manual_seed(0)
    outcomes = {}
    for question in questions:
        groups = ("draft", "draft-max", "question", "question-max", "last")
        tensors = {f"mass.{name}": torch.rand(1, 2, 4, 3, generator=generator) for name in groups}
        tensors["masks"] = torch.tensor([[True, False, True], [False, False, True], [True] * 3, [False, True, False]])
        tensors["outcomes"] = outcomes[question.id] = torch.randn(4, 1, generator=generator).double()
        tensors["gold"] = torch.tensor([True, False, False])
        name = hashlib.sha256(question.id.encode()).hexdigest()[:24]
        metadata = {"id": question.id, "draft": "a naïve draft", "layers": "[0, 1]"}
        save_file(tensors, tmp_path / "examples" / f"{name}.safetensors", metadata)
    before = {path: path.read_bytes() for path in (tmp_path / "examples").iterdir()}
    monkeypatch.delattr(LanguageModel, "generate")  # nothing is collected again
    settings = TrainingSettings(CollectSettings(ablations=4, max_new_tokens=6), FitSettings(steps=5), holdout=0)
    report = train(tiny_lm, TrainingData(questions, "sample.jsonl"), tmp_path, settings)
    assert (report.fitted, report.skipped) == (2, {})
    assert {path: path.read_bytes() for path in (tmp_path / "examples").iterdir()} == before
    for example in ExampleStore(tmp_path, json.loads(FROM_DRAFTS)).load([question.id for question in questions]):
        assert (example.draft, example.layers) == ("a naïve draft", [0, 1])
        assert torch.equal(example.outcomes, outcomes[example.question_id])


@pytest.mark.parametrize(
    ("collect", "rows", "says"),
    [
        ({"learn_from": "evidence"}, [DRAFT_ROWS], "learn_from must be 'draft' or 'answer', .*; at2-prune train-scout"),
        ({}, [], r"no row group has the draft's rows \(got none\): add draft to the row groups"),
        ({}, [RowGroup("question", "max"), RowGroup("last")], r"\(got question-max, last\): add draft to"),
        (
            {"learn_from": "answer", "targets": "sentence"},
            [DRAFT_ROWS],
            "targets='sentence' cannot be used with learn_from=",
        ),
        ({"ablations": 1}, [DRAFT_ROWS], "ablations must be at least 2"),
    ],
)
def test_settings_that_do_not_go_together(collect: dict[str, Any], rows: list[RowGroup], says: str) -> None:
    with pytest.raises(InputError, match=says):
        TrainingSettings(CollectSettings(**collect), row_groups=rows).check()


def test_ids_that_repeat_are_refused_before_a_model_is_needed(questions: list[Question]) -> None:
    with pytest.raises(DataError, match=rf"d\.jsonl: two questions have the id '{questions[1].id}'"):
        TrainingData([*questions, questions[1]], "d.jsonl")
