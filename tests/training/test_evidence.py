"""Coefficients from supporting facts: against scikit-learn, and on questions whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from at2_prune.attention.rows import RowGroup
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.errors import DataError, InputError
from at2_prune.training.evidence import EvidenceSettings, fit_evidence, gold_found
from at2_prune.training.examples import Example

QUESTION, LINKS = RowGroup("question"), RowGroup("sources")


def example(number: int, mass: torch.Tensor, gold: list[bool], links: torch.Tensor | None = None) -> Example:
    masses = {"question": mass[None]} | ({} if links is None else {"sources": links[None]})
    nothing = torch.zeros(0, len(gold), dtype=torch.bool), torch.zeros(0, 1)
    return Example(str(number), "", masses, list(range(mass.shape[0])), *nothing, torch.tensor(gold))


def test_two_sources_are_logistic_regression() -> None:
    """Of two sources one is gold: the softmax is a logistic function of the difference of their features."""
    generator = torch.Generator().manual_seed(0)
    examples = []
    for number in range(200):
        mass = torch.rand(2, 3, 2, generator=generator)  # (layers, heads, sources)
        difference = float((mass[0, 1, 0] - mass[0, 1, 1]) + 0.3 * torch.randn(1, generator=generator))
        examples.append(example(number, mass, [difference > 0, difference <= 0]))
    features = torch.cat([e.mass["question"][0].flatten(0, 1).T for e in examples]).double()
    scale = features.std(0)
    settings = EvidenceSettings(penalty=0.01, steps=500)
    weight = fit_evidence(examples, [QUESTION], range(2), settings).flatten() * scale
    differences = np.stack([((m := e.mass["question"][0].flatten(0, 1))[:, 0] - m[:, 1]).numpy() for e in examples])
    y = np.array([bool(e.gold[0]) for e in examples])
    model = LogisticRegression(C=1 / (2 * 0.01 * len(examples)), fit_intercept=False, tol=1e-8, max_iter=10_000)
    expected = torch.tensor(model.fit(differences / scale.numpy(), y).coef_[0])
    torch.testing.assert_close(weight / weight.norm(), expected / expected.norm(), atol=1e-3, rtol=1e-3)
    assert int(weight.argmax()) == 1


def linked_examples(count: int = 60) -> list[Example]:
    """The question names the first gold source; the second is only linked to it, by head 2."""
    generator = torch.Generator().manual_seed(1)
    examples = []
    for number in range(count):
        mass = torch.rand(1, 3, 6, generator=generator) * 0.1
        links = torch.rand(1, 3, 6, 6, generator=generator).tril(-1) * 0.1
        first, second = torch.randperm(6, generator=generator)[:2].tolist()
        mass[0, 0, first] += 1
        links[0, 2, max(first, second), min(first, second)] += 0.5
        examples.append(example(number, mass, [i in (first, second) for i in range(6)], links))
    return examples


def test_links_find_what_the_question_does_not_name() -> None:
    examples = linked_examples()
    alone = fit_evidence(examples[:40], [QUESTION], range(1))
    both = fit_evidence(examples[:40], [QUESTION, LINKS], range(1))
    assert both.abs().sum() == pytest.approx(1)
    assert int(both[0].flatten().argmax()) == 0
    assert int(both[1].flatten().argmax()) == 2
    without = gold_found(examples[40:], [QUESTION], alone)
    found = gold_found(examples[40:], [QUESTION, LINKS], both)
    assert float(without["gold_recall"].mean()) < 0.8
    assert float(found["both_gold"].mean()) == 1.0


def test_gold_found_counts_by_hand() -> None:
    mass = torch.tensor([[[0.9, 0.1, 0.5, 0.4]]])
    examples = [
        example(0, mass, [True, False, True, False]),  # both in the top two
        example(1, mass, [True, True, False, False]),  # one of them
        example(2, mass, [False, True, False, True]),  # none
        example(3, mass, [False, False, False, False]),  # has no evidence
    ]
    found = gold_found(examples, [QUESTION], torch.ones(1, 1, 1))
    assert found["gold_recall"].tolist() == [1.0, 0.5, 0.0]
    assert found["both_gold"].tolist() == [1.0, 0.0, 0.0]


def test_some_layers_of_those_read() -> None:
    generator = torch.Generator().manual_seed(0)
    examples = [example(i, torch.rand(3, 2, 4, generator=generator), [True, False, False, False]) for i in range(20)]
    weight = fit_evidence(examples, [QUESTION], [0, 1])
    assert weight.shape == (1, 2, 2)
    HeadCoefficients(weight, [QUESTION], layers=[0, 1], model_layers=3)


def test_what_cannot_be_fitted() -> None:
    with pytest.raises(InputError, match="add another row group, such as 'question'"):
        fit_evidence([], [LINKS], range(1))
    with pytest.raises(DataError, match="1 collected, none with gold sources and others"):
        fit_evidence([example(0, torch.rand(1, 1, 2), [True, True])], [QUESTION], range(1))
