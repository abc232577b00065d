"""The data and the settings of a training run. Checks find settings that contradict each other."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..attention.rows import DRAFT_ROWS, RowGroup
from ..datasets import Question
from ..errors import DataError, InputError, need_package
from ..models.language_model import LanguageModel
from .collect import CollectSettings
from .evidence import EvidenceSettings
from .fit import FitSettings

__all__ = ["EVIDENCE_ROWS", "TrainingData", "TrainingSettings", "example_settings"]

EVIDENCE_ROWS = (RowGroup("question"), RowGroup("question", "max"), RowGroup("sources"), RowGroup("sources", "max"))
"""The row groups for learning from evidence. No draft is needed to read them."""
LATER_SETTINGS = {"learn_from": "draft", "layers": None, "thoughts": False}
"""Settings that older versions did not record in example stores, each with the value that those versions used."""


@dataclass(frozen=True)
class TrainingData:
    """The questions of a training run, and their description for the records of the run.

    Raises:
        DataError: two questions have the same id.
    """

    questions: Sequence[Question]
    """Learning from evidence needs questions with supporting passages. Learning from answers needs questions with
    answers. Learning from ablations of drafts needs neither."""
    name: str
    """The name of the data, which is recorded."""
    selection: Mapping[str, Any] = field(default_factory=dict)
    """The options of `at2-prune train` that chose the questions: `split`, `ids`, `limit`, `shuffle_passages`. They are
    recorded, and they become part of the command on the model card. `None` means that an option is absent."""
    examples: str | os.PathLike[str] | None = None
    """The folder of an earlier run. Its examples are used, and new examples are added to it. By default, it is the
    folder of this run."""

    def __post_init__(self) -> None:
        ids = [question.id for question in self.questions]
        if len(set(ids)) != len(ids):
            raise DataError(f"{self.name}: question ids repeat ({next(i for i in ids if ids.count(i) > 1)!r})")

    @property
    def given_selection(self) -> dict[str, Any]:
        """The options of `selection` that were given."""
        return {name: value for name, value in self.selection.items() if value is not None}


@dataclass(frozen=True)
class TrainingSettings:
    """The settings with which head coefficients are learned."""

    collect: CollectSettings = field(default_factory=CollectSettings)
    """The settings with which examples are collected: the supervision, the number of ablations and others."""
    fit: FitSettings = field(default_factory=FitSettings)
    """The settings of the fit to ablations."""
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)
    """The settings of the fit to evidence."""
    row_groups: Sequence[RowGroup] = ()
    """The row groups to learn coefficients for. The default is the draft's rows for ablations and `EVIDENCE_ROWS` for
    evidence."""
    holdout: float = 0.15
    """The share of the questions that is held out to measure the coefficients on, at least 0 and less than 1."""

    @property
    def from_evidence(self) -> bool:
        """Return whether coefficients are learned from supporting passages and not from ablations."""
        return self.collect.learn_from == "evidence"

    def resolved(self, depth: int | None) -> TrainingSettings:
        """Return the settings with every default filled in for one model.

        Args:
            depth: the number of layers of the model, or None if the number is unknown.

        Raises:
            InputError: two settings contradict each other, or a value is out of range.
        """
        groups = tuple(self.row_groups or (EVIDENCE_ROWS if self.from_evidence else (DRAFT_ROWS,)))
        collect = self.collect
        if self.from_evidence:
            if collect.thoughts:
                raise InputError(
                    "thoughts=True cannot be used with learn_from='evidence', because no data names supporting "
                    "thoughts: set learn_from='draft' or thoughts=False"
                )
            collect = replace(collect, ablations=0)
            if collect.layers is None and depth and all(group.rows != "draft" for group in groups):
                collect = replace(collect, layers=tuple(range(max(1, depth // 3))))
            _check_layers(collect.layers, depth)
        else:
            _check_ablations(collect, groups)
        if not 0 <= self.holdout < 1:
            raise InputError(f"holdout must be at least 0 and less than 1, got {self.holdout}")
        return replace(self, collect=collect, row_groups=groups)

    def check_packages(self) -> None:
        """Raise `MissingExtraError` if a package is missing that a later step of the run needs."""
        if self.holdout and not self.from_evidence:
            need_package("scipy", "train", "Measuring fidelity")
        if self.collect.thoughts or "sentence" in (self.collect.granularity, self.collect.targets):
            need_package("sentencex", "sentences", "Splitting texts into sentences")

    def check_questions(self, questions: Sequence[Question], name: str) -> None:
        """Check that at least one question has the supporting passages or the answer that training needs.

        Call this before a model is loaded.

        Args:
            questions: the questions.
            name: the name of the data, which the error shows.

        Raises:
            DataError: training needs supporting passages or answers, and no question has any.
        """
        if self.from_evidence and not any(question.gold for question in questions):
            raise DataError(
                f"{name}: no question names its supporting passages, which learning from evidence needs; use other "
                "data, or learn from the draft"
            )
        if self.collect.learn_from == "answer" and not any((question.answer or "").strip() for question in questions):
            raise DataError(f"{name}: no question has an answer to learn from; use other data, or learn from the draft")

    def holds_out(self, question_id: str) -> bool:
        """Return whether a question is held out. A hash of its id decides, so all runs hold out the same questions."""
        return int(hashlib.sha256(question_id.encode()).hexdigest()[:8], 16) / 2**32 < self.holdout


def _check_layers(layers: tuple[int, ...] | None, depth: int | None) -> None:
    if layers is not None and not (layers and all(0 <= layer < (depth or layer + 1) for layer in layers)):
        allowed = "indices of layers" if depth is None else f"indices below {depth}"
        raise InputError(f"layers must be {allowed}, got {list(layers)}")


def _check_ablations(collect: CollectSettings, groups: Sequence[RowGroup]) -> None:
    """Check settings that learn from ablations."""
    if any(group.rows == "sources" for group in groups):
        raise InputError(
            "the row group 'sources' can be learned from evidence only: remove it, or set learn_from='evidence'"
        )
    if collect.layers is not None:
        raise InputError(
            "the option layers needs learn_from='evidence', because ablations run all layers: remove layers, or set "
            "learn_from='evidence'"
        )
    if collect.learn_from == "answer" and collect.targets == "sentence":
        raise InputError(
            "targets='sentence' cannot be used with learn_from='answer', which measures the whole known answer: set "
            "targets='draft' or learn_from='draft'"
        )
    if collect.thoughts and collect.learn_from == "answer":
        raise InputError(
            "thoughts=True cannot be used with learn_from='answer', because the thoughts lead to the model's own "
            "answer: set learn_from='draft' or thoughts=False"
        )
    if collect.ablations < 2:
        raise InputError(f"ablations must be at least 2 (a correlation needs two points), got {collect.ablations}")


def example_settings(language_model: LanguageModel, data: TrainingData, collect: CollectSettings) -> dict[str, Any]:
    """Return all settings that shape an example, as JSON values. An example store compares and records them."""
    settings = {
        "model": language_model.name,
        "dtype": str(language_model.model.dtype).removeprefix("torch."),
        "prompt": language_model.template.name,
        "data": data.name,
    }
    for name, value in asdict(collect).items():
        if name not in LATER_SETTINGS or value != LATER_SETTINGS[name]:
            settings[name] = value
    if "shuffle_passages" in data.given_selection:  # the other options choose questions, but do not change them
        settings["shuffle_passages"] = data.given_selection["shuffle_passages"]
    return settings
