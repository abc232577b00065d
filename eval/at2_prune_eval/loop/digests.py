"""Compute short digests of JSON values, for cache keys and for a run's config."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

import torch

from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients

__all__ = ["coefficients_digest", "digest", "json_digest"]


def json_digest(value: Any, length: int = 16) -> str:
    """Return the first `length` hexadecimal digits of the SHA-256 of a JSON value.

    A value that JSON cannot hold is first turned into text.
    """
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def digest(*parts: Any) -> str:
    """Return a cache key for several JSON values.

    Example:
        >>> digest("a", [1, 2]) == digest("a", [1, 2]), digest("a", [1, 2]) == digest("a", [2, 1])
        (True, False)
    """
    return json_digest(parts, 32)


def coefficients_digest(coefficients: HeadCoefficients | ScoutCoefficients) -> str:
    """Return a digest of coefficients: of their weights, and of their layers and row groups."""
    if isinstance(coefficients, ScoutCoefficients):
        weights = (coefficients.first, coefficients.following, coefficients.links)
        parts = [coefficients.layers, coefficients.link_layers, *map(_hex, weights)]
        return json_digest(parts if coefficients.cosine is None else [*parts, asdict(coefficients.cosine)])
    groups = [group.name for group in coefficients.row_groups]
    return json_digest([groups, coefficients.layers, _hex(coefficients.weight)])


def _hex(weight: torch.Tensor) -> str:
    return weight.contiguous().numpy().tobytes().hex()
