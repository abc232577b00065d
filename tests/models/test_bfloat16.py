"""A float32 model is copied to bfloat16 only if that is exact and fast."""

from __future__ import annotations

import copy

import pytest
import torch

from at2_prune.models import bfloat16
from at2_prune.models.bfloat16 import bfloat16_copy
from at2_prune.models.fingerprint import fingerprint
from at2_prune.models.language_model import LanguageModel


@pytest.fixture
def exact(tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> LanguageModel:
    """A float32 model whose weights were published in bfloat16, on a processor that is fast in bfloat16."""
    monkeypatch.setattr(bfloat16, "fast_in_bfloat16", lambda: True)
    rounded = copy.deepcopy(tiny_lm.model).to(torch.bfloat16).to(torch.float32)
    return LanguageModel(rounded, tiny_lm.tokenizer, name="published in bfloat16")


def test_a_model_published_in_bfloat16_is_copied(exact: LanguageModel) -> None:
    copied = bfloat16_copy(exact)
    assert copied.model.dtype == torch.bfloat16
    assert exact.model.dtype == torch.float32
    assert copied.name == exact.name
    assert fingerprint(copied.model) == fingerprint(exact.model)


def test_weights_that_would_change_are_not_copied(
    tiny_lm: LanguageModel, exact: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bfloat16_copy(tiny_lm) is tiny_lm
    monkeypatch.setattr(bfloat16, "fast_in_bfloat16", lambda: False)
    assert bfloat16_copy(exact) is exact


def test_a_model_in_another_precision_is_not_copied(exact: LanguageModel) -> None:
    copied = bfloat16_copy(exact)
    assert bfloat16_copy(copied) is copied
