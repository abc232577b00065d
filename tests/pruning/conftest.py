from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.models.language_model import LanguageModel
from at2_prune.pruning.pruner import AT2Pruner


@pytest.fixture
def calls(tiny_pruner: AT2Pruner, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often the model was asked to write and to read."""
    counts = {"generate": 0, "read": 0}
    language_model = tiny_pruner.language_model

    def counted(name: str) -> Callable[..., Any]:
        method = getattr(language_model, name)

        def call(*arguments: Any, **options: Any) -> Any:
            counts[name] += 1
            return method(*arguments, **options)

        return call

    for name in counts:
        monkeypatch.setattr(language_model, name, counted(name))
    return counts


@pytest.fixture
def silent_pruner(silent_lm: LanguageModel) -> AT2Pruner:
    return AT2Pruner.from_pretrained(silent_lm, HeadCoefficients.average(2, 4, "llama"), max_new_tokens=8)
