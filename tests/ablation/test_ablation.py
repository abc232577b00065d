"""The shared-prefix engine against a plain loop over an untouched copy of the model: one full forward pass a mask."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Sequence
from decimal import Decimal, localcontext
from typing import Any

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from at2_prune.ablation import ablation_outcomes, log_odds, random_masks
from at2_prune.datasets import Question
from at2_prune.errors import InputError, ModelNotSupportedError
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.prompts import EncodedPrompt, Piece, TextTemplate
from at2_prune.passages import Passage

WINDOW = 48


def random_model(kind: Any, config: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    model = kind(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.3)
    return model


def gemma(tokenizer: PreTrainedTokenizerFast, generation: int) -> PreTrainedModel:
    shared = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    if generation == 2:
        return random_model(Gemma2ForCausalLM, Gemma2Config(**shared))  # soft-caps: the family's eager kernel
    return random_model(Gemma3ForCausalLM, Gemma3TextConfig(**shared))


@pytest.fixture(scope="module", params=["llama", "gemma3", "gemma2"])
def models(request: pytest.FixtureRequest, tiny_model: Any, tiny_tokenizer: Any) -> tuple[LanguageModel, Any]:
    """A language model to run and an untouched copy as reference."""
    model = tiny_model if request.param == "llama" else gemma(tiny_tokenizer, int(request.param[-1]))
    return LanguageModel(copy.deepcopy(model), tiny_tokenizer), copy.deepcopy(model)


def plain_loop(
    model: PreTrainedModel, prompt: EncodedPrompt, target: Sequence[int], masks: Any, parts: Any, positions: str
) -> torch.Tensor:
    ids = [*prompt.ids, *target]
    outcomes = []
    for mask in masks.tolist():
        present = [True] * len(ids)
        for keep, (start, stop) in zip(mask, prompt.sources, strict=True):
            present[start:stop] = [keep] * (stop - start)
        with torch.no_grad():
            if positions == "kept":
                options = {
                    "attention_mask": torch.tensor([present]).long(),
                    "position_ids": torch.arange(len(ids))[None],
                }
                logits = model(torch.tensor([ids]), **options).logits[0]
            else:
                logits = model(torch.tensor([[i for i, there in zip(ids, present, strict=True) if there]])).logits[0]
        rows = logits[-len(target) - 1 : -1].double().log_softmax(-1)
        log_p = rows[torch.arange(len(target)), torch.tensor(list(target))]
        sums = torch.stack([log_p[start:stop].sum() for start, stop in parts])
        outcomes.append(sums - torch.log1p(-sums.exp()))
    return torch.stack(outcomes)


def task(lm: LanguageModel, question: Question, granularity: Any = "passage", count: int = 6) -> tuple[Any, list[int]]:
    prompt = lm.encode(question.text, question.passages[:count], granularity)
    assert len(prompt) > 5 * WINDOW
    return prompt, lm.encode_draft("Canberra. It is a city.")


@pytest.fixture(params=["tree", "batches"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As on a CPU, or as on a GPU; batches are small, so that there are several and some are padded."""
    monkeypatch.setattr(LanguageModel, "batching_pays", request.param == "batches")
    monkeypatch.setattr("at2_prune.ablation.whole.TOKENS_AT_ONCE", 1600)
    return request.param


@pytest.mark.parametrize("positions", ["kept", "closed"])
@pytest.mark.parametrize("granularity", ["passage", "sentence"])
def test_outcomes_as_a_plain_loop(
    models: tuple[LanguageModel, Any], sample_questions: list[Question], positions: Any, granularity: str, way: str
) -> None:
    lm, reference = models
    prompt, target = task(lm, sample_questions[1], granularity)
    masks = random_masks(len(prompt.sources), 6, torch.Generator().manual_seed(0))
    masks = torch.cat([masks, torch.ones_like(masks[:1]), torch.zeros_like(masks[:1]), masks[2:3]])
    parts = [(0, len(target)), (0, 3), (3, len(target)), (2, 3)]
    outcomes = ablation_outcomes(lm, prompt, target, masks, parts, positions)
    expected = plain_loop(reference, prompt, target, masks, parts, positions)
    assert outcomes.dtype == torch.float64
    assert outcomes.shape == (9, 4)
    torch.testing.assert_close(outcomes, expected, atol=1e-4, rtol=0)
    assert torch.equal(outcomes[2], outcomes[8])
    assert float(outcomes[:, 0].std()) > 0.01
    whole = ablation_outcomes(lm, prompt, target, masks, positions=positions)
    assert torch.equal(whole, outcomes[:, :1])


