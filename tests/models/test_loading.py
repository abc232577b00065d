"""What is not a causal language model with its own tokenizer is refused, in words that say what it is."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    BertModel,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from at2_prune.coefficients.scout_coefficients import ScoutCoefficients
from at2_prune.errors import InputError, MissingExtraError, ModelNotSupportedError
from at2_prune.models.language_model import LanguageModel
from at2_prune.passages import Passage
from at2_prune.pruning.pruner import AT2Pruner

PASSAGES = [Passage("Dinant lies on the Meuse.", title="Dinant"), Passage("Ghent is a city.")]
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture
def saved(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    tiny_model.save_pretrained(tmp_path / "base")
    tiny_tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.mark.parametrize("kind", [BertModel, BertForMaskedLM])
def test_an_encoder_is_refused(kind: Any, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    kind(BertConfig(vocab_size=800, **SMALL)).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    with pytest.raises(
        ModelNotSupportedError, match=r"cannot load model .*type 'bert' is an encoder, which cannot write"
    ):
        LanguageModel.load(tmp_path, device="cpu")


def test_an_encoder_that_was_made_a_decoder_is_not(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    config = BertConfig(vocab_size=800, **SMALL)
    with pytest.raises(ModelNotSupportedError, match="is an encoder"):
        LanguageModel(BertLMHeadModel(config), tiny_tokenizer)
    config.is_decoder = True
    assert LanguageModel(BertLMHeadModel(config), tiny_tokenizer).encode("Which river?", PASSAGES).ids


@pytest.mark.parametrize(("kind", "says"), [("t5", "an encoder-decoder"), ("vit", "no causal language model")])
def test_other_kinds_of_models_are_named(kind: str, says: str, tmp_path: Path) -> None:
    AutoConfig.for_model(kind).save_pretrained(tmp_path)
    with pytest.raises(ModelNotSupportedError, match=f"type '{kind}' is {says}; at2-prune needs a decoder-only"):
        LanguageModel.load(tmp_path, device="cpu")


def test_a_model_that_adds_keys_of_its_own_is_named(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    widths = {"hidden_size": 32, "head_dim": 16, "q_lora_rank": 16, "o_lora_rank": 8, "qk_rope_head_dim": 8}
    index = {"index_n_heads": 2, "index_head_dim": 8, "index_topk": 4}
    experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 4, "o_groups": 2, "layer_types": None}
    config = AutoConfig.for_model(
        "deepseek_v4", vocab_size=800, mlp_layer_types=None, **widths, **index, **experts, **layers
    )
    lm = LanguageModel(AutoModelForCausalLM.from_config(config), tiny_tokenizer)
    pruner = AT2Pruner.from_pretrained(lm, method="average_attention", max_new_tokens=2)
    with pytest.raises(ModelNotSupportedError, match=r"deepseek_v4|adds tokens of its own"):
        pruner.score("Which river?", PASSAGES)
    for advised in ("leave_one_out", "retriever_order"):  # a method that reads no attention
        assert len(AT2Pruner.from_pretrained(lm, method=advised, max_new_tokens=2).score("Which river?", PASSAGES)) == 2


def test_a_decoder_whose_config_says_that_it_is_none_of_an_encoder(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    config = GPTNeoXConfig(vocab_size=800, **SMALL)
    assert config.is_decoder is False  # it is one nevertheless
    assert LanguageModel(GPTNeoXForCausalLM(config), tiny_tokenizer)


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    """transformers makes a tokenizer of nothing, which reads every word as unknown."""
    config = AutoConfig.for_model("gemma3_text", vocab_size=800, num_key_value_heads=2, head_dim=8, **SMALL)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ModelNotSupportedError, match="makes no token of 'a': its vocabulary is empty or lacks plain"):
        LanguageModel.load(tmp_path, device="cpu")


def test_a_tokenizer_of_another_model(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    config = copy.deepcopy(tiny_model.config)
    config.vocab_size = 300
    lm = LanguageModel(LlamaForCausalLM(config), tiny_tokenizer, name="small")
    with pytest.raises(
        ModelNotSupportedError, match=r"tokenizer makes token \d+ \('.*'\), but small has .* 300 tokens"
    ):
        lm.encode("Which river?", PASSAGES)
    with pytest.raises(ModelNotSupportedError, match="belongs to another model"):
        lm.encode_draft("the Meuse")


def test_a_pad_token_without_an_embedding_is_not_used(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.add_special_tokens({"pad_token": "<a new pad>"})
    assert tokenizer.pad_token_id >= tiny_model.get_input_embeddings().num_embeddings
    lm = LanguageModel(tiny_model, tokenizer)
    prompts = [lm.encode("Which river?", PASSAGES[:count]) for count in (1, 2)]
    together, _ = lm.generate(prompts, 4)
    assert [one.ids for one in together] == [lm.generate([prompt], 4)[0][0].ids for prompt in prompts]


@pytest.mark.parametrize("part", ["model.layers.0.self_attn.q_proj.weight", "lm_head.weight"])
@pytest.mark.parametrize("method", ["average_attention", "retriever_order"])
def test_weights_that_are_no_numbers(
    part: str, method: str, tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    model = copy.deepcopy(tiny_model)
    dict(model.named_parameters())[part].data[0, 0] = torch.nan
    pruner = AT2Pruner.from_pretrained(LanguageModel(model, tiny_tokenizer), method=method, max_new_tokens=4)
    passages = [*PASSAGES, "Namur is a province."]
    for k in (1, [1, 2]):
        with pytest.raises(ModelNotSupportedError, match="not finite"):
            pruner.answer("Which river?", passages, k)


@pytest.mark.parametrize("granularity", ["passage", "sentence"])
def test_scout_with_weights_that_are_no_numbers(
    granularity: str, tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    model = copy.deepcopy(tiny_model)
    model.get_input_embeddings().weight.data[:, 0] = torch.nan
    layers = torch.zeros(6, 2, 4)
    coefficients = ScoutCoefficients(layers, layers, torch.zeros(6, 1, 4), (0, 1), (1,), "tiny", "llama", 2)
    pruner = AT2Pruner.from_pretrained(
        LanguageModel(model, tiny_tokenizer), coefficients, granularity=granularity, max_new_tokens=4
    )
    with pytest.raises(ModelNotSupportedError, match="computes numbers that are not finite"):
        pruner.score("Which river?", PASSAGES)


def test_a_base_model_that_an_adapter_needs(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(saved)})
    )
    if importlib.util.find_spec("peft") is not None:
        monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"is a PEFT adapter. Loading it needs peft, .*: pip install peft"):
        LanguageModel.load(folder, device="cpu")
    (saved / "adapter_config.json").write_text((folder / "adapter_config.json").read_text())
    with pytest.raises(MissingExtraError):  # transformers would leave the adapter out without a word
        LanguageModel.load(saved, device="cpu")


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft's own use of transformers
def test_a_lora_adapter_is_merged(saved: Path, tiny_model: LlamaForCausalLM, tmp_path: Path) -> None:
    peft: Any = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    adapted = peft.get_peft_model(LlamaForCausalLM.from_pretrained(saved), config)
    adapted.save_pretrained(tmp_path / "lora")
    lm = LanguageModel.load(tmp_path / "lora", device="cpu")
    ids = torch.tensor([lm.encode("Which river?", PASSAGES).ids])
    with torch.no_grad():
        found, expected, base = (model(ids).logits for model in (lm.model, adapted, tiny_model))
    assert torch.allclose(found, expected, atol=1e-4)
    assert (found - base).abs().max() > 0.1


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_adapter_that_adds_tokens_is_refused(saved: Path, tmp_path: Path) -> None:
    peft: Any = pytest.importorskip("peft")
    config = peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    peft.get_peft_model(LlamaForCausalLM.from_pretrained(saved), config).save_pretrained(tmp_path / "prompt")
    with pytest.raises(InputError, match=r"of type PROMPT_TUNING, which adds tokens of its own to the prompt"):
        LanguageModel.load(tmp_path / "prompt", device="cpu")


UNREACHABLE = """
import time
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.errors import AT2PruneError
from at2_prune.models.language_model import LanguageModel
from at2_prune.encoders.encoder import Encoder
from at2_prune.datasets import load_questions
from transformers import AutoModel
encoder = lambda name: Encoder(AutoModel, name, "cpu")
for load in (load_questions, LanguageModel.load, HeadCoefficients.from_pretrained, encoder):
    started = time.perf_counter()
    try:
        load("nobody/no-such-model")
    except AT2PruneError as error:
        print(f"{time.perf_counter() - started:.1f} {error}")
"""


def test_an_unknown_name_fails_at_once_without_a_connection(tmp_path: Path) -> None:
    offline = {
        "HF_HUB_OFFLINE": "0",
        "TRANSFORMERS_OFFLINE": "0",
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", UNREACHABLE], capture_output=True, text=True, check=True, env={**os.environ, **offline}
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    for line in lines:
        seconds, _, said = line.partition(" ")
        assert float(seconds) < 10  # the Hub's client alone takes more than 20
        assert "http://127.0.0.1:9 cannot be reached" in said
        assert "'nobody/no-such-model'" in said
