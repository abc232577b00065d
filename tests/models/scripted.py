"""A model whose weights say which token follows which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from at2_prune.models.language_model import LanguageModel
from at2_prune.models.prompts import EncodedPrompt
from at2_prune.passages import Passage

__all__ = ["PASSAGES", "scripted"]

PASSAGES = [Passage("Canberra is the capital of Australia.", title="Canberra"), Passage("Sydney is larger.")]


def scripted(
    tokenizer: PreTrainedTokenizerFast, written: Sequence[int], template: Any = None, layers: int = 1
) -> tuple[LanguageModel, EncodedPrompt]:
    """A real Llama whose weights say which token follows which, and a prompt after which it writes `written`.

    Embeddings are one-hot, attention and MLP add nothing, and the output layer holds the successors; so no token may
    occur twice. The attention of zero queries is uniform. There are as many heads as layers.
    """
    size = len(tokenizer)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=size + -size % layers,
        intermediate_size=8,
        num_hidden_layers=layers,
        num_attention_heads=layers,
        num_key_value_heads=layers,
        head_dim=8,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model: Any = LlamaForCausalLM(config)
    language_model = LanguageModel(model, tokenizer, template)
    prompt = language_model.encode("Which city?", PASSAGES)
    chain = [prompt.ids[-1], *written]
    assert len(set(chain)) == len(chain)
    successor = dict(zip(chain, [*written, config.eos_token_id], strict=True))
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            parameter.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size, config.hidden_size))
        model.lm_head.weight.zero_()
        for token in range(size):
            model.lm_head.weight[successor.get(token, config.eos_token_id), token] = 1
    return language_model, prompt
