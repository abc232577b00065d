"""The data and the settings of a training run, with checks for settings that contradict each other."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

from ..attention.rows import DRAFT_ROWS, RowGroup
from ..datasets import Question
from ..errors import DataError, InputError, need_package
from ..models.language_model import LanguageModel
from .collect import CollectSettings, LearnFrom
from .fit import FitSettings

__all__ = ["TrainingData", "TrainingSettings", "check_evidence", "example_settings"]

LATER_SETTINGS = {"learn_from": "draft", "thoughts": False}
"""Settings that older versions did not record in example stores. The values are the ones that those versions used."""


@dataclass(frozen=True)
class TrainingData:
    """The questions of a training run, and the description of these questions that the run records.

    Raises:
        DataError: two questions have the same id.
    """

    questions: Sequence[Question]
    """The questions. To train scout, they need supporting passages. To learn from answers, they need answers. To learn
    from ablations of drafts, they need neither."""
    name: str
    """The name of the data. The run records this name."""
    selection: Mapping[str, Any] = field(default_factory=dict)
    """The options of the command that chose the questions, such as `split`, `limit` and `passages`. For the questions
    that come with at2-prune, the only entry is `shipped`. The run records these options, and the command on the model
    card contains them. `None` means that an option is absent."""
    examples: str | os.PathLike[str] | None = None
    """The folder with the examples of an earlier run. `train` uses these examples, and adds new examples to the folder.
    By default, the examples are in the folder of this run. `train_scout` ignores this field."""

    def __post_init__(self) -> None:
        ids = [question.id for question in self.questions]
        if len(set(ids)) != len(ids):
            raise DataError(f"{self.name}: two questions have the id {next(i for i in ids if ids.count(i) > 1)!r}")

    @property
    def given_selection(self) -> dict[str, Any]:
        """The options of `selection` that were given."""
        return {name: value for name, value in self.selection.items() if value is not None}


@dataclass(frozen=True)
class TrainingSettings:
    """The settings with which head coefficients are learned."""

    collect: CollectSettings = field(default_factory=CollectSettings)
    """The settings with which examples are collected, such as the supervision and the number of ablations."""
    fit: FitSettings = field(default_factory=FitSettings)
    """The settings of the fit to ablations."""
    row_groups: Sequence[RowGroup] = (DRAFT_ROWS,)
    """The row groups for which coefficients are learned. At least one row group must have the draft's rows."""
    holdout: float = 0.15
    """The share of questions that are held out, at least 0 and less than 1. The coefficients are measured on these
    questions."""

    def check(self) -> None:
        """Raise `InputError` if two settings contradict each other, or a value is out of range."""
        collect = self.collect
        if collect.learn_from not in get_args(LearnFrom):
            raise InputError(
                f"learn_from must be 'draft' or 'answer', got {collect.learn_from!r:.80}; at2-prune train-scout learns "
                "from supporting passages"
            )
        if not any(group.rows == "draft" for group in self.row_groups):
            names = ", ".join(group.name for group in self.row_groups)
            raise InputError(f"no row group has the draft's rows (got {names or 'none'}): add draft to the row groups")
        if collect.learn_from == "answer" and collect.targets == "sentence":
            raise InputError(
                "targets='sentence' cannot be used with learn_from='answer', which measures the whole known answer: "
                "set targets='draft' or learn_from='draft'"
            )
        if collect.thoughts and collect.learn_from == "answer":
            raise InputError(
                "thoughts=True cannot be used with learn_from='answer', because the thoughts lead to the model's own "
                "answer: set learn_from='draft' or thoughts=False"
            )
        if collect.ablations < 2:
            raise InputError(f"ablations must be at least 2 (a correlation needs two points), got {collect.ablations}")
        if not 0 <= self.holdout < 1:
            raise InputError(f"holdout must be at least 0 and less than 1, got {self.holdout}")

    def check_packages(self) -> None:
        """Raise `MissingExtraError` if a later step of the run needs a package that is not installed."""
        if self.holdout:
            need_package("scipy", "train", "Measuring fidelity")
        if self.collect.thoughts or "sentence" in (self.collect.granularity, self.collect.targets):
            need_package("sentencex", "sentences", "Splitting texts into sentences")

    def check_questions(self, questions: Sequence[Question], name: str) -> None:
        """Raise `DataError` if training needs answers and no question has an answer.

        Call this method before a model is loaded.

        Args:
            questions: the questions.
            name: the name of the data, which the error shows.
        """
        if self.collect.learn_from == "answer" and not any((question.answer or "").strip() for question in questions):
            raise DataError(f"{name}: no question has an answer to learn from; use other data, or learn from the draft")

    def holds_out(self, question_id: str) -> bool:
        """Return whether a question is held out.

        The result depends only on the hash of the question's id and on `holdout`. All runs with the same `holdout`
        therefore hold out the same questions.
        """
        return int(hashlib.sha256(question_id.encode()).hexdigest()[:8], 16) / 2**32 < self.holdout


def check_evidence(questions: Sequence[Question], name: str) -> None:
    """Raise `DataError` if no question names its supporting passages. Scout cannot be trained without such passages.

    Call this function before a model is loaded.

    Args:
        questions: the questions.
        name: the name of the data, which the error shows.
    """
    if not any(question.gold for question in questions):
        raise DataError(
            f"{name}: no question names its supporting passages, which scout learns from; use other data, or use "
            "at2-prune calibrate, which needs no labels"
        )


def example_settings(language_model: LanguageModel, data: TrainingData, collect: CollectSettings) -> dict[str, Any]:
    """Return all settings that determine an example, as JSON values. An example store records and compares these."""
    settings = {
        "model": language_model.name,
        "dtype": str(language_model.model.dtype).removeprefix("torch."),
        "prompt": language_model.template.name,
        "data": data.name,
    }
    for name, value in asdict(collect).items():
        if name not in LATER_SETTINGS or value != LATER_SETTINGS[name]:
            settings[name] = value
    if "shuffle_passages" in data.given_selection:  # other options choose questions, but do not change a question
        settings["shuffle_passages"] = data.given_selection["shuffle_passages"]
    return settings
