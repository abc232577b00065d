"""Ablation outcomes are those of the plain loop on every family, whatever it takes to share work."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from at2_prune.ablation import Positions, ablation_outcomes, log_odds
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.prompts import EncodedPrompt

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from families import FAMILIES, PROBED, build

SOURCES = [(4, 14), (14, 26), (28, 40), (40, 50)]
MASKS = torch.tensor([[1, 1, 0, 1], [1, 1, 1, 0], [0, 1, 0, 1], [1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 0, 1]]).bool()


def assert_plain(model: PreTrainedModel, positions: Positions, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Outcomes are those of one pass each by an untouched copy, sources left out by attention mask, or removed.

    Returns:
        How many sequences each of the model's passes ran.
    """
    plain = copy.deepcopy(model)
    passes: list[int] = []
    embeddings: torch.nn.Module = model.get_input_embeddings()
    embeddings.register_forward_pre_hook(lambda module, inputs: passes.append(len(inputs[0])))
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 120, (60,), generator=generator).tolist()
    prompt = EncodedPrompt(ids[:56], SOURCES, [0, 1, 2, 3], [""] * 4, SOURCES, (51, 54))
    target = ids[56:]
    outcomes = ablation_outcomes(LanguageModel(model, tokenizer), prompt, target, MASKS, positions=positions)
    expected = []
    for mask in MASKS.tolist():
        out = {i for kept, span in zip(mask, SOURCES, strict=True) if not kept for i in range(*span)}
        row = ids[:-1]
        attention = torch.tensor([[int(i not in out) for i in range(len(row))]])
        if positions == "closed":
            row = [token for i, token in enumerate(row) if i not in out]
            attention = torch.ones(1, len(row), dtype=torch.long)
        with torch.no_grad():
            places = torch.arange(len(row))[None]
            logits = plain(input_ids=torch.tensor([row]), attention_mask=attention, position_ids=places).logits[0]
        log_p = logits[-len(target) :].log_softmax(-1).gather(1, torch.tensor(target)[:, None])
        expected.append(log_odds(log_p.double().sum()))
    assert outcomes[:, 0].tolist() == pytest.approx(torch.stack(expected).tolist(), abs=1e-4)
    return passes


@pytest.mark.parametrize("positions", ["kept", "closed"])
@pytest.mark.parametrize("name", [*FAMILIES, *PROBED])
def test_outcomes_equal_the_plain_loop(
    name: str, positions: Positions, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    assert_plain(build(name), positions, tiny_tokenizer)


@pytest.mark.parametrize("positions", ["kept", "closed"])
@pytest.mark.parametrize("name", list(FAMILIES))
def test_outcomes_where_passes_are_what_costs(
    name: str, positions: Positions, tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: one padded batch where the family pads exactly, else each alone; those that agree are run once."""
    monkeypatch.setattr(LanguageModel, "batching_pays", True)
    # llama4's temperature goes by a token's index, padding included; its chunks do not
    model = build(name, **({"attn_temperature_tuning": False} if name == "llama4" else {}))
    passes = assert_plain(model, positions, tiny_tokenizer)
    allowed = LanguageModel(model, tiny_tokenizer).compatibility
    together = not allowed.carries_state and allowed.pads_exactly
    assert passes == ([5] if together else [1] * 5)


@pytest.mark.parametrize("positions", ["kept", "closed"])
def test_a_family_that_does_not_pad_exactly(
    positions: Positions, tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LanguageModel, "batching_pays", True)
    assert assert_plain(build("llama4"), positions, tiny_tokenizer) == [1] * 5


@pytest.mark.parametrize("positions", ["kept", "closed"])
def test_a_temperature_that_counts_tokens(positions: Positions, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """Tokens that are left out still count in the published outcome, which masks them."""
    assert_plain(build("llama4", floor_scale=8), positions, tiny_tokenizer)
