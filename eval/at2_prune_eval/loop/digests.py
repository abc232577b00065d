"""Short digests of JSON values, for cache keys and for a run's config."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from at2_prune.coefficients.head_coefficients import HeadCoefficients

__all__ = ["coefficients_digest", "digest", "json_digest"]


def json_digest(value: Any, length: int = 16) -> str:
    """Return the first `length` hexadecimal digits of the SHA-256 of a JSON value. Other values are read as text."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def digest(*parts: Any) -> str:
    """Return a cache key for several JSON values.

    Example:
        >>> digest("a", [1, 2]) == digest("a", [1, 2]), digest("a", [1, 2]) == digest("a", [2, 1])
        (True, False)
    """
    return json_digest(parts, 32)


def coefficients_digest(coefficients: HeadCoefficients) -> str:
    """Return a digest of the weights, row groups and layers of head coefficients."""
    groups = [group.name for group in coefficients.row_groups]
    return json_digest([groups, coefficients.layers, coefficients.weight.contiguous().numpy().tobytes().hex()])
