"""Faithfulness on a tiny random model, against forward passes and ranks computed without the engine."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy.stats import kendalltau, spearmanr

from at2_prune.ablation import Positions, random_masks, seeded_generator
from at2_prune.attention.rows import DRAFT_ROWS
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.datasets import Question
from at2_prune.errors import InputError
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.prompts import EncodedPrompt, TextTemplate
from at2_prune.passages import only_kept
from at2_prune.scorers import (
    AttentionScorer,
    BM25Scorer,
    GradientXInputScorer,
    LearnedScorer,
    LeaveOneOutScorer,
    RandomScorer,
    RetrieverOrderScorer,
    Scorer,
    SurrogateScorer,
    Task,
)
from at2_prune_eval.faithfulness import FaithfulnessSettings, measure_faithfulness
from at2_prune_eval.faithfulness.ablations import held_out_masks, lds
from at2_prune_eval.faithfulness.order import shuffled_order
from at2_prune_eval.faithfulness.permutation import permute
from at2_prune_eval.loop.cached_loop import CachedLoop
from at2_prune_eval.metrics import normalize_answer

from ..conftest import MAX_NEW_TOKENS


class Fixed(Scorer):
    """Scores that a test chooses."""

    def __init__(self, name: str, scores: Sequence[float]) -> None:
        self.name = name
        self.scores = torch.tensor(scores, dtype=torch.float64)

    def score(self, task: Task) -> torch.Tensor:
        return self.scores[: len(task.prompt.sources)]


class WatchedLoop(CachedLoop):
    """Remembers which ablations were asked for in which call."""

    asked: list[tuple[EncodedPrompt, list[tuple[bool, ...]]]]

    def outcomes(
        self, prompt: EncodedPrompt, target: Sequence[int], masks: torch.Tensor, positions: Positions = "kept"
    ) -> Any:
        self.asked = [*getattr(self, "asked", []), (prompt, [tuple(mask) for mask in masks.tolist()])]
        return super().outcomes(prompt, target, masks, positions)


def direct_log_p(lm: LanguageModel, prompt: EncodedPrompt, draft: Sequence[int], mask: Sequence[bool]) -> float:
    """The draft's log-probability by one forward pass over everything, the sources masked out where they stand."""
    ids = torch.tensor([[*prompt.ids, *draft]])
    visible = torch.ones_like(ids)
    for kept, (start, stop) in zip(mask, prompt.sources, strict=True):
        visible[0, start:stop] = int(kept)
    places = torch.arange(ids.shape[1])[None]
    with torch.no_grad():
        logits = lm.model(input_ids=ids, attention_mask=visible, position_ids=places, use_cache=False).logits[0]
    log_p = logits.double().log_softmax(-1)
    return sum(float(log_p[len(prompt) - 1 + i, token]) for i, token in enumerate(draft))


@pytest.fixture
def question(sample_questions: list[Question]) -> Question:
    return replace(sample_questions[0], passages=sample_questions[0].passages[:7])


@pytest.fixture
def loop(tiny_lm: LanguageModel) -> WatchedLoop:
    return WatchedLoop(tiny_lm, max_new_tokens=MAX_NEW_TOKENS)


@pytest.fixture
def methods(coefficients: HeadCoefficients) -> list[Scorer]:
    return [LearnedScorer(coefficients), GradientXInputScorer(), LeaveOneOutScorer(), SurrogateScorer(32), BM25Scorer()]


def test_lds_is_scipys_on_ablations_that_no_method_saw(
    loop: WatchedLoop, tiny_lm: LanguageModel, methods: list[Scorer], question: Question
) -> None:
    record = measure_faithfulness(loop, methods, question, FaithfulnessSettings(ablations=12, ks=[1]))
    prompt = tiny_lm.encode(question.text, question.passages)
    draft = loop.draft(prompt).draft.ids
    fitted = set(map(tuple, random_masks(7, 32, seeded_generator(0, question.text)).tolist()))
    fitted |= {tuple(i != out for i in range(7)) for out in range(8)}
    assert len(loop.asked) == 3  # leave-one-out, the surrogate, and one for everything else
    assert {mask for _, masks in loop.asked[:2] for mask in masks} == fitted
    held_out = loop.asked[2][1][1:13]
    assert record["ablations"] == 12 == len(set(held_out) - fitted)
    log_p = [direct_log_p(tiny_lm, prompt, draft, mask) for mask in held_out]
    log_odds = [value - math.log(-math.expm1(value)) for value in log_p]
    for name, entry in record["methods"].items():
        sums = [sum(score for score, kept in zip(entry["scores"], mask, strict=True) if kept) for mask in held_out]
        assert entry["lds"] == pytest.approx(spearmanr(sums, log_odds).statistic, abs=1e-9), name
    assert len({entry["lds"] for entry in record["methods"].values()}) == len(methods)


