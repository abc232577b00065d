"""Many rows are read by the fused kernel; its sums are those of single rows, and it makes no weights of rows x keys."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from at2_prune.attention import reader as reading_module
from at2_prune.attention.reader import read_attention
from at2_prune.attention.rows import Reading, Rows
from at2_prune.attention.weights import kernel_weights
from at2_prune.models.kv_cache import cache_options, new_cache

SMALL = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 50}
TOKENS, PADDING = 300, 7
SPANS = [(20, 110), (112, 200), (200, 200), (203, 280)]
ROWS = [
    *(Rows(f"{place} {reduce}", *span, reduce) for place, span in enumerate(SPANS) if span[0] < span[1]
      for reduce in ("mean", "max", "none")),
    Rows("question", 282, 296),
]  # fmt: skip


@pytest.fixture(scope="module", params=["llama", "gemma3_text"])  # full attention; windows in one layer
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    kinds = {"layer_types": ["sliding_attention", "full_attention"]} if request.param == "gemma3_text" else {}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(request.param, **SMALL, **HEADS, **kinds)).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.3)
    return model


def read(model: Any, sources: list[tuple[int, int]], ids: torch.Tensor, past: int = 0, padding: int = 0) -> Any:
    options: dict[str, Any] = {}
    if past:
        options = cache_options(new_cache(model), model)
        with torch.no_grad():
            model(ids[:, :past], **options)
    if padding:
        mask = torch.ones_like(ids)
        mask[:, :padding] = 0
        options |= {"attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}
    with torch.no_grad(), read_attention(model, [Reading(sources, ROWS, padding)], past=past) as found:
        model(ids[:, past:], **options)
    return {rows.name: found.mass(rows.name) for rows in ROWS}


@pytest.mark.parametrize("sources", [SPANS, [(i, i + 9) for i in range(0, 270, 9)]], ids=["few", "more than a part"])
@pytest.mark.parametrize(("past", "padding"), [(0, 0), (15, 0), (0, PADDING)])
def test_many_rows_are_read_as_few_are(
    model: Any, sources: list[tuple[int, int]], past: int, padding: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = torch.randint(1, 64, (1, TOKENS + padding), generator=torch.Generator().manual_seed(1))
    seen: list[int] = []

    def counted(inputs: Any, item: int, rows: slice) -> torch.Tensor:
        seen.append(rows.stop - rows.start)
        return kernel_weights(inputs, item, rows)

    monkeypatch.setattr(reading_module, "kernel_weights", counted)
    together = read(model, sources, ids, past, padding)
    assert seen == []
    monkeypatch.setattr(reading_module, "MANY_ROWS", 10**9)
    each = read(model, sources, ids, past, padding)
    assert seen
    for name, mass in each.items():
        torch.testing.assert_close(together[name], mass, atol=2e-6, rtol=1e-5)


def test_in_bfloat16_it_is_as_exact_as_the_models_own_attention(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = torch.randint(1, 64, (1, TOKENS), generator=torch.Generator().manual_seed(1))
    model.to(torch.bfloat16)
    together = read(model, SPANS, ids)
    monkeypatch.setattr(reading_module, "MANY_ROWS", 10**9)
    each = read(model, SPANS, ids)
    model.to(torch.float32)
    for name, mass in each.items():
        assert together[name].dtype == torch.float32
        torch.testing.assert_close(together[name], mass, atol=1e-4, rtol=2**-7)
