"""The workload of the benchmarks: any number of passages, a random model, drafts of a fixed length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, PreTrainedTokenizerFast, Qwen2Config

from at2_prune import LanguageModel, Passage, load_questions, sample_questions_path
from at2_prune.attention.hooks import enable_attention_reading
from at2_prune.attention.rows import RowGroup
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.coefficients.loading import load_coefficients
from at2_prune.errors import CoefficientsError
from at2_prune.models.prompts import EncodedPrompt, TextTemplate
from at2_prune.passages import Granularity

__all__ = [
    "QWEN",
    "RANDOM",
    "Case",
    "asked",
    "case",
    "coefficients_of",
    "described",
    "device_of",
    "endless",
    "load_model",
    "untouched",
]

RANDOM = "random"
"""A model without a download: the depth and heads of Gemma 3 270M, a tenth of its width, random weights."""

QWEN = "random Qwen2 0.5B"
"""A model with the shape of Qwen2 0.5B, with random weights and the vocabulary of `RANDOM`. Its layers take as
much time and memory as the layers of the real model."""


@dataclass(frozen=True)
class Case:
    """A question with its passages, and its prompt."""

    question: str
    passages: list[Passage]
    prompt: EncodedPrompt


def case(
    lm: LanguageModel,
    passages: int,
    granularity: Granularity = "passage",
    index: int = 0,
    merged: int | None = None,
) -> Case:
    """Make a sample question with any number of passages, and its prompt; see `asked`.

    Args:
        lm: encodes the prompt.
        passages: the number of passages.
        granularity: the sources of the prompt are passages or sentences.
        index: the index of the sample question.
        merged: join the passages into this number of longer passages.
    """
    question, chosen = asked(passages, index)
    if merged:
        size = -(-passages // merged)
        runs = [chosen[start : start + size] for start in range(0, passages, size)]
        chosen = [_join(run) for run in runs]
    return Case(question, chosen, lm.encode(question, chosen, granularity))


def asked(passages: int, index: int = 0) -> tuple[str, list[Passage]]:
    """Return a sample question with any number of passages.

    The question's own passages come first, then passages of other questions, then copies under other titles.
    The sample's passages are short. Each passage here joins two of the sample's, so that it has about 130 tokens, as in
    HotpotQA.
    """
    questions = load_questions(sample_questions_path())
    question = questions[index % len(questions)]
    others = [p for q in questions if q is not question for p in q.passages]
    pool = [_join(pair) for pair in pairwise([*question.passages, *others])]
    chosen = [replace(pool[i % len(pool)], title=_title(pool[i % len(pool)], i // len(pool))) for i in range(passages)]
    return question.text, chosen


def _join(passages: Sequence[Passage]) -> Passage:
    """Join the texts of passages to one, under the title of the first."""
    return replace(passages[0], text=" ".join(passage.text for passage in passages), sentences=None)


def _title(passage: Passage, copy: int) -> str:
    return f"{passage.title} ({copy + 1})" if copy else passage.title or ""


def load_model(name: str | None, device: str | None = None, dtype: str | None = None) -> LanguageModel:
    """Load a model by id or path; None for the embedded model, `RANDOM` or `QWEN` for one without a download."""
    if name not in (RANDOM, QWEN):
        return LanguageModel.load(name, device=device, dtype=dtype)
    lm = _random_model(name)
    lm.model.to(device=device or "cpu", dtype=getattr(torch, dtype or "float32"))  # type: ignore[call-arg]
    return lm


def _random_model(name: str) -> LanguageModel:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=["<pad>", "<bos>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    questions = load_questions(sample_questions_path())
    tokenizer.train_from_iterator([p.text for q in questions for p in q.passages], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")
    torch.manual_seed(0)
    config: PreTrainedConfig
    if name == QWEN:
        config = Qwen2Config(
            vocab_size=len(fast),
            hidden_size=896,
            intermediate_size=4864,
            num_hidden_layers=24,
            num_attention_heads=14,
            num_key_value_heads=2,
            max_position_embeddings=32768,
            tie_word_embeddings=True,
        )
    else:
        config = LlamaConfig(
            vocab_size=len(fast),
            hidden_size=64,
            intermediate_size=256,
            num_hidden_layers=18,
            num_attention_heads=4,
            num_key_value_heads=1,
            max_position_embeddings=65536,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
    return LanguageModel(AutoModelForCausalLM.from_config(config), fast, TextTemplate(), name=name)


def device_of(lm: LanguageModel) -> str:
    """Return the name of the GPU, or the type of another device."""
    return torch.cuda.get_device_name(lm.device) if lm.device.type == "cuda" else lm.device.type


def described(lm: LanguageModel, some: Case, **more: Any) -> dict[str, Any]:
    """Return the inputs of a measurement."""
    return {
        "model": lm.name,
        "device": device_of(lm),
        "passages": len(some.passages),
        "tokens": len(some.prompt),
        "sources": len(some.prompt.sources),
        **more,
    }


def coefficients_of(lm: LanguageModel, method: str) -> tuple[HeadCoefficients, str]:
    """Return the shipped coefficients, or random ones of the same shape, and the word `shipped` or `random`.

    Their values change which passages are kept, but nothing else about the cost.
    """
    try:
        shipped = load_coefficients(lm, method=method)
        assert isinstance(shipped, HeadCoefficients)
        return shipped, "shipped"
    except CoefficientsError:
        config = lm.model.config.get_text_config()
        layers = config.num_hidden_layers
        groups, read = ([RowGroup("draft")], layers) if method == "at2" else ([RowGroup("question")], layers // 3)
        weight = torch.randn(1, read, config.num_attention_heads, generator=torch.Generator().manual_seed(0))
        made = HeadCoefficients(weight, groups, model_type=lm.model.config.model_type, model_layers=layers)
        return made, "random"


@contextmanager
def endless(lm: LanguageModel) -> Iterator[LanguageModel]:
    """Let the model write to the last token allowed: no end token, no stop string."""
    model: Any = lm.model
    before = model.generation_config.eos_token_id, lm.tokenizer.eos_token, lm.template
    model.generation_config.eos_token_id, lm.tokenizer.eos_token = None, None
    lm.template = replace(lm.template, stop=()) if isinstance(lm.template, TextTemplate) else lm.template
    try:
        yield lm
    finally:
        model.generation_config.eos_token_id, lm.tokenizer.eos_token, lm.template = before


@contextmanager
def untouched(lm: LanguageModel, kernel: str | None = None) -> Iterator[Any]:
    """Put the model on transformers' own attention function, as it was before anything was read."""
    model: Any = lm.model
    own = model.config.get_text_config()._attn_implementation.removeprefix("at2_")
    model.set_attn_implementation(kernel or own)
    try:
        with torch.inference_mode():
            yield model
    finally:
        model.set_attn_implementation(own)
        enable_attention_reading(model)
