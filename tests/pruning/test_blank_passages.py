"""A source without text never takes a place from one with text, whatever the method."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from at2_prune.attention.rows import RowGroup
from at2_prune.catalogue import METHODS, configurable_methods
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.coefficients.scout_coefficients import CosineFeature, ScoutCoefficients
from at2_prune.encoders.embedder import Embedder
from at2_prune.models.language_model import LanguageModel
from at2_prune.passages import Passage
from at2_prune.pruning.pruner import AT2Pruner
from at2_prune.pruning.selection import blank_last, top_k
from at2_prune.scorers import ScorerOptions, make_scorer

from .cases import PASSAGES, QUESTION, small, with_options

BLANK = [Passage(""), Passage(" \n\t"), Passage("", title="Which city is the capital", score=9.0)]
MIXED = [BLANK[0], *PASSAGES[:2], BLANK[1], BLANK[2], *PASSAGES[2:]]
WITH_TEXT = [1, 2, 5, 6]


def coefficients(method: str) -> HeadCoefficients:
    """Random ones, half of them negative, so that masses near 0 are among the highest scores."""
    measure = {"contribution_learned": "contribution", "effective_attention_learned": "effective"}.get(method)
    groups = [RowGroup("draft", measure=measure or "attention")]  # type: ignore[arg-type]
    weight = torch.randn(len(groups), 2, 4, generator=torch.Generator().manual_seed(3)) - 0.5
    return HeadCoefficients(weight, groups, model_type="llama")


@pytest.mark.parametrize("method", configurable_methods())
def test_every_method_ranks_them_last(
    tiny_lm: LanguageModel,
    tiny_reranker: Path,
    tiny_embedder: Path,
    scout_coefficients: ScoutCoefficients,
    method: str,
) -> None:
    wanted = METHODS[method].coefficients
    made = scout_coefficients if wanted == "scout" else coefficients(wanted)
    if wanted == "scout_dense":
        embedder = Embedder(tiny_embedder)
        embedder.load(tiny_lm.device)
        made = replace(scout_coefficients, cosine=CosineFeature(1.0, 1.0, str(tiny_embedder), embedder.probe()))
    options = ScorerOptions({wanted: made} if wanted else {}, cross_encoder=tiny_reranker)
    pruner = AT2Pruner(tiny_lm, make_scorer(method, options), max_new_tokens=4)
    scores = pruner.score(QUESTION, MIXED)
    assert sorted(top_k(scores, 4, "score")) == WITH_TEXT
    assert sorted(top_k(torch.tensor(scores).tolist(), 4, "score")) == WITH_TEXT  # in single precision too
    ranks = [source.rank for source in pruner.attribute(QUESTION, MIXED)]
    assert max(ranks[i] for i in WITH_TEXT) == 4
    assert pruner.answer(QUESTION, MIXED, k=4).kept == WITH_TEXT


def test_in_windows_they_rank_below_all_windows(tiny_pruner: AT2Pruner) -> None:
    passages = [Passage(f"{n} {p.text}" if p.text.strip() else p.text, p.title) for n in range(4) for p in MIXED]
    scores = small(tiny_pruner, 450).score(QUESTION, passages)
    full = [i for i, passage in enumerate(passages) if passage.text.strip()]
    assert sorted(top_k(scores, len(full), "score")) == full


def test_without_a_draft_the_first_with_text_are_kept(tiny_pruner: AT2Pruner, silent_pruner: AT2Pruner) -> None:
    result = silent_pruner.answer(QUESTION, MIXED, k=2)
    assert result.fallback is not None
    assert result.kept == [1, 2]
    scored = tiny_pruner.try_score(QUESTION, MIXED, draft=" ")
    assert top_k(scored.scores, 2) == [1, 2]


def test_sums_of_sentences(tiny_pruner: AT2Pruner) -> None:
    pruner = with_options(tiny_pruner, granularity="sentence")
    for k in (1, 3):
        scores = pruner.answer(QUESTION, MIXED, k).scores
        assert sorted(top_k(scores, 4, "score")) == WITH_TEXT
    spaced = Passage("Perth lies in the west.  ", sentences=("Perth lies in the west.", "  "))
    sources = pruner.attribute(QUESTION, [spaced, *PASSAGES[:2]])
    assert next(source for source in sources if not source.text.strip()).rank == len(sources)


def test_scores_of_texts_are_not_changed() -> None:
    scores = [0.5, -3.0, 0.25, 1e-9]
    assert blank_last(scores, ["a", "b", "c", "d"]) == scores
    assert blank_last(scores, ["", " ", "", "\n"]) == scores
    changed = blank_last(scores, ["a", "", "c", " "])
    assert (changed[0], changed[1], changed[2]) == (0.5, -3.0, 0.25)
    assert changed[3] < 0.25
    assert blank_last(changed, ["a", "", "c", " "]) == changed
