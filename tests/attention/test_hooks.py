"""The hook into transformers: what it leaves alone, what it refuses, and positions of tokens that were left out."""

from __future__ import annotations

import copy
import inspect
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import (
    AttentionInterface,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    Gemma3Config,
    PreTrainedModel,
    T5Config,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from attention_parity import ROWS, SOURCES, TOLERANCE, compare_model, expected_mass, generate, prompt_ids
from exactness import eager_copy
from families import FAMILIES, build

from at2_prune.attention import hooks as interface
from at2_prune.attention.hooks import enable_attention_reading, original_positions
from at2_prune.attention.reader import read_attention
from at2_prune.attention.rows import Reading
from at2_prune.errors import ModelNotSupportedError
from at2_prune.models.kv_cache import cache_options, output_cache

READINGS = [Reading(SOURCES, ROWS)]
KEPT = [i for i in range(60) if not (5 <= i < 14 or 20 <= i < 33 or 40 <= i < 42)]
FEW = [0, 1, 30, 31, 32, 44, 45, 46, 57, 58, 59]  # fewer than a window holds


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def text_ids() -> torch.Tensor:
    return torch.randint(2, 128, (1, 60), generator=torch.Generator().manual_seed(3))


# Leaving the model as it was


@pytest.mark.parametrize(
    ("family", "name"), [("llama", "at2_sdpa"), ("gemma2", "at2_eager"), ("gpt-oss", "at2_eager"), ("gemma4", "sdpa")]
)
def test_the_kernel_stays_and_enabling_is_idempotent(family: str, name: str) -> None:
    model = build(family)
    if family == "gemma4" and '_implementation == "sdpa"' not in inspect.getsource(sys.modules[type(model).__module__]):
        name = "at2_sdpa"  # before it asked for the kernel by its name, which transformers 5.20 does not yet
    for _ in range(3):
        enable_attention_reading(model)
        assert model.config._attn_implementation == name
    heard = []
    with interface.listening(lambda module, *rest: heard.append(module.layer_idx)):
        model(text_ids())
    assert heard == [0, 1, 2, 3]  # once a layer
    if "sdpa" in name:
        assert ALL_ATTENTION_FUNCTIONS[name].original is sdpa_attention_forward


def test_a_loaded_kernel_is_kept(tmp_path: Path) -> None:
    build("llama").save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    enable_attention_reading(model)
    assert model.config._attn_implementation == "at2_eager"
    model.save_pretrained(tmp_path / "again")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "again").config._attn_implementation == "sdpa"


@pytest.mark.parametrize("family", ["gemma2", "gpt-oss"])
def test_eager_attention_goes_block_by_block(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interface, "EAGER_ROWS", 7)
    model = build(family)
    untouched = copy.deepcopy(model)
    enable_attention_reading(model)
    with torch.no_grad():
        one, other = model(text_ids(), output_attentions=True), untouched(text_ids(), output_attentions=True)
        assert torch.allclose(model(text_ids()).logits, other.logits, atol=1e-5)
    assert torch.equal(one.logits, other.logits)  # asked for the weights, it computes them at once, as before
    assert all(torch.equal(a, b) for a, b in zip(one.attentions, other.attentions, strict=True))


@pytest.mark.parametrize("listen", [False, True])
@pytest.mark.parametrize("family", ["gemma3", "gemma2"])
def test_gradients_flow(family: str, listen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interface, "EAGER_ROWS", 7)
    model = build(family)
    untouched = copy.deepcopy(model)
    untouched(text_ids(), labels=text_ids()).loss.backward()
    enable_attention_reading(model)
    if listen:
        with read_attention(model, READINGS) as reader:
            model(text_ids(), labels=text_ids()).loss.backward()
        assert not reader.mass("question").requires_grad
    else:
        model(text_ids(), labels=text_ids()).loss.backward()
    for one, other in zip(model.parameters(), untouched.parameters(), strict=True):
        assert one.grad is not None
        assert torch.allclose(one.grad, other.grad, atol=1e-4, rtol=1e-4)


def test_language_model_of_a_model_for_images() -> None:
    text = {
        "vocab_size": 128,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention"],
        "initializer_range": 0.2,
        "eos_token_id": None,
        "pad_token_id": 0,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    tokens = {"image_token_index": 127, "boi_token_index": 126, "eoi_token_index": 125}
    torch.manual_seed(0)
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, eos_token_id=None, **tokens)
    model = AutoModelForCausalLM.from_config(config).eval()
    ids = prompt_ids().clamp(max=120)
    eager, plain = eager_copy(model), copy.deepcopy(model)
    with read_attention(model, READINGS) as reader:
        text_out = generate(model, ids)
    assert torch.equal(text_out, generate(plain, ids))
    with torch.no_grad():
        attentions = eager(text_out[:, :-1], use_cache=False, output_attentions=True).attentions
    for rows in ROWS:
        assert torch.allclose(reader.mass(rows.name), expected_mass(attentions, rows, SOURCES), atol=TOLERANCE)


