"""Multinomial logistic regression: against scikit-learn."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from at2_prune.training.choices import Choice, fit_choices


def test_choices_between_two_sources_are_logistic_regression() -> None:
    """Of two sources one is right: the softmax is a logistic function of the difference of their features."""
    generator = torch.Generator().manual_seed(0)
    choices = []
    for _ in range(200):
        features = torch.rand(2, 6, generator=generator)  # (sources, features)
        difference = float((features[0, 1] - features[1, 1]) + 0.3 * torch.randn(1, generator=generator))
        choices.append(Choice(features, torch.tensor([difference > 0, difference <= 0])))
    scale = torch.cat([choice.features for choice in choices]).double().std(0)
    weight = fit_choices(choices, penalty=0.01, steps=500).double() * scale
    differences = np.stack([(choice.features[0] - choice.features[1]).double().numpy() for choice in choices])
    y = np.array([bool(choice.right[0]) for choice in choices])
    model = LogisticRegression(C=1 / (2 * 0.01 * len(choices)), fit_intercept=False, tol=1e-8, max_iter=10_000)
    expected = torch.tensor(model.fit(differences / scale.numpy(), y).coef_[0])
    torch.testing.assert_close(weight, expected, atol=1e-3, rtol=1e-3)
    assert int(weight.argmax()) == 1