def test_a_model_that_has_logits_of_every_row_only(
    tiny_lm: LanguageModel, tiny_model: Any, sample_questions: list[Question], way: str
) -> None:
    prompt, target = task(tiny_lm, sample_questions[0])
    masks = random_masks(len(prompt.sources), 4, torch.Generator().manual_seed(0))
    tiny_lm.compatibility.keeps_logits = False
    outcomes = ablation_outcomes(tiny_lm, prompt, target, masks)
    expected = plain_loop(tiny_model, prompt, target, masks, [(0, len(target))], "kept")
    torch.testing.assert_close(outcomes, expected, atol=1e-4, rtol=0)


def test_a_model_that_overflows_is_refused(tiny_lm: LanguageModel, sample_questions: list[Question], way: str) -> None:
    lm = LanguageModel(copy.deepcopy(tiny_lm.model), tiny_lm.tokenizer)
    lm.model.get_output_embeddings().weight.data.fill_(float("nan"))
    prompt, target = task(lm, sample_questions[0])
    with pytest.raises(ModelNotSupportedError, match="logits are NaN"):
        ablation_outcomes(lm, prompt, target, torch.ones(1, len(prompt.sources), dtype=torch.bool))


def test_the_two_kinds_of_positions_differ(tiny_lm: LanguageModel, sample_questions: list[Question]) -> None:
    prompt, target = task(tiny_lm, sample_questions[0])
    masks = torch.ones(2, len(prompt.sources), dtype=torch.bool)
    masks[1, 0] = False
    kept, closed = (ablation_outcomes(tiny_lm, prompt, target, masks, positions=p) for p in ("kept", "closed"))
    assert abs(float(kept[0] - closed[0])) < 1e-4
    assert abs(float(kept[1] - closed[1])) > 1e-3


def test_single_tokens_as_sources(models: tuple[LanguageModel, Any], way: str) -> None:
    lm, reference = models
    passages = [Passage("Canberra is the capital.", title="Canberra"), Passage("Sydney is larger.")]
    prompt = lm.encode("Which city?", passages, "token")
    assert len(prompt.sources) > 15
    target = lm.encode_draft("Canberra")
    masks = random_masks(len(prompt.sources), 5, torch.Generator().manual_seed(1))
    for positions in ("kept", "closed"):
        outcomes = ablation_outcomes(lm, prompt, target, masks, positions=positions)
        expected = plain_loop(reference, prompt, target, masks, [(0, len(target))], positions)
        torch.testing.assert_close(outcomes, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("count", [1, 3])
def test_a_target_of_few_tokens_and_empty_sources(models: tuple[LanguageModel, Any], count: int, way: str) -> None:
    lm, reference = models
    prompt = lm.encode("Which city?", [Passage("", sentences=("",)), Passage("a", sentences=("a", ""))], "sentence")
    assert any(start == stop for start, stop in prompt.sources)
    target = lm.encode_draft("Canberra city")[:count]
    masks = torch.tensor([[True, True, False], [False, True, True], [False, False, False], [True, False, True]])
    outcomes = ablation_outcomes(lm, prompt, target, masks)
    expected = plain_loop(reference, prompt, target, masks, [(0, count)], "kept")
    torch.testing.assert_close(outcomes, expected, atol=1e-4, rtol=0)


def tokens_run(lm: LanguageModel, *arguments: Any, **options: Any) -> int:
    """Tokens that go through the model's embedding, without those that only take ablations to the output layer."""
    seen: list[int] = []
    embedding: Any = lm.model.get_input_embeddings()
    handle = embedding.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].numel()))
    try:
        ablation_outcomes(lm, *arguments, **options)
    finally:
        handle.remove()
    several = len(set(map(tuple, arguments[2].tolist()))) > 1
    assert (1 in seen) == several  # one ablation alone takes no second pass
    return sum(count for count in seen if count > 1)


def test_work_is_shared(tiny_lm: LanguageModel, sample_questions: list[Question]) -> None:
    prompt, target = task(tiny_lm, sample_questions[0], count=10)
    sources = len(prompt.sources)
    full = len(prompt) + len(target) - 1
    lengths = torch.tensor([stop - start for start, stop in prompt.sources])
    ones = torch.ones(1, sources, dtype=torch.bool)
    assert tokens_run(tiny_lm, prompt, target, ones) == full
    assert tokens_run(tiny_lm, prompt, target, ones.repeat(8, 1)) == full
    assert tokens_run(tiny_lm, prompt, target, ~ones) == full - int(lengths.sum())
    masks = random_masks(sources, 16, torch.Generator().manual_seed(0))
    longest = full - int(lengths.sum()) + int((masks * lengths).sum(1).max())
    loop, kept_only = 16 * full, int((masks * lengths).sum()) + 16 * (full - int(lengths.sum()))
    run = tokens_run(tiny_lm, prompt, target, masks)
    assert run < kept_only < loop
    assert run > longest
    prefix = prompt.sources[0][0]
    assert kept_only - run >= 15 * prefix  # what stands before the first source runs once