def test_top_k_drop_is_that_of_direct_forward_passes(
    loop: WatchedLoop, tiny_lm: LanguageModel, methods: list[Scorer], question: Question
) -> None:
    record = measure_faithfulness(loop, methods, question, FaithfulnessSettings(ablations=8, ks=[1, 3, 7]))
    prompt = tiny_lm.encode(question.text, question.passages)
    draft = loop.draft(prompt).draft.ids
    full = direct_log_p(tiny_lm, prompt, draft, [True] * 7)
    assert record["log_p"] == pytest.approx(full, abs=1e-4)
    for entry in record["methods"].values():
        ranked = sorted(range(7), key=lambda i: -entry["scores"][i])
        assert list(entry["top_k_drop"]) == ["1", "3", "7"]
        for k in (1, 3, 7):
            removed = direct_log_p(tiny_lm, prompt, draft, [i not in ranked[:k] for i in range(7)])
            assert entry["top_k_drop"][str(k)] == pytest.approx(full - removed, abs=1e-4)


def test_leave_one_out_drops_most_at_one(loop: WatchedLoop, methods: list[Scorer], question: Question) -> None:
    """Removing the passage whose removal costs the most: nothing can do better."""
    record = measure_faithfulness(loop, methods, question, FaithfulnessSettings(ablations=8, ks=[1]))
    drops = {name: entry["top_k_drop"]["1"] for name, entry in record["methods"].items()}
    assert drops["leave_one_out"] == max(drops.values())


def test_held_out_ablations() -> None:
    every = list(itertools.product([False, True], repeat=4))
    drawn = held_out_masks(4, 40, every[:10], torch.Generator().manual_seed(0))
    assert len(drawn) == 40
    assert set(drawn) == set(every[10:])
    assert held_out_masks(4, 40, every, torch.Generator().manual_seed(0)) == []
    assert lds([1.0, 2.0, 3.0, 4.0], every[:7], dict.fromkeys(every, 0.0)) is None


def test_kendall_of_a_case_worked_by_hand(loop: CachedLoop, question: Question) -> None:
    """Seven sources, 21 pairs; swapping two neighbors turns one pair: (20 - 1) / 21."""
    gradient, swapped = [7.0, 6, 5, 4, 3, 2, 1], [6.0, 7, 5, 4, 3, 2, 1]
    scorers: list[Scorer] = [
        Fixed("gradient_x_input", gradient),
        Fixed("leave_one_out", gradient[::-1]),
        Fixed("swapped", swapped),
        Fixed("equal", [1.0] * 7),
    ]
    taus = {
        name: entry["kendall"]
        for name, entry in measure_faithfulness(loop, scorers, question, FaithfulnessSettings(ks=[1]))[
            "methods"
        ].items()
    }
    assert taus["swapped"] == pytest.approx({"gradient_x_input": 19 / 21, "leave_one_out": -19 / 21})
    assert taus["equal"] == {"gradient_x_input": 0.0, "leave_one_out": 0.0}
    assert taus["gradient_x_input"] == {"leave_one_out": -1.0}


def test_permutation_regenerates_from_the_scores_and_from_permuted_ones(
    loop: CachedLoop, tiny_lm: LanguageModel, coefficients: HeadCoefficients, question: Question
) -> None:
    scorers: list[Scorer] = [LearnedScorer(coefficients), Fixed("equal", [0.5] * 7)]
    record = measure_faithfulness(
        loop, scorers, question, FaithfulnessSettings(ks=[1], permutation_k=3, permutations=4, seed=5)
    )
    generator = seeded_generator(5, f"faithfulness permutations {question.text}")
    rankings = [torch.randperm(7, generator=generator).tolist() for _ in range(4)]
    prompt = tiny_lm.encode(question.text, question.passages)
    draft = loop.draft(prompt).draft

    def outcome(kept: Sequence[int]) -> tuple[float, float]:
        shorter = tiny_lm.encode(question.text, [question.passages[i] for i in sorted(kept)])
        answer = tiny_lm.generate([shorter], MAX_NEW_TOKENS)[0][0].text
        same = float(normalize_answer(answer) == normalize_answer(draft.text))
        return same, direct_log_p(tiny_lm, prompt, draft.ids, [i in kept for i in range(7)])

    at2 = record["methods"]["at2"]
    kept = sorted(range(7), key=lambda i: -at2["scores"][i])[:3]
    permuted = [outcome(ranking[:3]) for ranking in rankings]
    entry = at2["permutation"]
    assert entry["kept"] == sorted(kept)
    assert tuple(entry["scores"].values()) == pytest.approx(outcome(kept), abs=1e-4)
    assert entry["permuted"]["same"] == sum(same for same, _ in permuted) / 4
    assert entry["permuted"]["log_p"] == pytest.approx(sum(log_p for _, log_p in permuted) / 4, abs=1e-4)
    assert entry["permuted"]["log_p"] != entry["scores"]["log_p"]
    equal = record["methods"]["equal"]["permutation"]
    assert equal["scores"] == pytest.approx(equal["permuted"])


