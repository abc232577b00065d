"""Sets the precision in which matrix products are computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .language_model import LanguageModel

__all__ = ["bfloat16_products"]


@contextmanager
def bfloat16_products(language_model: LanguageModel) -> Iterator[None]:
    """Compute the matrix products of a float32 model in bfloat16, if the processor is faster in bfloat16.

    The factors are rounded to bfloat16, and the sums are float32. The weights are not copied. PyTorch does this only on
    processors with matrix units for bfloat16, such as Intel's AMX. On other processors, on GPUs and for models in other
    precisions, nothing changes. The setting holds for the whole process while the context is open.

    Args:
        language_model: the model whose passes are run in the context.
    """
    if language_model.device.type != "cpu" or language_model.model.dtype != torch.float32:
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
