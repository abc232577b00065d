"""Compute rank correlations, which are defined even if all scores are equal."""

from __future__ import annotations

from collections.abc import Sequence

from at2_prune.errors import MissingExtraError

__all__ = ["kendall", "spearman"]


def kendall(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Kendall's tau-b. If all values of one argument are equal, tau is not defined, and 0 is returned.

    A method may give all sources of a question the same score, which carries no information. If such questions were
    left out, the method would be measured on fewer questions than other methods.

    Raises:
        MissingExtraError: scipy is not installed.

    Example:
        >>> round(kendall([1, 2, 3], [1, 3, 2]), 3)  # two pairs agree, and one pair does not agree
        0.333
        >>> kendall([1, 2, 3], [0, 0, 0])
        0.0
    """
    return _correlation("kendalltau", first, second)


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Spearman's rho. If all values of one argument are equal, rho is not defined, and 0 is returned.

    Raises:
        MissingExtraError: scipy is not installed.

    Example:
        >>> round(spearman([1, 2, 3], [1, 3, 2]), 3)
        0.5
    """
    return _correlation("spearmanr", first, second)


def _correlation(name: str, first: Sequence[float], second: Sequence[float]) -> float:
    try:
        from scipy import stats
    except ImportError:
        raise MissingExtraError("scipy", "eval", "Rank correlation") from None
    if len(set(first)) < 2 or len(set(second)) < 2:
        return 0.0
    return float(getattr(stats, name)(first, second).statistic)
