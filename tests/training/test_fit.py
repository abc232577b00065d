from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr

from at2_prune.attention.rows import DRAFT_ROWS, RowGroup
from at2_prune.errors import DataError, MissingExtraError
from at2_prune.training import Example, FitSettings, fidelity, fit

QUESTION_ROWS = RowGroup("question", "max")
GROUPS = (DRAFT_ROWS, QUESTION_ROWS)


def synthetic(
    count: int, weight: torch.Tensor, noise: float = 0.1, parts: int = 1, ablations: int = 32, seed: int = 0
) -> list[Example]:
    """Outcomes that a known weight (row groups, layers, heads) makes, each example on a scale and offset of its own."""
    generator = torch.Generator().manual_seed(seed)
    examples = []
    for index in range(count):
        sources = int(torch.randint(2, 12, (1,), generator=generator))
        draft = torch.rand(parts, *weight.shape[1:], sources, generator=generator)
        question = torch.rand(1, *weight.shape[1:], sources, generator=generator)
        masks = torch.rand(ablations, sources, generator=generator) < 0.5
        both = torch.stack([draft, question.expand_as(draft)], dim=1)[:, : len(weight)]
        scores = torch.einsum("glh,pglhs->ps", weight, both).double()
        made = torch.where(masks, 1.0, -1.0).double() @ scores.T
        made = made / made.std(0) + noise * torch.randn(made.shape, generator=generator)
        scale = 10 ** (4 * torch.rand(1, generator=generator) - 2)
        offset = 100 * torch.randn(1, generator=generator)
        examples.append(
            Example(
                f"q{index}",
                "d",
                {"draft": draft, "question-max": question},
                [0, 1],
                masks,
                made * scale + offset,
                masks[0],
            )
        )
    return examples


def planted(groups: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(groups, 2, 4, generator=torch.Generator().manual_seed(seed))


def correlations(examples: Sequence[Example], weight: torch.Tensor, statistic: Any) -> list[float]:
    """By numpy and scipy alone: one number an example and part."""
    found = []
    for example in examples:
        for part in range(example.outcomes.shape[1]):
            scores = np.zeros(example.masks.shape[1])
            for g, name in enumerate(("draft", "question-max")[: len(weight)]):
                mass = example.mass[name]
                chosen = mass[part if len(mass) > 1 else 0].double().numpy()
                scores += np.tensordot(weight[g].double().numpy(), chosen, axes=2)
            kept = example.masks.numpy().astype(float) @ scores  # the sum of kept scores, as the paper says
            outcome = example.outcomes[:, part].numpy()
            if outcome.std() > 0:
                found.append(float(statistic(kept, outcome)[0]))
    return found


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("parts", [1, 3])
def test_planted_coefficients_are_found(groups: int, parts: int) -> None:
    weight = planted(groups)
    examples = synthetic(60, weight, parts=parts)
    steps: list[int] = []
    learned, curve = fit(examples, GROUPS[:groups], progress=lambda step, correlation: steps.append(step))
    assert learned.shape == (groups, 2, 4)
    assert float(learned.abs().sum()) == pytest.approx(1, abs=1e-5)
    assert float(torch.cosine_similarity(learned.flatten(), weight.flatten(), dim=0)) > 0.9
    assert curve[0][0] == 0
    assert curve[-1][0] == 999
    assert [step for step, _ in curve] == steps
    assert curve[-1][1] > curve[0][1] + 0.2
    fresh = synthetic(30, weight, parts=parts, seed=1)
    average = torch.zeros_like(weight)
    average[0] = 1 / 8
    before, after = (float(np.mean(correlations(fresh, w, pearsonr))) for w in (average, learned))
    assert after > 0.9 > before


def test_the_curves_first_value_is_average_attention() -> None:
    examples = synthetic(20, planted(1))
    _, curve = fit(examples, [DRAFT_ROWS], FitSettings(steps=1))
    expected = np.mean(correlations(examples, torch.full((1, 2, 4), 1 / 8), pearsonr))
    assert curve == [(0, pytest.approx(expected, abs=1e-4))]


def test_batches_and_seeds() -> None:
    weight = planted(1)
    examples = synthetic(60, weight)
    one, two, other = (fit(examples, [DRAFT_ROWS], FitSettings(200, 3e-3, 16, seed))[0] for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    learned = fit(examples, [DRAFT_ROWS], FitSettings(batch_size=16))[0]
    assert float(torch.cosine_similarity(learned.flatten(), weight.flatten(), dim=0)) > 0.9


def test_examples_whose_outcomes_do_not_vary_are_left_out() -> None:
    examples = synthetic(10, planted(1))
    flat = [
        Example(e.question_id, e.draft, e.mass, e.layers, e.masks, torch.full_like(e.outcomes, 3.0), e.gold)
        for e in examples
    ]
    settings = FitSettings(steps=20)
    assert torch.equal(fit(examples + flat, [DRAFT_ROWS], settings)[0], fit(examples, [DRAFT_ROWS], settings)[0])
    with pytest.raises(DataError, match="no example to fit: 10 were collected, and none has outcomes that vary"):
        fit(flat, [DRAFT_ROWS], settings)
    with pytest.raises(DataError, match="no example to fit: 0 were collected"):
        fit([], [DRAFT_ROWS], settings)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("parts", [1, 2])
def test_fidelity_is_scipys(groups: int, parts: int) -> None:
    examples = synthetic(12, planted(2), noise=1.0, parts=parts, ablations=8)
    examples[3] = Example(
        "flat",
        "d",
        examples[3].mass,
        [0, 1],
        examples[3].masks,
        torch.zeros_like(examples[3].outcomes),
        examples[3].gold,
    )
    weight = planted(groups, seed=5)
    measured = fidelity(examples, GROUPS[:groups], weight)
    assert len(measured.lds) == len(measured.correlation) == 11 * parts
    assert measured.lds.tolist() == pytest.approx(correlations(examples, weight, spearmanr), abs=1e-4)
    assert measured.correlation.tolist() == pytest.approx(correlations(examples, weight, pearsonr), abs=1e-4)


def test_fidelity_of_predictions_that_do_not_vary_is_nothing() -> None:
    examples = synthetic(3, planted(1))
    measured = fidelity(examples, [DRAFT_ROWS], torch.zeros(1, 2, 4))
    assert measured.lds.tolist() == [0, 0, 0]
    assert measured.correlation.tolist() == [0, 0, 0]


def test_missing_scipy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "scipy.stats", None)
    with pytest.raises(MissingExtraError, match=r'needs scipy.*pip install "at2-prune\[train\]"'):
        fidelity(synthetic(2, planted(1)), [DRAFT_ROWS], planted(1))
