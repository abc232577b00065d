"""Contribution and effective attention, against eager attention and the values that hooks caught."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from at2_prune.attention import measures
from at2_prune.attention import reader as attention
from at2_prune.attention.measures import MEASURES, apply_measure
from at2_prune.attention.reader import read_attention
from at2_prune.attention.rows import Reading, Rows

PROMPT, NEW, WINDOW = 40, 5, 24
SOURCES = [(1, 9), (9, 20), (22, 33)]
TOLERANCE = 1e-4
MEASURED = ("contribution", "effective")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=["llama", "gemma3", "gemma3-eager"])
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    common: dict[str, Any] = {
        "vocab_size": 128,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": None,
        "attn_implementation": "eager" if "eager" in request.param else "sdpa",
    }
    torch.manual_seed(0)
    built: PreTrainedModel
    if request.param == "llama":
        built = LlamaForCausalLM(LlamaConfig(num_hidden_layers=2, **common))
    else:
        kinds = ["sliding_attention", "full_attention", "sliding_attention"]
        config = Gemma3TextConfig(num_hidden_layers=3, layer_types=kinds, sliding_window=WINDOW, **common)
        built = Gemma3ForCausalLM(config)
    for parameter in built.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.3)
    return built.eval()


def prompt_ids(seed: int = 0, length: int = PROMPT) -> torch.Tensor:
    return torch.randint(2, 128, (1, length), generator=torch.Generator().manual_seed(seed))


def dense(model: PreTrainedModel, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Each measure of every head, row and key, `(layers, heads, rows, keys)`, head by head and row by row."""
    eager = AutoModelForCausalLM.from_config(copy.deepcopy(model.config), attn_implementation="eager").eval()
    eager.load_state_dict(model.state_dict())
    caught: list[torch.Tensor] = []
    for layer in eager.model.layers:
        layer.self_attn.v_proj.register_forward_hook(lambda module, inputs, output: caught.append(output[0]))
    with torch.no_grad():
        attentions = eager(ids, output_attentions=True, use_cache=False).attentions
    kinds = getattr(model.config, "layer_types", None) or ["full_attention"] * len(attentions)
    result = {name: torch.zeros(len(attentions), *attentions[0].shape[1:]) for name in MEASURES}
    for layer, (weights, values, kind) in enumerate(zip(attentions, caught, kinds, strict=True)):
        for head in range(4):
            value = values[:, 8 * (head // 2) :][:, :8].double()  # two heads share a key/value head
            for row in range(ids.shape[1]):
                first = max(0, row - WINDOW + 1) if kind == "sliding_attention" else 0
                w, v = weights[0, head, row, first : row + 1].double(), value[first : row + 1]
                assert weights[0, head, row, :first].sum() == 0
                output = w @ v
                cosine = torch.cosine_similarity(v, output[None], dim=1)
                u, s, _ = torch.linalg.svd(v, full_matrices=False)
                u = u[:, s > 1e-6 * s[0]]
                place = (layer, head, row, slice(first, row + 1))
                result["attention"][place] = w.float()
                result["contribution"][place] = (w * v.norm(dim=1) * cosine).float()
                result["effective"][place] = (u @ (u.T @ w)).float()
    return result


def by_source(weights: torch.Tensor, rows: slice, sources: list[tuple[int, int]] = SOURCES) -> torch.Tensor:
    return torch.stack([weights[:, :, rows, start:stop].sum(-1) for start, stop in sources], dim=-1)


def all_rows(length: int = PROMPT) -> list[Rows]:
    rows = []
    for measure in MEASURES:
        rows.append(Rows(f"{measure}-mean", length - 7, length, "mean", measure))
        rows.append(Rows(f"{measure}-max", length - 7, length, "max", measure))
        rows.append(Rows(f"{measure}-each", length - 1, None, "none", measure))
    return rows


def test_as_in_the_dense_matrices(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = prompt_ids()
    with read_attention(model, [Reading(SOURCES, all_rows())]) as drafting:
        text = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False)
    with read_attention(model, [Reading(SOURCES, all_rows())]) as forced, torch.no_grad():
        model(text[:, :-1], use_cache=False)
    monkeypatch.setattr(attention, "WEIGHTS_AT_ONCE", 3 * 4 * PROMPT)
    monkeypatch.setattr(measures, "NUMBERS_AT_ONCE", 2 * 2 * PROMPT * 8)
    with read_attention(model, [Reading(SOURCES, all_rows())]) as blocks, torch.no_grad():
        model(text[:, :-1], use_cache=False)
    expected = dense(model, text[:, :-1])
    for measure in MEASURES:
        question = by_source(expected[measure], slice(PROMPT - 7, PROMPT))
        each = by_source(expected[measure], slice(PROMPT - 1, None))
        for reader in (drafting, forced, blocks):
            torch.testing.assert_close(reader.mass(f"{measure}-mean"), question.mean(2), atol=TOLERANCE, rtol=0)
            torch.testing.assert_close(reader.mass(f"{measure}-max"), question.amax(2), atol=TOLERANCE, rtol=0)
            torch.testing.assert_close(reader.mass(f"{measure}-each"), each, atol=TOLERANCE, rtol=0)
        assert each.shape[2] == NEW
    for measure in MEASURED:
        assert (expected[measure] - expected["attention"]).abs().max() > 100 * TOLERANCE


def test_padded_batch_as_one_by_one(model: PreTrainedModel) -> None:
    lengths = (PROMPT, 31, 36)
    prompts = [prompt_ids(seed, length) for seed, length in enumerate(lengths)]
    batch = torch.cat([torch.nn.functional.pad(p, (PROMPT - p.shape[1], 0)) for p in prompts])
    mask = torch.cat([torch.nn.functional.pad(torch.ones_like(p), (PROMPT - p.shape[1], 0)) for p in prompts])
    sources = [(1, 6), (6, 11), (13, 22)]
    readings = [Reading(sources, all_rows(length), PROMPT - length) for length in lengths]
    options: dict[str, Any] = {"max_new_tokens": NEW, "do_sample": False}
    with read_attention(model, readings) as together:
        model.generate(batch, attention_mask=mask, **options)
    for item, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
        with read_attention(model, [Reading(sources, all_rows(length))]) as alone:
            model.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
        for rows in all_rows(length):
            torch.testing.assert_close(together.mass(rows.name, item), alone.mass(rows.name), atol=TOLERANCE, rtol=0)


def test_what_they_mean() -> None:
    """Contributions add up to the output's norm; effective attention gives the same output, and no more of it does."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(4, 3, 30, generator=generator).softmax(-1)
    value = torch.randn(2, 30, 8, generator=generator)
    shared = value.repeat_interleave(2, 0)
    output = weights @ shared
    torch.testing.assert_close(apply_measure("contribution", weights, value).sum(-1), output.norm(dim=-1))
    effective = apply_measure("effective", weights, value)
    torch.testing.assert_close(effective @ shared, output)
    torch.testing.assert_close(apply_measure("effective", effective, value), effective)
    assert (effective.norm(dim=-1) < weights.norm(dim=-1)).all()
    assert torch.equal(apply_measure("attention", weights, value), weights)


def test_effective_attention_inverts_matrices_of_the_width_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of keys: never a decomposition of keys x keys."""
    keys, width = 300, 8
    decomposed: list[tuple[int, ...]] = []

    def spied(name: str) -> None:
        original = getattr(torch.linalg, name)

        def spy(matrix: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            decomposed.append(tuple(matrix.shape[-2:]))
            return original(matrix, *args, **kwargs)

        monkeypatch.setattr(torch.linalg, name, spy)

    for name in ("pinv", "inv", "svd", "svdvals", "eigh", "eig", "qr", "lstsq", "solve", "matrix_rank"):
        spied(name)
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(2, 3, keys, generator=generator).softmax(-1)
    apply_measure("effective", weights, torch.randn(1, keys, width, generator=generator))
    assert set(decomposed) == {(width, width)}


def test_fewer_keys_than_the_values_are_wide() -> None:
    """Then nothing is left out, unless values repeat."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(2, 1, 5, generator=generator).softmax(-1)
    value = torch.randn(1, 5, 16, generator=generator)
    torch.testing.assert_close(apply_measure("effective", weights, value), weights)
    value[0, 4] = value[0, 3]
    effective = apply_measure("effective", weights, value)
    torch.testing.assert_close(effective[..., :3], weights[..., :3])
    torch.testing.assert_close(effective[..., 3:], weights[..., 3:].mean(-1, keepdim=True).expand(-1, -1, 2))
    assert torch.equal(apply_measure("effective", weights, torch.zeros_like(value)), torch.zeros_like(weights))
    assert torch.equal(apply_measure("contribution", weights, torch.zeros_like(value)), torch.zeros_like(weights))


def test_attention_alone_costs_nothing_more(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "apply_measure", None)
    rows = [rows for rows in all_rows() if rows.measure == "attention"]
    with read_attention(model, [Reading(SOURCES, rows)]) as reader, torch.no_grad():
        model(prompt_ids())
    assert reader.mass("attention-mean").shape[-1] == len(SOURCES)
