"""Scout: score passages by the attention from the question's tokens to the passages.

Learned coefficients weight the attention of each head. The model reads each passage alone, without the question and the
other passages.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping

import torch

from ..coefficients.calibration import Calibration
from ..coefficients.scout_coefficients import ScoutCoefficients
from ..encoders.embedder import Embedder
from ..errors import CoefficientsError, InputError
from ..models.language_model import LanguageModel
from ..passage_index.encoder import LayerRows
from ..passage_index.features import best_units, link_features, question_features, question_sums
from ..passage_index.index import PassageIndex, check_index
from ..passage_index.records import DEFAULT_PRECISION, Precision
from ..passage_index.sources import source_units
from .base import Judgement, Scorer, ScorerOptions, Task

__all__ = ["CANDIDATES", "ScoutScorer"]

CANDIDATES = 20
"""The maximum number of sources that get a full score, which includes the links between sources. A source's first score
is its logit in the first choice; see `ScoutCoefficients`. The sources with the highest first scores get a full score.
All other sources rank after them, in the order of their first scores."""


class ScoutScorer(Scorer):
    """Scores sources by the attention from the question's tokens to the stored keys of passages; see docs/method.md.

    The model reads each passage once, alone, and the passage's keys are stored in the index. To score, the model runs
    only the question's tokens. The model's context does not limit the number of passages, and the order of the passages
    does not matter. The score of a sentence is a share of its passage's score. The shares of a passage's sentences are
    the softmax of the sentences' first scores.

    The method scout_dense is the same, with one more feature: the cosine of a passage's embedding and the question's
    embedding. Embeddings are kept in the index too.

    Args:
        coefficients: the coefficients that were learned for the model.
        index: the folder of the index. By default, the index is kept in memory, and all scorers of the process share
            it.
        precision: the precision of the stored vectors.
        embedder: the embedder, if the coefficients have a weight for its cosine. By default, it is the embedder that
            the coefficients name.
    """

    name = "scout"
    reads_prompt = False
    embedder: str | os.PathLike[str] | None = None
    """The name of the embedder. It is None for the method scout."""

    def __init__(
        self,
        coefficients: ScoutCoefficients,
        index: str | os.PathLike[str] | None = None,
        precision: Precision = DEFAULT_PRECISION,
        embedder: str | os.PathLike[str] | None = None,
    ) -> None:
        self.name = coefficients.method
        self.coefficients = coefficients
        self._embedder: Embedder | None = None
        if coefficients.cosine is not None:
            self._embedder = Embedder(coefficients.cosine.embedder if embedder is None else embedder)
            self.embedder = self._embedder.name
        self.folder = index
        self.precision: Precision = precision
        self._indexes: weakref.WeakKeyDictionary[LanguageModel, PassageIndex] = weakref.WeakKeyDictionary()

    @classmethod
    def create(cls, name: str, options: ScorerOptions, **settings: object) -> ScoutScorer:
        return cls(_of_scout(options.coefficients[name]), options.index, embedder=options.embedder)

    def index(self, language_model: LanguageModel) -> PassageIndex:
        """Return the index of a model.

        Raises:
            InputError: the folder holds the index of another model or of other settings, or the embedder cannot be
                loaded.
            CoefficientsError: the coefficients were learned with another embedder.
            CacheError: the folder cannot be read or written.
        """
        if language_model not in self._indexes:
            self.prepare(language_model.device)
            layers, linked = self.coefficients.layers, self.coefficients.link_layers
            if self.folder is None:
                found = PassageIndex(language_model, layers, linked, self.precision, embedder=self._embedder)
            else:
                found = PassageIndex.open(self.folder, language_model, layers, linked, self.precision, self._embedder)
            self._indexes[language_model] = found
        return self._indexes[language_model]

    def check(self, model: str) -> None:
        if self.folder is not None:
            layers, link_layers = self.coefficients.layers, self.coefficients.link_layers
            check_index(self.folder, layers, link_layers, self.precision, model)
        if self._embedder is not None:
            self._embedder.check()

    def open(self, language_model: LanguageModel) -> None:
        if self.folder is not None:
            self.index(language_model)

    def prepare(self, device: torch.device) -> None:
        named = self.coefficients.cosine
        if self._embedder is None or named is None:
            return
        self._embedder.load(device)
        if not self._embedder.is_same(named.probe):
            raise CoefficientsError(
                f"the coefficients were learned with the embedder {named.embedder}, and the embedder "
                f"{os.fspath(self._embedder.name)!r} gives other cosines: use {named.embedder}, or learn coefficients "
                "for your embedder with at2-prune calibrate --embedder E --out DIR, and pass coefficients=DIR"
            )

    @property
    def calibration(self) -> Calibration | None:
        return self.coefficients.calibration

    def score(self, task: Task) -> torch.Tensor:
        return self.judge(task).scores

    def judge(self, task: Task) -> Judgement:
        """Return scores and probabilities.

        The probability of a sentence is a share of its passage's probability. The share is the same as for the score;
        see the class.

        Raises:
            ModelNotSupportedError: the model computes numbers that are not finite.
        """
        index, prompt = self.index(task.language_model), task.prompt
        question = index.question(task.question)
        scores, total = self._score_passages(index, question, task)
        probabilities, present = None, None
        if self.calibration is not None:
            probabilities = self.calibration.probabilities(scores, total).where(scores.isfinite(), 0.0)
            present = self.calibration.probability_present(scores, total)
        if prompt.source_texts != [passage.text for passage in task.passages]:
            parts = self._score_parts(index, question, task)
            owner = torch.tensor(prompt.source_passage)
            shares = _shares(parts, owner)
            scores = scores[owner] * shares
            if probabilities is not None:
                probabilities = (probabilities[owner] * shares).nan_to_num(nan=0.0)
            without_text = shares.isnan() & (parts == -torch.inf)  # no part of the passage has text
            scores = scores.masked_fill(without_text, -torch.inf)
        if bool(scores.isnan().any()):
            raise task.language_model.not_finite()
        finite = scores[scores.isfinite()]
        scores = scores.clamp(min=float(finite.min()) - 1 if len(finite) else 0.0)
        return Judgement(scores.float(), probabilities, present)

    def _score_parts(self, index: PassageIndex, question: Mapping[int, LayerRows], task: Task) -> torch.Tensor:
        """Return the first scores of sources that are parts of passages. These scores do not include the cosine.

        A source without text gets the score minus infinity.
        """
        prompt = task.prompt
        units, sources = source_units(index, task.passages, prompt.source_passage, prompt.source_texts)
        scores = torch.full((len(prompt.source_texts),), -torch.inf, dtype=torch.float64)
        if units:
            first = self.coefficients.part_scores(question_features(question_sums(question, units)))
            best = best_units(first, sources)
            scores[[sources[unit] for unit in best]] = first[best]
        return scores

    def _score_passages(
        self, index: PassageIndex, question: Mapping[int, LayerRows], task: Task
    ) -> tuple[torch.Tensor, float]:
        """Return the scores of whole passages, and the log-sum-exp of their first scores. `Calibration` calls it z.

        A passage without text gets the score minus infinity.
        """
        passages = task.passages
        units, sources = source_units(index, passages, range(len(passages)), [passage.text for passage in passages])
        scores = torch.full((len(passages),), -torch.inf, dtype=torch.float64)
        total = -torch.inf
        if units:
            sums = question_sums(question, units)
            cosines = index.cosines(task.question, [unit.record for unit in units])
            first = self.coefficients.first_scores(question_features(sums), cosines)
            ranked = sorted(best_units(first, sources), key=lambda unit: -float(first[unit]))
            total = float(first[ranked].logsumexp(0))
            candidates = sorted(ranked[:CANDIDATES])
            some, softcaps = [units[i] for i in candidates], index.softcaps(question)
            found = self.coefficients.score(
                question_features(sums.of(candidates)),
                lambda chosen: link_features([some[i] for i in chosen], some, softcaps),
                cosines=None if cosines is None else cosines[candidates],
            )
            for unit, value in zip(candidates, found.tolist(), strict=True):
                scores[sources[unit]] = value
            lowest, highest = float(found.min()), first[ranked[0]]
            for unit in ranked[CANDIDATES:]:
                scores[sources[unit]] = lowest * float((first[unit] - highest).exp())
        return scores, total

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_indexes"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._indexes = weakref.WeakKeyDictionary()


def _shares(scores: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
    """Return the softmax of scores over the sources of each owner."""
    shares = scores.clone()
    for one in owner.unique():
        shares[owner == one] = scores[owner == one].softmax(0)
    return shares


def _of_scout(coefficients: object) -> ScoutCoefficients:
    if not isinstance(coefficients, ScoutCoefficients):
        raise InputError(
            "the method scout needs scout's own coefficients, but head coefficients were given: train coefficients for "
            "scout with at2-prune train-scout"
        )
    return coefficients
