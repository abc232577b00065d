"""Attention's scores and a retriever's, added."""

from __future__ import annotations

from dataclasses import replace
from statistics import mean, stdev

import pytest
import torch

from at2_prune.attention.rows import DRAFT_ROWS
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients
from at2_prune.datasets import Question
from at2_prune.errors import CoefficientsError, InputError
from at2_prune.models.drafts import Draft
from at2_prune.models.language_model import LanguageModel
from at2_prune.passages import Passage
from at2_prune.pruning.pruner import AT2Pruner
from at2_prune.scorers import AttentionScorer, BM25Scorer, FusionScorer, ScorerOptions, Task, make_scorer
from at2_prune.scorers.registry import load_scorer
from at2_prune.scorers.scout import ScoutScorer

SCORES = (0.2, 0.9, 0.4, 0.1, 0.6, 0.3, 0.8, 0.5, 0.7, 0.0)


@pytest.fixture
def scout(scout_coefficients: ScoutCoefficients) -> ScoutScorer:
    return ScoutScorer(scout_coefficients)


def task(lm: LanguageModel, question: Question, passages: list[Passage], granularity: str = "passage") -> Task:
    prompt = lm.encode(question.text, passages, granularity)  # type: ignore[arg-type]
    return Task(lm, question.text, passages, prompt, Draft("", []))


def z(values: list[float]) -> list[float]:
    return [(value - mean(values)) / stdev(values) for value in values]


def test_weighted_sum_of_standardised_scores(
    tiny_lm: LanguageModel, scout: ScoutScorer, sample_questions: list[Question]
) -> None:
    question = sample_questions[0]
    plain = list(question.passages)
    scored = [replace(passage, score=score) for passage, score in zip(plain, SCORES, strict=False)]
    lead = z(scout.score(task(tiny_lm, question, plain)).tolist())
    bm25 = z(BM25Scorer().score(task(tiny_lm, question, plain)).tolist())
    fusion = FusionScorer(scout, BM25Scorer(), weight=0.5)
    expected = [a + 0.5 * b for a, b in zip(lead, bm25, strict=True)]
    assert fusion.score(task(tiny_lm, question, plain)).tolist() == pytest.approx(expected, abs=1e-5)
    own = [a + 0.5 * b for a, b in zip(lead, z(list(SCORES[: len(plain)])), strict=True)]
    assert fusion.score(task(tiny_lm, question, scored)).tolist() == pytest.approx(own, abs=1e-5)
    for missing in (None, float("nan")):  # one without a score: the retriever's scale is not known
        some = [replace(scored[0], score=missing), *scored[1:]]
        assert fusion.score(task(tiny_lm, question, some)).tolist() == pytest.approx(expected, abs=1e-5)
    sentences = task(tiny_lm, question, scored, "sentence")
    of_passage = torch.tensor([SCORES[owner] for owner in sentences.prompt.source_passage])
    extra = (fusion.score(sentences) - FusionScorer(scout, BM25Scorer(), weight=0.0).score(sentences)) / 0.5
    assert extra.tolist() == pytest.approx(z(of_passage.tolist()), abs=1e-4)
    assert not fusion.uses_draft
    assert not fusion.reads_prompt
    average = FusionScorer(AttentionScorer(), BM25Scorer())
    assert (average.uses_draft, average.draft_groups) == (True, (DRAFT_ROWS,))
    assert fusion.score(task(tiny_lm, question, plain[:1])).tolist() == [0.0]


def test_by_name(tiny_lm: LanguageModel, scout: ScoutScorer) -> None:
    fusion = make_scorer("fusion", ScorerOptions({"scout": scout.coefficients}, embedder="some/encoder"))
    assert isinstance(fusion, FusionScorer)
    assert isinstance(fusion.attention, ScoutScorer)
    assert (fusion.name, fusion.attention.name) == ("fusion", "scout")
    with pytest.raises(InputError, match="needs coefficients of scout, but the given coefficients belong to"):
        load_scorer(tiny_lm, "fusion", HeadCoefficients.average(2, 4, "llama"))
    with pytest.raises(InputError, match="the method scout needs scout's own coefficients, but head"):
        make_scorer("fusion", ScorerOptions({"scout": HeadCoefficients.average(2, 4)}))
    with pytest.raises(InputError, match=r"'fusion' needs coefficients: .*\(coefficients=\{'scout': \.\.\.\}\)"):
        make_scorer("fusion")
    with pytest.raises(CoefficientsError, match="no coefficients of the method scout come with at2-prune"):
        load_scorer(tiny_lm, "fusion", calibrate=False)


def test_both_frameworks_hand_on_their_retrievers_scores(
    tiny_lm: LanguageModel, scout: ScoutScorer, sample_questions: list[Question]
) -> None:
    Document = pytest.importorskip("langchain_core.documents").Document
    AT2DocumentCompressor = pytest.importorskip("langchain_at2_prune").AT2DocumentCompressor
    schema = pytest.importorskip("llama_index.core.schema")
    AT2Postprocessor = pytest.importorskip("llama_index.postprocessor.at2_prune").AT2Postprocessor
    question = sample_questions[0]
    passages = question.passages
    pruner = AT2Pruner(tiny_lm, FusionScorer(scout, BM25Scorer(), weight=1000.0))  # the retriever decides
    best = sorted(sorted(range(len(passages)), key=lambda i: -SCORES[i])[:3])
    documents = [
        Document(p.text, metadata={"title": p.title, "relevance_score": score, "mine": 1 - score, "odd": "high"})
        for p, score in zip(passages, SCORES, strict=False)
    ]
    kept = AT2DocumentCompressor(pruner=pruner).compress_documents(documents, question.text)
    assert [document.metadata["title"] for document in kept] == [passages[i].title for i in best]
    worst = AT2DocumentCompressor(pruner=pruner, score_key="mine").compress_documents(documents, question.text)
    assert {d.metadata["title"] for d in worst}.isdisjoint({d.metadata["title"] for d in kept})
    assert AT2DocumentCompressor(score_key="odd").passages(documents)[0].score is None
    nodes = [
        schema.NodeWithScore(node=schema.TextNode(text=p.text, metadata={"title": p.title or ""}), score=score)
        for p, score in zip(passages, SCORES, strict=False)
    ]
    chosen = AT2Postprocessor(pruner=pruner).postprocess_nodes(nodes, query_str=question.text)
    assert [node.metadata["title"] for node in chosen] == [passages[i].title for i in best]
