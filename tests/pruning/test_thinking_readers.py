"""Readers that think before they answer: by default they are asked not to, and thoughts alone are an error."""

from __future__ import annotations

import copy

import pytest
from tokenizers import AddedToken
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from at2_prune.errors import OnlyThoughtsError
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.templates import ChatTemplate, default_template
from at2_prune.pruning.pruner import AT2Pruner
from at2_prune.scorers import make_scorer

from ..models.scripted import scripted
from .cases import PASSAGES, QUESTION

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n{% if enable_thinking is defined and enable_thinking is false %}"
    "<think>\n\n</think>\n\n{% endif %}"
)
"""The end of Qwen3's chat template: thinking is on unless it is switched off."""


@pytest.fixture
def tokenizer(tiny_tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    found = copy.deepcopy(tiny_tokenizer)
    found.add_tokens([AddedToken(text, special=False) for text in ("<think>", "</think>")])
    found.chat_template = TEMPLATE
    return found


def test_a_template_that_can_think_is_asked_not_to(tokenizer: PreTrainedTokenizerFast) -> None:
    plain, thinking = default_template(tokenizer), default_template(tokenizer, thinks=True)
    assert isinstance(plain, ChatTemplate)
    assert isinstance(thinking, ChatTemplate)
    assert plain.tail.endswith("<think>\n\n</think>\n\n")
    assert "<think>" not in thinking.tail


def test_thoughts_alone_are_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    written = tokenizer("<think>Dinant or Ghent?", add_special_tokens=False).input_ids
    lm, _ = scripted(tokenizer, written, default_template(tokenizer, thinks=True))
    assert lm.generation(written).only_thoughts
    assert not lm.generation(tokenizer("<think>Hm.</think>", add_special_tokens=False).input_ids).only_thoughts
    assert not lm.generation(tokenizer("Dinant", add_special_tokens=False).input_ids).only_thoughts
    pruner = AT2Pruner(lm, make_scorer("bm25"), max_new_tokens=len(written))
    for work in (
        lambda: pruner.answer(QUESTION, PASSAGES, k=2),
        lambda: pruner.answer(QUESTION, PASSAGES, k=[1, 2]),
        lambda: pruner.answer_batch([QUESTION] * 2, [PASSAGES] * 2, k=2),
        lambda: pruner.answer_from(QUESTION, PASSAGES),
    ):
        with pytest.raises(OnlyThoughtsError, match=rf"no answer within {len(written)} tokens: raise max_new_tokens"):
            work()


def test_a_reader_that_does_not_think_answers(tiny_model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    model = copy.deepcopy(tiny_model)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    lm = LanguageModel(model, tokenizer)
    result = AT2Pruner(lm, make_scorer("bm25"), max_new_tokens=5).answer(QUESTION, PASSAGES, k=2)
    assert len(result.kept) == 2
    assert "<think>" in lm.codec.decode(lm.encode(QUESTION, PASSAGES[:1]).ids, special=True)
    assert "<think>" not in lm.codec.decode(lm.reasoning(own=True).encode(QUESTION, PASSAGES[:1]).ids, special=True)
