"""Ablation outcomes are those of the plain loop on every family, whatever it takes to share work."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from at2_prune.ablation import ablation_outcomes, log_odds
from at2_prune.model import LanguageModel
from at2_prune.prompt import EncodedPrompt

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from families import FAMILIES, build

SOURCES = [(4, 14), (14, 26), (28, 40), (40, 50)]
MASKS = torch.tensor([[1, 1, 0, 1], [1, 1, 1, 0], [0, 1, 0, 1], [1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 0, 1]]).bool()


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("positions", ["kept", "closed"])
@pytest.mark.parametrize("name", list(FAMILIES))
def test_outcomes_equal_the_plain_loop(
    name: str, positions: str, batched: bool, tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("at2_prune.ablation.outcomes.bound_by_passes", lambda model: batched)
    model = build(name)
    plain = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 120, (60,), generator=generator).tolist()
    prompt = EncodedPrompt(ids[:56], SOURCES, [0, 1, 2, 3], [""] * 4, SOURCES, (51, 54))
    target = ids[56:]
    outcomes = ablation_outcomes(
        LanguageModel(model, tiny_tokenizer),
        prompt,
        target,
        MASKS,
        positions=positions,  # type: ignore[arg-type]
    )
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
