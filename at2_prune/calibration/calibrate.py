"""Calibrates a model: learns the coefficients of the method scout, and fits a calibration of scout's scores.

The calibration gives, for each passage, the probability that the passage is evidence; see `coefficients.calibration`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..coefficients.calibration import Calibration
from ..coefficients.scout_coefficients import ScoutCoefficients
from ..datasets import Question
from ..encoders.embedder import Embedder
from ..errors import CoefficientsError, DataError
from ..files import user_path
from ..models.bfloat16 import bfloat16_copy
from ..models.language_model import LanguageModel
from ..passage_index.index import PassageIndex
from ..passage_index.stores import MemoryStore
from ..training.examples import ExampleStore
from ..training.probabilities import calibration_of_scores, score_examples
from ..training.scout import MEMORY, train_scout
from ..training.scout_examples import collect_scout
from ..training.scout_fit import ScoutSettings
from ..training.settings import TrainingData

__all__ = ["CalibrationReport", "calibrate", "check_enough", "recalibrate"]

PENALTY = 0.3
"""The L2 penalty of the fits. A calibration has few questions, so this penalty is larger than the default penalty of
`ScoutSettings`; see docs/research.md."""
LEAST_QUESTIONS = 10
"""The minimum number of questions that a calibration needs."""


@dataclass(frozen=True)
class CalibrationReport:
    """The result of a calibration."""

    coefficients: ScoutCoefficients
    questions: int
    """The number of questions that the calibration used."""

    @property
    def measured(self) -> dict[str, Any]:
        """The cross-validated measures; see `training.probabilities.measure_calibration`."""
        calibration = self.coefficients.calibration
        return {} if calibration is None else dict(calibration.measured)


def calibrate(
    language_model: LanguageModel,
    data: Sequence[TrainingData],
    out: str | os.PathLike[str],
    progress: Callable[[], None] = lambda: None,
    embedder: str | None = None,
) -> CalibrationReport:
    """Learn the coefficients of scout for a model, fit the calibration of the scores, and save both.

    All questions are used for the coefficients. The measures in the report, such as the recall, are cross-validated in
    five folds. Each question is scored by coefficients that were learned from the other folds.

    A float32 model on the CPU is copied to bfloat16 if bfloat16 holds every weight exactly and the processor is faster
    in bfloat16; see `bfloat16_copy`. The copy then reads the passages. If a call is interrupted, the next call
    continues where the interrupted call stopped.

    Args:
        language_model: any model whose attention can be read.
        data: one or more data sets of questions with supporting passages, for example `[shipped_data()]`.
        out: the folder for the coefficients.
        progress: a function that is called after every question.
        embedder: an embedder. With an embedder, the coefficients are those of the method scout_dense.

    Raises:
        DataError: fewer than ten questions can be used.
        InputError: the embedder cannot be loaded.
        ModelNotSupportedError: the model's attention cannot be read.
        CacheError: a file cannot be written.
    """
    check_enough([question for one in data for question in one.questions])
    settings = ScoutSettings(penalty=PENALTY, holdout=0, embedder=embedder)
    report = train_scout(bfloat16_copy(language_model), data, out, settings, progress)
    return CalibrationReport(report.coefficients, report.fitted)


def recalibrate(
    language_model: LanguageModel,
    coefficients: ScoutCoefficients,
    questions: Sequence[Question],
    name: str,
    out: str | os.PathLike[str],
    progress: Callable[[], None] = lambda: None,
    embedder: Embedder | None = None,
) -> CalibrationReport:
    """Fit the calibration of the scores to a user's own questions. Save the given coefficients with this calibration.

    The coefficients themselves do not change. They must not have been learned from these questions.

    Args:
        language_model: the model that the coefficients were made for.
        coefficients: the coefficients.
        questions: at least ten questions with supporting passages.
        name: the name of the questions. It is recorded with the coefficients.
        out: the folder for the coefficients and the examples.
        progress: a function that is called after every question.
        embedder: the embedder that the coefficients were learned with. It is needed only if the coefficients have a
            weight for the embedder's cosine.

    Raises:
        DataError: fewer than ten questions can be used.
        CoefficientsError: the coefficients need an embedder, and none is given.
        CacheError: a file cannot be written.
    """
    check_enough(questions)
    if coefficients.cosine is not None and embedder is None:
        raise CoefficientsError(
            f"these coefficients need the embedder {coefficients.cosine.embedder}: give it as embedder"
        )
    layers, linked = coefficients.layers, coefficients.link_layers
    index = PassageIndex(language_model, layers, linked, store=MemoryStore(MEMORY), embedder=embedder)
    settings = {"method": coefficients.method, "recalibrated": name, "model": language_model.name}
    settings |= {} if embedder is None else {"embedder": embedder.fingerprint}
    store = ExampleStore(out, {**settings, "layers": list(layers)})
    collect_scout(index, questions, store, progress)
    examples = list(store.load([question.id for question in questions]))
    scored = score_examples(coefficients, [e for e in examples if bool(e.gold.any()) and not bool(e.gold.all())])
    _check_enough(len(scored))
    found: Calibration = calibration_of_scores(scored)
    training = {**coefficients.training, "recalibrated_on": {"data": name, "questions": len(scored)}}
    result = replace(coefficients, calibration=found, training=training)
    result.save_pretrained(user_path(out))
    return CalibrationReport(result, len(scored))


def check_enough(questions: Sequence[Question]) -> None:
    """Check that enough questions have both supporting passages and other passages. The check needs no model.

    Raises:
        DataError: fewer than ten questions have both kinds of passages.
    """
    _check_enough(sum(0 < len(set(question.gold)) < len(question.passages) for question in questions))


def _check_enough(count: int) -> None:
    if count < LEAST_QUESTIONS:
        raise DataError(
            f"calibration needs at least {LEAST_QUESTIONS} questions with both supporting passages and other passages, "
            f"got {count}"
        )