def test_permuted_scores_bring_back_a_draft_that_never_changes(
    loop: CachedLoop, coefficients: HeadCoefficients, question: Question
) -> None:
    """With as many kept as there are, every answer is the draft."""
    record = measure_faithfulness(
        loop, [LearnedScorer(coefficients)], question, FaithfulnessSettings(ks=[1], permutation_k=7)
    )
    entry = record["methods"]["at2"]["permutation"]
    assert (entry["scores"]["same"], entry["permuted"]["same"]) == (1.0, 1.0)
    assert entry["scores"]["log_p"] == record["log_p"]


def test_permuting_is_uniform_and_keeps_the_scores() -> None:
    scores = [0.3, -1.0, 2.0]
    permuted = {tuple(permute(scores, ranking)) for ranking in itertools.permutations(range(3))}
    assert permuted == set(itertools.permutations(scores))


def test_order_tells_content_from_position(
    loop: CachedLoop, coefficients: HeadCoefficients, question: Question
) -> None:
    scorers: list[Scorer] = [BM25Scorer(), RetrieverOrderScorer(), LearnedScorer(coefficients), RandomScorer()]
    record = measure_faithfulness(loop, scorers, question, FaithfulnessSettings(ks=[1]))
    orders = {name: entry["order"] for name, entry in record["methods"].items()}
    assert orders["bm25"]["content"] == pytest.approx(1.0)
    assert orders["bm25"]["position"] < 0.9
    assert orders["retriever_order"]["position"] == pytest.approx(1.0)
    order = shuffled_order(7, seeded_generator(0, f"faithfulness order {question.text}"))
    assert orders["retriever_order"]["content"] == pytest.approx(kendalltau(range(7), order).statistic)
    assert orders["random"] is None
    assert record["order_skipped"] == ["random"]


def test_attention_is_read_again_from_the_shuffled_prompt(
    loop: CachedLoop, tiny_lm: LanguageModel, question: Question
) -> None:
    record = measure_faithfulness(loop, [AttentionScorer()], question, FaithfulnessSettings(ks=[1]))
    order = shuffled_order(7, seeded_generator(0, f"faithfulness order {question.text}"))
    prompt = tiny_lm.encode(question.text, [question.passages[i] for i in order])
    draft = loop.draft(tiny_lm.encode(question.text, question.passages), [DRAFT_ROWS]).draft
    ids = torch.tensor([[*prompt.ids, *draft.ids[:-1]]])
    tiny_lm.model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            weights = tiny_lm.model(ids, output_attentions=True, use_cache=False).attentions
    finally:
        tiny_lm.model.set_attn_implementation("sdpa")
    rows = torch.stack(weights)[:, 0, :, len(prompt) - 1 :].mean((0, 1, 2))
    after = [float(rows[start:stop].sum()) for start, stop in prompt.sources]
    entry = record["methods"]["average_attention"]
    assert entry["order"]["position"] == pytest.approx(kendalltau(entry["scores"], after).statistic)
    moved = [entry["scores"][i] for i in order]
    assert entry["order"]["content"] == pytest.approx(kendalltau(moved, after).statistic)


def test_methods_that_run_ablations_are_reordered_only_where_asked(
    loop: WatchedLoop, tiny_lm: LanguageModel, methods: list[Scorer], question: Question
) -> None:
    record = measure_faithfulness(loop, methods, question, FaithfulnessSettings(ks=[1]))
    assert record["order_skipped"] == ["leave_one_out", "surrogate_32"]
    asked = len(loop.asked)
    record = measure_faithfulness(loop, methods, question, FaithfulnessSettings(ks=[1], order_for=["leave_one_out"]))
    assert record["order_skipped"] == ["surrogate_32"]
    assert len(loop.asked) == 2 * asked + 1
    assert loop.asked[-1][0].ids != loop.asked[0][0].ids
    entry = record["methods"]["leave_one_out"]
    order = shuffled_order(7, seeded_generator(0, f"faithfulness order {question.text}"))
    shuffled = tiny_lm.encode(question.text, [question.passages[i] for i in order])
    draft = loop.draft(tiny_lm.encode(question.text, question.passages)).draft.ids
    log_odds = []
    for out in range(8):  # the last leaves nothing out
        log_p = direct_log_p(tiny_lm, shuffled, draft, [i != out for i in range(7)])
        log_odds.append(log_p - math.log(-math.expm1(log_p)))
    after = [log_odds[7] - without for without in log_odds[:7]]
    moved = [entry["scores"][i] for i in order]
    assert entry["order"]["content"] == pytest.approx(kendalltau(moved, after).statistic)
    assert entry["order"]["position"] == pytest.approx(kendalltau(entry["scores"], after).statistic)


