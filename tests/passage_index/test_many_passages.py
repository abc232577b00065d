"""Ten thousand passages: the work is linear in them, and few keys are restored at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch

from at2_prune import AT2Pruner
from at2_prune.models.language_model import LanguageModel
from at2_prune.passage_index.features import UNITS_AT_ONCE, best_units, question_features, question_sums
from at2_prune.passage_index.index import PassageIndex
from at2_prune.passage_index.records import Vectors
from at2_prune.passage_index.sources import source_units
from at2_prune.passage_index.stores import shared_memory
from at2_prune.passages import Passage
from at2_prune.scorers.scout import CANDIDATES, ScoutScorer

from .cases import QUESTION, tiny_coefficients

MANY = 10_000
PASSAGES = [Passage(f"{i} is on river {i * 7919 % 1000}.", title=f"Place {i}" if i % 3 else None) for i in range(MANY)]


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Vectors]]:
    """The vectors that were restored, in order."""
    seen: list[Vectors] = []
    restore = Vectors.restored
    monkeypatch.setattr(Vectors, "restored", lambda vectors: seen.append(vectors) or restore(vectors))
    yield seen
    shared_memory.clear()


@pytest.mark.slow
def test_ten_thousand_passages(tiny_lm: LanguageModel, restored: list[Vectors]) -> None:
    coefficients = tiny_coefficients()
    scout = AT2Pruner(tiny_lm, ScoutScorer(coefficients), max_new_tokens=4)
    work: dict[int, int] = {}
    for count in (MANY // 10, MANY):
        restored.clear()
        scores = scout.score(QUESTION, PASSAGES[:count])
        work[count] = len(restored)
    layers = len(coefficients.layers)
    assert len({times - layers * count for count, times in work.items()}) == 1  # the rest is the links of the best
    order = sorted(range(MANY), key=lambda i: -scores[i])
    best = sorted(order[:CANDIDATES])
    alone = scout.score(QUESTION, [PASSAGES[i] for i in best])
    assert alone == pytest.approx([scores[i] for i in best], abs=1e-5)  # the best are compared among themselves
    index = scout.scorer.index(tiny_lm)  # type: ignore[attr-defined]
    features = question_features(question_sums(index.question(QUESTION), units(index, PASSAGES)))
    by_first = coefficients.first_scores(features).argsort(descending=True).tolist()
    assert set(by_first[:CANDIDATES]) == set(best)
    others = [scores[i] for i in by_first[CANDIDATES:]]
    assert max(others) < min(scores[i] for i in best)
    assert all(after <= before + 1e-6 for before, after in itertools.pairwise(others))  # scores are float32


def units(index: PassageIndex, passages: list[Passage]) -> list:
    texts = [passage.text for passage in passages]
    found, sources = source_units(index, passages, range(len(texts)), texts)
    return [found[i] for i in best_units(torch.zeros(len(found)), sources)]


def test_keys_are_restored_some_at_a_time(
    tiny_lm: LanguageModel, restored: list[Vectors], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest tensor of keys holds those of `UNITS_AT_ONCE` passages, and chunks change no number."""
    index = PassageIndex(tiny_lm, (0, 1), (1,))
    some = units(index, PASSAGES[: 3 * UNITS_AT_ONCE + 1])
    question = index.question(QUESTION)
    largest: list[int] = []
    cat = torch.cat
    monkeypatch.setattr(torch, "cat", lambda tensors, dim=0: largest.append(len(tensors)) or cat(tensors, dim))
    whole = question_sums(question, some)
    assert max(largest) == UNITS_AT_ONCE
    monkeypatch.undo()
    part = question_sums(question, some[5:9])
    torch.testing.assert_close(whole.of([5, 6, 7, 8]).units, part.units, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(whole.of([5, 6, 7, 8]).titles, part.titles, atol=1e-5, rtol=1e-5)
