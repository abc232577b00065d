"""How many passages to keep: as many as make the model most confident of its answer."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.datasets import Question
from at2_prune.errors import InputError
from at2_prune.models.drafts import write_drafts
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.shared_prefix import write_answers
from at2_prune.pipeline.config import PruneConfig
from at2_prune.pipeline.step import PruneStep
from at2_prune.pruning.pruner import AT2Pruner
from at2_prune.pruning.selection import AUTO_KS
from at2_prune.report import html_report, terminal_report
from at2_prune.scorers import BM25Scorer
from at2_prune.scorers.scout import ScoutScorer


def log_probability(pruner: AT2Pruner, question: Question, kept: list[int]) -> tuple[str, float]:
    """Answer and log-probability, token by token, from the logits of plain forward passes."""
    lm = pruner.language_model
    prompt = lm.encode(question.text, [question.passages[i] for i in kept])
    generation = lm.generate([prompt], pruner.max_new_tokens)[0][0]
    written = generation.ids
    begin, end = generation.answer
    if len(written) < pruner.max_new_tokens:  # what ended it is not among them
        with torch.no_grad():
            written = [*written, int(lm.model(torch.tensor([[*prompt.ids, *written]])).logits[0, -1].argmax())]
    with torch.no_grad():
        rows = lm.model(torch.tensor([[*prompt.ids, *written]])).logits[0].double().log_softmax(-1)
    taken = [float(rows[len(prompt) + i - 1, token]) for i, token in enumerate(written)]
    return generation.text, sum(taken[begin : end + 1])


@pytest.fixture
def question(sample_questions: list[Question]) -> Question:
    return sample_questions[0]


def test_log_probability_is_that_of_the_answers_tokens(tiny_pruner: AT2Pruner, question: Question) -> None:
    lm = tiny_pruner.language_model
    sets = [[0], [1, 4], [2, 3, 7]]
    prompts = [lm.encode(question.text, [question.passages[i] for i in kept]) for kept in sets]
    expected = [log_probability(tiny_pruner, question, kept) for kept in sets]
    together = write_answers(lm, prompts, (), tiny_pruner.max_new_tokens)
    alone = [write_drafts(lm, [prompt], (), tiny_pruner.max_new_tokens)[0] for prompt in prompts]
    batch = write_drafts(lm, prompts, (), tiny_pruner.max_new_tokens)
    for written in (together, alone, batch):
        assert [w.text for w in written] == [text for text, _ in expected]
        assert [w.log_probability for w in written] == pytest.approx([value for _, value in expected], abs=1e-4)
    assert len({value for _, value in expected}) == 3
    assert all(value < -1 for _, value in expected)
    with_guess = write_answers(lm, prompts, together[1].ids, tiny_pruner.max_new_tokens)
    assert [w.log_probability for w in with_guess] == pytest.approx([w.log_probability for w in together], abs=1e-4)


def test_a_model_that_writes_nothing_is_sure_of_nothing(silent_lm: LanguageModel, question: Question) -> None:
    pruner = AT2Pruner.from_pretrained(silent_lm, HeadCoefficients.average(2, 4, "llama"), max_new_tokens=8)
    result = pruner.answer(question.text, question.passages, "auto")
    assert (result.answer, result.k, result.kept) == ("", 1, [0])
    assert {candidate.log_probability for candidate in result.candidates} == {-math.inf}
    assert result.fallback is not None
    assert result.fallback.endswith("the first sources were kept")


@pytest.mark.parametrize("draftless", [False, True])
def test_the_surest_answer_is_taken(tiny_pruner: AT2Pruner, sample_questions: list[Question], draftless: bool) -> None:
    pruner = tiny_pruner
    if draftless:
        pruner = AT2Pruner(tiny_pruner.language_model, BM25Scorer(), max_new_tokens=8)
    chosen = set()
    for question in sample_questions[:5]:
        result = pruner.answer(question.text, question.passages, "auto")
        by_k = {k: pruner.answer(question.text, question.passages, k) for k in AUTO_KS}
        assert [c.k for c in result.candidates] == list(AUTO_KS)
        for candidate in result.candidates:
            text, value = log_probability(pruner, question, candidate.kept)
            assert (candidate.answer, candidate.kept) == (by_k[candidate.k].answer, by_k[candidate.k].kept)
            assert (candidate.answer, candidate.log_probability) == (text, pytest.approx(value, abs=1e-4))
        best = max(result.candidates, key=lambda candidate: candidate.log_probability)
        assert (result.k, result.answer, result.kept) == (best.k, best.answer, best.kept)
        assert result.scores == pytest.approx(by_k[3].scores)
        chosen.add(result.k)
    assert len(chosen) > 1  # or the test could not fail


def test_several_k_of_ones_own(tiny_pruner: AT2Pruner, question: Question, monkeypatch: pytest.MonkeyPatch) -> None:
    result = tiny_pruner.answer(question.text, question.passages, [4, 2])
    assert [candidate.k for candidate in result.candidates] == [2, 4]
    assert json.loads(json.dumps(result.to_dict()))["candidates"][0]["kept"] == result.candidates[0].kept
    assert "candidates" not in tiny_pruner.answer(question.text, question.passages, 2).to_dict()
    draft = tiny_pruner.draft(question.text, question.passages)
    whole = tiny_pruner.answer(question.text, question.passages, [10, 12], draft)
    assert [candidate.k for candidate in whole.candidates] == [10]  # both keep everything
    assert (whole.answer, whole.candidates[0].log_probability) == (draft.text, draft.log_probability)
    for wrong in ([], [2, 0], ["2"], "best", [2.5]):
        with pytest.raises(InputError, match="k is "):
            tiny_pruner.answer(question.text, question.passages, wrong)  # type: ignore[arg-type]


def test_a_draft_from_everything_is_not_written_again(tiny_pruner: AT2Pruner, question: Question) -> None:
    draft = tiny_pruner.draft(question.text, question.passages)
    runs = 0

    def count(*_: Any) -> None:
        nonlocal runs
        runs += 1

    hook = tiny_pruner.language_model.model.register_forward_pre_hook(count)
    try:
        scored = tiny_pruner.try_score(question.text, question.passages, draft)
        candidates = tiny_pruner.candidates(question.text, question.passages, scored, [10])
    finally:
        hook.remove()
    assert runs == 0
    assert candidates[0].answer == draft.text


def test_batches(tiny_pruner: AT2Pruner, sample_questions: list[Question]) -> None:
    some = sample_questions[:3]
    batch = tiny_pruner.answer_batch([q.text for q in some], [q.passages for q in some], "auto")
    for question, result in zip(some, batch, strict=True):
        alone = tiny_pruner.answer(question.text, question.passages, "auto")
        assert (result.answer, result.kept, result.k) == (alone.answer, alone.kept, alone.k)


def test_what_does_not_fit_is_left_out(tiny_pruner: AT2Pruner, question: Question) -> None:
    lm = tiny_pruner.language_model
    two = len(lm.encode(question.text, sorted(question.passages, key=lambda p: -len(p.text))[:2]))
    lm.model.config.max_position_embeddings = two + 30
    try:
        windows = AT2Pruner(lm, tiny_pruner.scorer, max_new_tokens=8, overflow="windows")
        result = windows.answer(question.text, question.passages, "auto")
        ranked = AT2Pruner(lm, BM25Scorer(), max_new_tokens=8, overflow="error")  # its scores take no prompt
        few = ranked.answer(question.text, question.passages[:5], "auto")
    finally:
        lm.model.config.max_position_embeddings = 4096
    assert {1, 2} <= {candidate.k for candidate in result.candidates} < set(AUTO_KS)
    assert {1} <= {candidate.k for candidate in few.candidates} < set(AUTO_KS)  # all five do not fit


def test_reports(tiny_pruner: AT2Pruner, question: Question) -> None:
    result = tiny_pruner.answer(question.text, question.passages, "auto")
    for page in (terminal_report(result, width=100, color=False), html_report(result, model="tiny", scorer="at2")):
        assert "the most confident of 1, 2, 3, 5" in page


def test_pipelines_keep_what_the_pruner_keeps(tiny_pruner: AT2Pruner, sample_questions: list[Question]) -> None:
    Document = pytest.importorskip("langchain_core.documents").Document
    AT2DocumentCompressor = pytest.importorskip("langchain_at2_prune").AT2DocumentCompressor
    schema = pytest.importorskip("llama_index.core.schema")
    AT2Postprocessor = pytest.importorskip("llama_index.postprocessor.at2_prune").AT2Postprocessor
    for question in sample_questions[:3]:
        expected = tiny_pruner.answer(question.text, question.passages, "auto").kept
        titles = [question.passages[i].title for i in expected]
        step = PruneStep(PruneConfig(top_n="auto"), tiny_pruner)
        assert [item.index for item in step.run(question.text, question.passages).kept] == expected
        assert len(step.run(question.text, question.passages, k=4).kept) == 4
        documents = [Document(p.text, metadata={"title": p.title}) for p in question.passages]
        compressor = AT2DocumentCompressor(pruner=tiny_pruner, top_n="auto")
        kept = compressor.compress_documents(documents, question.text)
        assert [document.metadata["title"] for document in kept] == titles
        nodes = [
            schema.NodeWithScore(node=schema.TextNode(text=p.text, metadata={"title": p.title}))
            for p in question.passages
        ]
        chosen = AT2Postprocessor(pruner=tiny_pruner, top_n="auto").postprocess_nodes(nodes, query_str=question.text)
        assert [node.metadata["title"] for node in chosen] == titles


def test_settings() -> None:
    assert PruneConfig.load(environ={"AT2_PRUNE_TOP_N": "AUTO"}).top_n == "auto"
    assert PruneConfig.load({"top_n": "auto"}, environ={}).top_n == "auto"
    assert PruneConfig.load({"top_n": "auto"}, environ={"AT2_PRUNE_TOP_N": "4"}).top_n == 4
    with pytest.raises(InputError, match="top_n must be an integer of at least 1 or auto, got 'best'"):
        PruneConfig(top_n="best")  # type: ignore[arg-type]


def test_shipped_scout_and_auto_go_together(embedded_lm: LanguageModel, question: Question) -> None:
    result = AT2Pruner.from_pretrained(embedded_lm, method="scout").answer(question.text, question.passages, "auto")
    assert isinstance(AT2Pruner.from_pretrained(embedded_lm, method="scout").scorer, ScoutScorer)
    assert result.answer == max(result.candidates, key=lambda c: c.log_probability).answer