def test_sentences(loop: WatchedLoop, tiny_lm: LanguageModel, question: Question) -> None:
    question = replace(question, passages=question.passages[:4])
    prompt = tiny_lm.encode(question.text, question.passages, "sentence")
    count = len(prompt.sources)
    assert count > 4
    scorers: list[Scorer] = [
        BM25Scorer(),
        LeaveOneOutScorer(),
        RetrieverOrderScorer(),
        Fixed("two", [float(i in (1, count - 1)) for i in range(count)]),
    ]
    record = measure_faithfulness(
        loop, scorers, question, FaithfulnessSettings(granularity="sentence", ks=[2], permutation_k=2)
    )
    draft = loop.draft(prompt).draft
    two = record["methods"]["two"]
    without = [i not in (1, count - 1) for i in range(count)]
    full = direct_log_p(tiny_lm, prompt, draft.ids, [True] * count)
    drop = full - direct_log_p(tiny_lm, prompt, draft.ids, without)
    assert record["sources"] == count
    assert two["top_k_drop"]["2"] == pytest.approx(drop, abs=1e-4)
    texts = [prompt.source_texts[1], prompt.source_texts[-1]]
    owners = [prompt.source_passage[1], prompt.source_passage[-1]]
    assert owners[0] != owners[1]
    cut = [replace(question.passages[i], text=text, sentences=None) for i, text in zip(owners, texts, strict=True)]
    answer = tiny_lm.generate([tiny_lm.encode(question.text, cut)], MAX_NEW_TOKENS)[0][0].text
    assert two["permutation"]["scores"]["same"] == (normalize_answer(answer) == normalize_answer(draft.text))
    assert record["methods"]["bm25"]["order"]["content"] == pytest.approx(1.0)
    assert record["methods"]["retriever_order"]["order"]["position"] == pytest.approx(1.0)


def test_kept_sentences_are_shown_in_their_passages(tiny_lm: LanguageModel, question: Question) -> None:
    prompt = tiny_lm.encode(question.text, question.passages, "sentence")
    owners = prompt.source_passage
    kept = [1, owners.index(3), owners.index(4) - 1]  # the second sentence, and a passage's first and last
    assert [owners[i] for i in kept] == [0, 3, 3]
    result = only_kept(question.passages, kept, "sentence")
    assert [passage.title for passage in result] == [question.passages[0].title, question.passages[3].title]
    texts = [prompt.source_texts[i] for i in kept]
    assert [passage.text for passage in result] == [texts[0], texts[1] + texts[2]]


def test_what_cannot_be_measured_is_said(loop: CachedLoop, tiny_lm: LanguageModel, question: Question) -> None:
    scorers: list[Scorer] = [BM25Scorer()]
    one = measure_faithfulness(loop, scorers, replace(question, passages=question.passages[:1]))
    assert (one["left_out"], one["methods"]) == ("fewer than two sources", {})
    two = measure_faithfulness(
        loop, scorers, replace(question, passages=question.passages[:2]), FaithfulnessSettings(ks=[1])
    )
    assert two["left_out"] is None
    assert two["methods"]["bm25"]["lds"] is None  # of two sources there are but four ablations
    written = loop.draft(tiny_lm.encode(question.text, question.passages)).draft.text
    template = TextTemplate(stop=(written[:2],))
    silent = LanguageModel(tiny_lm.model, tiny_lm.codec.tokenizer, template=template, name=tiny_lm.name)
    empty = measure_faithfulness(CachedLoop(silent, max_new_tokens=MAX_NEW_TOKENS), scorers, question)
    assert (empty["draft"], empty["left_out"], empty["methods"]) == ("", "empty draft", {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ks": [0]}, "at least 1"),
        ({"permutation_k": 0}, "at least 1"),
        ({"ablations": 1}, "at least 2 ablations"),
        ({"permutations": 0}, "1 permutation"),
        ({"granularity": "token"}, "granularity"),
        ({"order_for": ["nobody"]}, "nobody"),
    ],
)
def test_wrong_arguments(loop: CachedLoop, question: Question, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure_faithfulness(loop, [BM25Scorer()], question, FaithfulnessSettings(**options))