def test_the_order_of_ablations_does_not_matter(
    tiny_lm: LanguageModel, sample_questions: list[Question], way: str
) -> None:
    prompt, target = task(tiny_lm, sample_questions[0])
    masks = random_masks(len(prompt.sources), 8, torch.Generator().manual_seed(0))
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    outcomes = ablation_outcomes(tiny_lm, prompt, target, masks)
    torch.testing.assert_close(
        ablation_outcomes(tiny_lm, prompt, target, masks[order]), outcomes[order], atol=1e-5, rtol=0
    )
    assert torch.equal(ablation_outcomes(tiny_lm, prompt, target, masks), outcomes)


def test_eight_threads_on_one_model(tiny_lm: LanguageModel, sample_questions: list[Question], way: str) -> None:
    lm = LanguageModel(copy.deepcopy(tiny_lm.model), tiny_lm.tokenizer)  # not read from before the threads start
    tasks = []
    for i in range(8):
        prompt, target = task(tiny_lm, sample_questions[i % 4])
        masks = random_masks(len(prompt.sources), 3, torch.Generator().manual_seed(i))
        tasks.append((prompt, target, masks))
    found: list[Any] = [None] * 8

    def work(i: int) -> None:
        found[i] = ablation_outcomes(lm, *tasks[i], positions="kept" if i % 2 else "closed")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, arguments in enumerate(tasks):
        expected = ablation_outcomes(tiny_lm, *arguments, positions="kept" if i % 2 else "closed")
        assert torch.equal(found[i], expected)


def test_bad_ablations(tiny_lm: LanguageModel) -> None:
    prompt = tiny_lm.encode("Which city?", [Passage("a"), Passage("b")])
    target = tiny_lm.encode_draft("Canberra")
    ones = torch.ones(3, 2, dtype=torch.bool)
    with pytest.raises(InputError, match="the target of an ablation is empty"):
        ablation_outcomes(tiny_lm, prompt, [], ones)
    for masks in (ones[:, :1], ones[0], ones[:0], torch.ones(3, 3)):
        with pytest.raises(InputError, match=rf"masks of shape \({masks.shape[0]},.* for 2 sources"):
            ablation_outcomes(tiny_lm, prompt, target, masks)


def test_a_prompt_that_ends_in_a_source(tiny_lm: LanguageModel) -> None:
    class PassagesLast(TextTemplate):
        def around(self, question: str) -> tuple[list[Piece], list[Piece]]:
            return [Piece("Q: "), Piece(question, "question"), Piece("\n")], []

    lm = LanguageModel(tiny_lm.model, tiny_lm.tokenizer, PassagesLast())
    prompt = lm.encode("Which city?", [Passage("a"), Passage("b")])
    with pytest.raises(InputError, match="the prompt ends with a source"):
        ablation_outcomes(lm, prompt, lm.encode_draft("Canberra"), torch.tensor([[True, False]]))


def test_random_masks() -> None:
    masks = random_masks(40, 500, torch.Generator().manual_seed(3))
    assert masks.dtype == torch.bool
    assert masks.shape == (500, 40)
    assert abs(float(masks.float().mean()) - 0.5) < 0.01
    assert torch.equal(masks, random_masks(40, 500, torch.Generator().manual_seed(3)))
    assert not torch.equal(masks, random_masks(40, 500, torch.Generator().manual_seed(4)))
    assert abs(float(random_masks(40, 500, torch.Generator(), keep=0.2).float().mean()) - 0.2) < 0.01


@pytest.mark.parametrize("log_p", [-1e-11, -1e-8, -1e-4, -0.1, math.log(0.5), -1.0, -30.0, -700.0, -5000.0])
def test_log_odds_to_sixty_digits(log_p: float) -> None:
    with localcontext() as context:
        context.prec = 2500 if log_p < -1000 else 400
        p = Decimal(log_p).exp()
        expected = float(Decimal(log_p) - (1 - p).ln())
    assert float(log_odds(torch.tensor(log_p, dtype=torch.float64))) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_log_odds_of_certainty_are_finite_and_never_below_those_of_less() -> None:
    values = log_odds(torch.tensor([-1e-3, -1e-7, -1e-11, -1e-13, 0.0], dtype=torch.float32))
    assert values.dtype == torch.float64
    assert bool(torch.isfinite(values).all())
    assert values.tolist() == sorted(values.tolist())
    assert float(log_odds(torch.tensor(-math.inf))) == -math.inf
