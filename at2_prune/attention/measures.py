"""Computes measures: numbers for each key of a row. The numbers are then summed over the tokens of each source.

In one row, a head has the weight :math:`w_j` and the value :math:`v_j` for each key :math:`j` that the row may attend
to. The matrix :math:`V` holds the values. The head's output is :math:`o = \\sum_j w_j v_j`. There are three measures:

- **attention** is the weight :math:`w_j`.
- The **contribution** of a key is the product of three numbers: its weight, the magnitude of its value, and the
  alignment of its value with the output. It is
  :math:`w_j \\lVert v_j \\rVert \\cos(v_j, o) = w_j\\, v_j \\cdot o / \\lVert o \\rVert`. The contributions of all keys
  sum to :math:`\\lVert o \\rVert`. Kobayashi et al. (2020, arXiv 2004.10102) use the norm of the weighted value, which
  does not depend on the alignment and has no sign.
- **effective** attention is the part of :math:`w` that can affect the output. It is the projection of :math:`w` on the
  column space of :math:`V`, :math:`w V (V^\\top V)^+ V^\\top = o\\, (V^\\top V)^+ V^\\top`. The rest of :math:`w`
  lies in the left null space of :math:`V` and adds nothing to :math:`o` (Brunner et al. 2020, arXiv 1908.04211). Naim
  and Asher (2024, arXiv 2410.18541) call effective attention "efficient attention". The pseudo-inverse is a width x
  width matrix for any number of tokens.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch

__all__ = ["MEASURES", "Measure", "apply_measure"]

Measure = Literal["attention", "contribution", "effective"]
MEASURES: tuple[Measure, ...] = get_args(Measure)

NUMBERS_AT_ONCE = 2**23
"""The maximum number of entries of a tensor in `_effective`: key/value heads x rows x width x the larger of keys and
width. In float64, such a tensor takes 64 MiB."""


def apply_measure(
    measure: Measure, weights: torch.Tensor, value: torch.Tensor, allowed: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute a measure from the attention weights of some rows.

    Args:
        measure: the measure.
        weights: the attention weights, `(heads, rows, keys)` float32. They are zero for keys that a row may not attend
            to.
        value: the values of the keys, `(key/value heads, keys, width)`.
        allowed: `(rows, keys)` bool, True where a row may attend to a key. By default, rows may attend to all keys.

    Returns:
        The measure of each key, `(heads, rows, keys)` float32.

    Example:
        >>> weights = torch.tensor([[[0.5, 0.25, 0.25]]])
        >>> value = torch.tensor([[[1.0, 0], [0, 2], [0, 2]]])  # so the head's output is (0.5, 1)
        >>> apply_measure("contribution", weights, value).round(decimals=3)
        tensor([[[0.2240, 0.4470, 0.4470]]])
        >>> # Keys 1 and 2 have the same value, so each gets half of their common weight.
        >>> apply_measure("effective", torch.tensor([[[0.5, 0.5, 0]]]), value).round(decimals=3)
        tensor([[[0.5000, 0.2500, 0.2500]]])
    """
    if measure == "attention":
        return weights
    heads, rows, keys = weights.shape
    grouped = weights.reshape(value.shape[0], -1, rows, keys)  # (key/value heads, heads of the group, rows, keys)
    measured = (
        _contribution(grouped, value.float()) if measure == "contribution" else _effective(grouped, value, allowed)
    )
    return measured.reshape(heads, rows, keys)


def _contribution(weights: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    output = weights @ value[:, None]  # (key/value heads, heads of the group, rows, width)
    direction = torch.nn.functional.normalize(output, dim=-1)
    return weights * (direction @ value[:, None].transpose(-1, -2))


def _effective(weights: torch.Tensor, value: torch.Tensor, allowed: torch.Tensor | None) -> torch.Tensor:
    """Compute effective attention in float64, because squares of singular values need twice as many digits.

    MPS has no float64. So the CPU does this computation if the model is on MPS.
    """
    device = value.device
    home = torch.device("cpu") if device.type == "mps" else device
    v, w = value.to(home).double(), weights.to(home).double()
    kinds, keys, width = v.shape
    seen = torch.ones(w.shape[2], keys, device=home) if allowed is None else allowed.to(home)
    cutoff = (max(keys, width) * torch.finfo(torch.float32).eps) ** 2  # smaller eigenvalues are rounding errors
    block = max(1, NUMBERS_AT_ONCE // (kinds * max(keys, width) * width))
    parts = []
    for start in range(0, w.shape[2], block):
        rows = slice(start, start + block)
        own = (
            v[:, None] * seen[None, rows, :, None]
        )  # (key/value heads, rows, keys, width): the values of the keys that each row may attend to
        inverse = torch.linalg.pinv(own.transpose(-1, -2) @ own, rtol=cutoff, hermitian=True)
        output = torch.einsum("hgrk,hrkd->hgrd", w[:, :, rows], own)
        parts.append(torch.einsum("hgrd,hrde,hrke->hgrk", output, inverse, own).float())
    return torch.cat(parts, dim=2).to(device)