# Refusing


UNSUPPORTED = {
    "BloomConfig": {"n_layer": 2, "n_head": 4},
    "FalconConfig": {"num_hidden_layers": 2, "num_attention_heads": 4},
    "GPTNeoConfig": {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]},
    "MptConfig": {"d_model": 32, "n_layers": 2, "n_heads": 4},
    "MambaConfig": {"num_hidden_layers": 2, "state_size": 8},
}


@pytest.mark.parametrize("config", UNSUPPORTED)
def test_models_without_readable_attention_are_refused(config: str) -> None:
    options = {"vocab_size": 128, "hidden_size": 32, **UNSUPPORTED[config]}
    model = AutoModelForCausalLM.from_config(getattr(transformers, config)(**options))
    before = model.config._attn_implementation
    with pytest.raises(ModelNotSupportedError, match="AttentionInterface") as error:
        enable_attention_reading(model)
    assert type(model).__name__ in str(error.value)
    assert repr(model.config.model_type) in str(error.value)
    assert model.config._attn_implementation == before


@pytest.mark.parametrize("name", ["GPTJ", "CodeGen"])
def test_families_that_only_a_newer_transformers_lets_read(name: str) -> None:
    """GPT-J and CodeGen go through the interface since transformers 5.24."""
    options = {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "n_positions": 256, "initializer_range": 0.2}
    config = getattr(transformers, f"{name}Config")(vocab_size=128, bos_token_id=1, eos_token_id=None, **options)
    model = AutoModelForCausalLM.from_config(config).eval()
    if "ALL_ATTENTION_FUNCTIONS" in inspect.getsource(sys.modules[type(model).__module__]):
        parity = compare_model(name, model)
        assert parity.layers == 2
        assert parity.worst <= TOLERANCE
    else:
        with pytest.raises(ModelNotSupportedError, match=rf"{name}ForCausalLM \(.* AttentionInterface"):
            enable_attention_reading(model)


def test_encoder_decoders_are_refused() -> None:
    config = T5Config(vocab_size=128, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0)
    with pytest.raises(ModelNotSupportedError, match=r"T5ForConditionalGeneration \(model type 't5'\) is an encoder"):
        enable_attention_reading(AutoModelForSeq2SeqLM.from_config(config))


@pytest.mark.parametrize("kernel", ["flex_attention", "paged|eager"])
def test_kernels_that_cannot_be_read_are_refused(kernel: str) -> None:
    model = build("llama")
    model.config._attn_implementation_internal = kernel  # without the check for what it needs
    with pytest.raises(ModelNotSupportedError, match=r"load it with attn_implementation='sdpa'") as error:
        enable_attention_reading(model)
    assert repr(kernel) in str(error.value)


def test_a_model_that_treats_eager_by_its_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("gpt2", reorder_and_upcast_attn=True)
    model.set_attn_implementation("eager")
    with pytest.raises(ModelNotSupportedError, match=r"GPT2LMHeadModel .* load it with attn_implementation='sdpa'"):
        enable_attention_reading(model)
    monkeypatch.setattr(type(model.get_decoder()), "_supports_sdpa", False)
    with pytest.raises(ModelNotSupportedError, match=r"change the model's outputs; use another model family") as error:
        enable_attention_reading(model)
    assert "sdpa" not in str(error.value)  # advice that this model could not follow


def test_layers_that_skip_prompt_rows_are_refused() -> None:
    """Layers of Gemma 4 that share keys skip prompt rows since some transformers after 5.20; before, they are read."""
    model = build("gemma4", num_kv_shared_layers=2, hidden_size_per_layer_input=8)
    rows: list[int] = []
    hook = model.get_decoder().layers[2].register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].shape[1]))
    generate(model, prompt_ids())
    hook.remove()
    if rows[0] < len(prompt_ids()[0]):
        with read_attention(model, READINGS), pytest.raises(ModelNotSupportedError, match=r"layer 2 .* share keys"):
            generate(model, prompt_ids())
    else:
        assert compare_model("gemma4", model).worst <= TOLERANCE


