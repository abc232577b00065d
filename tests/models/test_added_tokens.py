"""Models that put tokens of their own before the prompt: spans would point at other tokens, so they are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from at2_prune.errors import ModelNotSupportedError
from at2_prune.models.language_model import LanguageModel
from at2_prune.passages import as_passages
from at2_prune.pruning.pruner import AT2Pruner

QUESTION = "Which city is the capital?"
PASSAGES = as_passages(
    ["Canberra is the capital of Australia.", "Perth lies in the west.", "Sydney is the largest city."]
)
ADDED = 4
of_peft = pytest.mark.filterwarnings(  # peft 0.21
    "ignore:`is_gradient_checkpointing`:FutureWarning", "ignore:Both `past_key_values` and `cache`:FutureWarning"
)


class WithTokensOfItsOwn(LlamaForCausalLM):
    """It runs `ADDED` learned vectors before every text, as meta tokens and virtual tokens are run."""

    def forward(self, input_ids: torch.Tensor | None = None, **options: Any) -> Any:
        cache = options.get("past_key_values")
        if input_ids is None or (cache is not None and cache.get_seq_length()):
            return super().forward(input_ids, **options)
        for name in ("attention_mask", "position_ids"):
            options.pop(name, None)
        embedded = self.get_input_embeddings()(input_ids)
        added = torch.ones(len(embedded), ADDED, embedded.shape[-1])
        return super().forward(inputs_embeds=torch.cat([added, embedded], dim=1), **options)


def assert_refused(model: Any, tokenizer: PreTrainedTokenizerFast, message: str) -> None:
    lm = LanguageModel(model, tokenizer, name="it")
    pruner = AT2Pruner.from_pretrained(lm, method="average_attention", max_new_tokens=4)
    with pytest.raises(ModelNotSupportedError, match=message):
        pruner.score(QUESTION, PASSAGES)
    with pytest.raises(ModelNotSupportedError, match=message):
        pruner.score(QUESTION, PASSAGES, draft="It is Canberra.")
    unread = AT2Pruner.from_pretrained(lm, method="retriever_order", max_new_tokens=4)
    assert unread.answer(QUESTION, PASSAGES, 2).kept == [0, 1]  # no span is read


def test_a_model_with_tokens_of_its_own(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    model = WithTokensOfItsOwn(tiny_model.config)
    model.load_state_dict(tiny_model.state_dict())
    assert_refused(model, tiny_tokenizer, r"where \d+ tokens were given.* adds tokens of its own")


@of_peft
@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("PromptTuningConfig", "PROMPT_TUNING"),
        ("PromptEncoderConfig", "P_TUNING"),
        ("PrefixTuningConfig", "PREFIX_TUNING"),  # transformers 5.24 leaves its keys out where peft 0.21 drafts
    ],
)
def test_virtual_tokens_of_peft(
    kind: str, named: str, tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    peft = pytest.importorskip("peft", reason="pip install peft, to test adapters with virtual tokens")
    config = getattr(peft, kind)(task_type="CAUSAL_LM", num_virtual_tokens=ADDED)
    base = LlamaForCausalLM(tiny_model.config)
    base.load_state_dict(tiny_model.state_dict())
    message = f"a PEFT adapter of type {named} adds tokens of its own"
    assert_refused(peft.get_peft_model(base, config), tiny_tokenizer, message)


@of_peft
def test_lora_adds_no_tokens(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    peft = pytest.importorskip("peft", reason="pip install peft, to test adapters without virtual tokens")
    base = LlamaForCausalLM(tiny_model.config)
    base.load_state_dict(tiny_model.state_dict())
    adapted = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]))
    scores = [
        AT2Pruner.from_pretrained(LanguageModel(model, tiny_tokenizer), method="average_attention").score(
            QUESTION, PASSAGES, draft="It is Canberra."
        )
        for model in (tiny_model, adapted)  # a new adapter changes nothing
    ]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
