from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    ByT5Tokenizer,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from at2_prune.datasets import Question
from at2_prune.errors import ContextTooLongError, ModelNotSupportedError
from at2_prune.models.language_model import LanguageModel

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from .scripted import PASSAGES

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_a_batch_writes_what_each_prompt_alone_does(tiny_lm: LanguageModel, sample_questions: list[Question]) -> None:
    prompts = [tiny_lm.encode(q.text, q.passages[: 1 + 2 * i]) for i, q in enumerate(sample_questions[:5])]
    assert len({len(prompt) for prompt in prompts}) == 5
    together, reader = tiny_lm.generate(prompts, max_new_tokens=12)
    assert reader is None
    alone = [tiny_lm.generate([prompt], max_new_tokens=12)[0][0] for prompt in prompts]
    assert [g.ids for g in together] == [g.ids for g in alone]
    assert [g.answer for g in together] == [g.answer for g in alone]
    assert [g.text for g in together] == [g.text for g in alone]
    assert len({generation.text for generation in together}) > 1


def test_generate_is_an_argmax_loop(tiny_lm: LanguageModel, sample_questions: list[Question]) -> None:
    prompt = tiny_lm.encode(sample_questions[0].text, sample_questions[0].passages[:3])
    ids = list(prompt.ids)
    with torch.inference_mode():
        for _ in range(10):
            ids.append(int(tiny_lm.model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert tiny_lm.generate([prompt], max_new_tokens=10)[0][0].ids == ids[len(prompt) :]


@pytest.mark.parametrize(
    "settings",
    [
        {"do_sample": True, "temperature": 5.0, "top_k": 50},
        {"num_beams": 3},
        {"num_return_sequences": 2, "do_sample": True},
        {"repetition_penalty": 3.0},
        {"return_dict_in_generate": True},
        {"use_cache": False},
        {"cache_implementation": "static"},
        {"max_length": 5},
        {"max_new_tokens": 3},
        {"no_repeat_ngram_size": 1},
        {"suppress_tokens": list(range(5, 700))},
        {"begin_suppress_tokens": list(range(5, 700))},
        {"bad_words_ids": [[token] for token in range(5, 700)]},
        {"forced_eos_token_id": 7},
        {"sequence_bias": [[[token], -50.0] for token in range(5, 700)]},
        {"exponential_decay_length_penalty": (0, 5.0)},
        {"min_new_tokens": 12},
        {"stop_strings": ["a", "e"]},
        {"prefill_chunk_size": 7},
        {"guidance_scale": 3.0},
        {"prompt_lookup_num_tokens": 3},
    ],
)
def test_a_models_generation_config_does_not_change_the_answer(
    tiny_model: LlamaForCausalLM,
    tiny_tokenizer: PreTrainedTokenizerFast,
    sample_questions: list[Question],
    settings: dict[str, Any],
) -> None:
    changed = copy.deepcopy(tiny_model)
    for name, value in settings.items():
        setattr(changed.generation_config, name, value)
    answers = []
    for model in (tiny_model, changed):
        lm = LanguageModel(model, tiny_tokenizer)
        prompt = lm.encode(sample_questions[0].text, sample_questions[0].passages[:2])
        answers.append(lm.generate([prompt], max_new_tokens=12)[0])
    assert answers[0] == answers[1]


def test_max_new_tokens(tiny_lm: LanguageModel) -> None:
    prompt = tiny_lm.encode("Which city?", PASSAGES)
    longest = tiny_lm.generate([prompt], max_new_tokens=9)[0][0].ids
    assert len(longest) == 9
    assert tiny_lm.generate([prompt], max_new_tokens=4)[0][0].ids == longest[:4]


def test_context_length(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    model = copy.deepcopy(tiny_model)
    lm = LanguageModel(model, tiny_tokenizer, name="small")
    prompt = lm.encode("Which city?", PASSAGES)
    model.config.max_position_embeddings = len(prompt) + 7
    assert lm.context_length == len(prompt) + 7
    assert len(lm.generate([prompt], max_new_tokens=7)[0][0].ids) == 7
    says = f"take {len(prompt)} tokens and the answer may take 8, but small has a context of {len(prompt) + 7} tokens"
    with pytest.raises(ContextTooLongError, match=says):
        lm.generate([prompt], max_new_tokens=8)
    short = lm.encode("Which city?", PASSAGES[:1])
    with pytest.raises(ContextTooLongError, match=says):
        lm.generate([short, prompt], max_new_tokens=8)
    unlimited = LanguageModel(
        BloomForCausalLM(BloomConfig(vocab_size=801, hidden_size=8, n_layer=1, n_head=1)), tiny_tokenizer
    )
    assert unlimited.context_length is None
    unlimited.check_length(10**9, 1)


@pytest.mark.parametrize("chat", [False, True])
def test_a_draft_given_as_text_is_tokenised_as_an_answer(
    tiny_lm: LanguageModel, tiny_tokenizer: PreTrainedTokenizerFast, chat: bool
) -> None:
    lm = tiny_lm
    if chat:
        tokenizer = copy.deepcopy(tiny_tokenizer)
        tokenizer.chat_template = CHATML
        lm = LanguageModel(lm.model, tokenizer)
    for text in ("Canberra", "the <bos> of <|im_end|>", "a  b\n\nc", "🏳️‍🌈"):
        ids = lm.encode_draft(f"  {text}\n")
        assert lm.codec.decode(ids) == ("" if chat else " ") + text
        assert not set(ids) & set(range(5))
    assert lm.encode_draft("") == lm.encode_draft(" \n") == []


def test_sets_evaluation_mode_and_a_name(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    model = copy.deepcopy(tiny_model).train()
    lm = LanguageModel(model, tiny_tokenizer)
    assert not model.training
    assert lm.name == "LlamaForCausalLM"
    assert LanguageModel(model, tiny_tokenizer, name="mine").name == "mine"


def test_slow_tokenizers_are_refused(tiny_model: LlamaForCausalLM) -> None:
    with pytest.raises(ModelNotSupportedError, match="ByT5Tokenizer is not a fast tokenizer"):
        LanguageModel(tiny_model, ByT5Tokenizer())
