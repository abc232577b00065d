"""Scout: the question's rows on the keys of passages that were read alone, with learned coefficients."""

from __future__ import annotations

import os
import weakref

import torch

from ..coefficients.scout_coefficients import ScoutCoefficients
from ..errors import InputError
from ..models.language_model import LanguageModel
from ..passage_index.features import best_units, link_features, question_features, question_sums
from ..passage_index.index import PassageIndex, check_index
from ..passage_index.records import Precision
from ..passage_index.sources import source_units
from .base import Scorer, ScorerOptions, Task

__all__ = ["CANDIDATES", "ScoutScorer"]

CANDIDATES = 20
"""The number of sources that are compared by their links. Those with lower first scores rank after them."""


class ScoutScorer(Scorer):
    """Scores sources by the attention of the question's rows to the kept keys of passages; see docs/method.md.

    A passage is read once, alone, and its keys are kept in the index. Scoring then runs the question's tokens only. The
    number of passages is not limited by the model's context, and their order does not matter.

    Args:
        coefficients: learned coefficients of the model.
        index: a folder in which the index is kept; by default it is kept in memory, for all scorers of the process.
        precision: the precision of the kept vectors.
    """

    name = "scout"
    reads_prompt = False

    def __init__(
        self,
        coefficients: ScoutCoefficients,
        index: str | os.PathLike[str] | None = None,
        precision: Precision = "int8",
    ) -> None:
        self.coefficients = coefficients
        self.folder = index
        self.precision: Precision = precision
        self._indexes: weakref.WeakKeyDictionary[LanguageModel, PassageIndex] = weakref.WeakKeyDictionary()

    @classmethod
    def create(cls, name: str, options: ScorerOptions, **settings: object) -> ScoutScorer:
        return cls(_of_scout(options.coefficients["scout"]), options.index)

    def index(self, language_model: LanguageModel) -> PassageIndex:
        """Return the index of a model.

        Raises:
            InputError: the folder holds the index of another model or of other settings.
            CacheError: the folder cannot be read or written.
        """
        if language_model not in self._indexes:
            layers, linked = self.coefficients.layers, self.coefficients.link_layers
            if self.folder is None:
                found = PassageIndex(language_model, layers, linked, self.precision)
            else:
                found = PassageIndex.open(self.folder, language_model, layers, linked, self.precision)
            self._indexes[language_model] = found
        return self._indexes[language_model]

    def check(self) -> None:
        if self.folder is not None:
            check_index(self.folder, self.coefficients.layers, self.coefficients.link_layers, self.precision)

    def open(self, language_model: LanguageModel) -> None:
        if self.folder is not None:
            self.index(language_model)

    def score(self, task: Task) -> torch.Tensor:
        index = self.index(task.language_model)
        prompt = task.prompt
        units, sources = source_units(index, task.passages, prompt.source_passage, prompt.source_texts)
        scores = torch.full((len(prompt.source_texts),), -torch.inf, dtype=torch.float64)
        if units:
            question = index.question(task.question)
            sums = question_sums(question, units)
            first = self.coefficients.first_scores(question_features(sums))
            ranked = sorted(best_units(first, sources), key=lambda unit: -float(first[unit]))
            candidates = sorted(ranked[:CANDIDATES])
            some, softcaps = [units[i] for i in candidates], index.softcaps(question)
            found = self.coefficients.score(
                question_features(sums.of(candidates)), lambda chosen: link_features(some[chosen], some, softcaps)
            )
            for unit, value in zip(candidates, found.tolist(), strict=True):
                scores[sources[unit]] = value
            lowest, highest = float(found.min()), float(first[ranked[0]])
            for unit in ranked[CANDIDATES:]:
                scores[sources[unit]] = lowest - 1 - (highest - float(first[unit]))
        return scores.nan_to_num(neginf=float(scores[scores.isfinite()].min()) - 1 if units else 0.0).float()

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_indexes"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._indexes = weakref.WeakKeyDictionary()


def _of_scout(coefficients: object) -> ScoutCoefficients:
    if not isinstance(coefficients, ScoutCoefficients):
        raise InputError(
            "the method scout needs coefficients of the passage index, but head coefficients were given: use them with "
            "the method prompt_scout, or train new ones with at2-prune train-scout"
        )
    return coefficients