def test_layers_that_attend_several_times_are_refused() -> None:
    config = transformers.DiffLlamaConfig(
        vocab_size=128,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = AutoModelForCausalLM.from_config(config)
    with read_attention(model, READINGS), pytest.raises(ModelNotSupportedError, match="layer 0 ran twice"):
        model(prompt_ids())


# Tokens left out while the others keep their positions


def kept_in_steps(model: PreTrainedModel, cuts: list[int], positions: list[int] = KEPT) -> torch.Tensor:
    """Logits of the kept tokens only, run in steps; each goes on with a copy of the cache of the one before."""
    kept, ids = torch.tensor(positions), text_ids()
    cache, logits = None, []
    for start, stop in zip([0, *cuts], [*cuts, len(kept)], strict=True):
        with original_positions(kept[:stop]), torch.no_grad():
            output = model(
                ids[:, kept[start:stop]],
                position_ids=kept[None, start:stop],
                attention_mask=torch.ones(1, stop, dtype=torch.long),
                use_cache=True,
                **cache_options(copy.deepcopy(cache), model),
            )
        cache = output_cache(output)
        logits.append(output.logits[0])
    return torch.cat(logits)


def masked(model: PreTrainedModel, positions: list[int] = KEPT) -> torch.Tensor:
    """Logits of the kept tokens in a run over all tokens, the others masked."""
    mask = torch.zeros(1, 60, dtype=torch.long)
    mask[0, positions] = 1
    with torch.no_grad():
        output = model(text_ids(), attention_mask=mask, position_ids=torch.arange(60)[None], use_cache=False)
    return output.logits[0, positions]


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if family.positions])
def test_leaving_tokens_out_equals_masking_them(family: str) -> None:
    model = build(family)
    untouched = copy.deepcopy(model)
    expected = masked(untouched)
    assert torch.allclose(masked(eager_copy(model)), expected, atol=1e-4)
    enable_attention_reading(model)
    early = 25 if family == "phi3-longrope" else 7  # where its factors for long texts set in, 7 is too early
    for cuts in ([], [25], [early, 26, len(KEPT) - 1]):
        assert torch.allclose(kept_in_steps(model, cuts), expected, atol=1e-4)
    few = masked(untouched, FEW)
    assert torch.allclose(kept_in_steps(model, [], FEW), few, atol=1e-4)
    assert torch.allclose(kept_in_steps(model, [5], FEW), few, atol=1e-4)


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if family.sliding])
def test_windows_need_the_original_positions(family: str) -> None:
    model = build(family)
    enable_attention_reading(model)
    kept = torch.tensor(KEPT)
    with torch.no_grad():
        by_index = model(text_ids()[:, kept], position_ids=kept[None], attention_mask=torch.ones(1, len(kept)))
    assert (by_index.logits[0] - masked(model)).abs().max() > 0.1


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if not family.positions])
def test_recurrent_layers_tell_left_out_from_masked(family: str) -> None:
    model = build(family)
    enable_attention_reading(model)
    left_out = kept_in_steps(model, [])
    assert (left_out - masked(model)).abs().max() > 0.1
    if family != "jamba":  # whose layers forget their state when several tokens follow a cache, by themselves too
        assert torch.allclose(kept_in_steps(model, [7, 25]), left_out, atol=1e-3)


def test_positions_count_for_masks_only_within_their_context() -> None:
    model = build("gemma3")
    untouched = copy.deepcopy(model)
    enable_attention_reading(model)
    kept_in_steps(model, [])
    with torch.no_grad():
        assert torch.equal(model(text_ids()).logits, untouched(text_ids()).logits)


@pytest.mark.parametrize(("family", "works"), [("llama", True), ("mistral", False)])
def test_positions_under_flash_attention(family: str, works: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def kernel(module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> tuple[torch.Tensor, None]:
        assert mask is None
        assert options.get("position_ids") is None  # in which flash attention would see several packed sequences
        missing = torch.zeros(query.shape[2], key.shape[2] - query.shape[2])
        causal = torch.cat([missing == 0, torch.ones(query.shape[2], query.shape[2]).tril() == 1], dim=1)
        return sdpa_attention_forward(module, query, key, value, causal, scaling=options["scaling"])

    flash_mask = AttentionMaskInterface._global_mapping["flash_attention_2"]
    monkeypatch.setitem(AttentionInterface._global_mapping, "flash_attention_2", kernel)
    monkeypatch.setitem(AttentionMaskInterface._global_mapping, "flash_attention_2", flash_mask)
    model = build(family)
    expected = masked(copy.deepcopy(model))
    model.config._attn_implementation_internal = "flash_attention_2"
    enable_attention_reading(model)
    if works:
        assert torch.allclose(kept_in_steps(model, [25]), expected, atol=1e-4)
    else:
        with pytest.raises(ModelNotSupportedError, match=r"window of 16 tokens .* attn_implementation='sdpa'"):
            kept_in_steps(model, [25])
