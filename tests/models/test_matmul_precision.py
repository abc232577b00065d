"""The precision of matrix products is changed for one block, and only where it is safe."""

from __future__ import annotations

import copy

import pytest
import torch

from at2_prune.models.language_model import LanguageModel
from at2_prune.models.matmul_precision import bfloat16_products


def test_products_of_a_float32_model_are_in_bfloat16_inside_the_block_only(tiny_lm: LanguageModel) -> None:
    before = torch.get_float32_matmul_precision()
    with bfloat16_products(tiny_lm):
        assert torch.get_float32_matmul_precision() == "medium"
    assert torch.get_float32_matmul_precision() == before


def test_the_setting_comes_back_after_an_error(tiny_lm: LanguageModel) -> None:
    before = torch.get_float32_matmul_precision()
    with pytest.raises(ValueError, match="stop"), bfloat16_products(tiny_lm):
        raise ValueError("stop")
    assert torch.get_float32_matmul_precision() == before


def test_a_model_in_another_precision_changes_nothing(tiny_lm: LanguageModel) -> None:
    other = LanguageModel(copy.deepcopy(tiny_lm.model).to(torch.bfloat16), tiny_lm.tokenizer)
    before = torch.get_float32_matmul_precision()
    with bfloat16_products(other):
        assert torch.get_float32_matmul_precision() == before
