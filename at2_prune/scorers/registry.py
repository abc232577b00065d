"""Methods by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..coefficients.head_coefficients import HeadCoefficients
from ..errors import InputError
from .at2 import AT2Scorer
from .average_attention import AverageAttentionScorer
from .base import Scorer
from .bm25 import BM25Scorer
from .contribution import ContributionScorer
from .cross_encoder import CrossEncoderScorer
from .dense import DenseScorer
from .effective_attention import EffectiveAttentionScorer
from .fusion import FusionScorer
from .gradient_x_input import GradientXInputScorer
from .last_layer_attention import LastLayerAttentionScorer
from .leave_one_out import LeaveOneOutScorer
from .random import RandomScorer
from .retriever_order import RetrieverOrderScorer
from .surrogate import SurrogateScorer

__all__ = ["BUILT_ON", "LEARNED", "SCORERS", "ScorerOptions", "make_scorer"]


@dataclass(frozen=True)
class ScorerOptions:
    """What some methods need beside the question."""

    coefficients: Mapping[str, HeadCoefficients] = field(default_factory=dict)
    """Learned coefficients by the name of the method that uses them, `at2` among them."""
    embedder: str | None = None
    """Of `dense`; by default the one that comes as a package."""
    cross_encoder: str | None = None
    """Of `cross_encoder`."""
    seed: int = 0
    """Of `random` and of the surrogates' ablations."""


def _cross_encoder(options: ScorerOptions) -> Scorer:
    if options.cross_encoder is None:
        raise InputError("the method cross_encoder needs a reranker's Hub id or path")
    return CrossEncoderScorer(options.cross_encoder)


SCORERS: dict[str, Callable[[ScorerOptions], Scorer]] = {
    "random": lambda options: RandomScorer(options.seed),
    "retriever_order": lambda options: RetrieverOrderScorer(),
    "bm25": lambda options: BM25Scorer(),
    "dense": lambda options: DenseScorer(options.embedder),
    "average_attention": lambda options: AverageAttentionScorer(),
    "last_layer_attention": lambda options: LastLayerAttentionScorer(),
    "contribution": lambda options: ContributionScorer(),
    "effective_attention": lambda options: EffectiveAttentionScorer(),
    "gradient_x_input": lambda options: GradientXInputScorer(),
    "leave_one_out": lambda options: LeaveOneOutScorer(),
    "surrogate_32": lambda options: SurrogateScorer(32, seed=options.seed),
    "surrogate_64": lambda options: SurrogateScorer(64, seed=options.seed),
    "cross_encoder": _cross_encoder,
}
"""Methods without learned coefficients; with them, every name in `ScorerOptions.coefficients` is a method."""


LEARNED: dict[str, tuple[str, ...]] = {
    "at2": (),
    "scout": ("--learn-from", "evidence"),
    "contribution_learned": ("--rows", "draft-contribution"),
    "effective_attention_learned": ("--rows", "draft-effective"),
}
"""Methods with learned coefficients that may come with at2-prune, and the options of `at2-prune train` for them."""


BUILT_ON = {"fusion": "scout"}
"""Methods that use the learned coefficients of another, and whose."""


def make_scorer(name: str, options: ScorerOptions = ScorerOptions()) -> Scorer:
    """The method of that name.

    Raises:
        InputError: there is none, or what it needs is not in the options.
        MissingExtraError: what it needs is not installed.

    Example:
        >>> make_scorer("surrogate_32").name
        'surrogate_32'
        >>> make_scorer("at2", ScorerOptions({"at2": HeadCoefficients.average(2, 4)})).row_groups[0].name
        'draft'
    """
    if name in options.coefficients:
        return AT2Scorer(options.coefficients[name], name)
    if BUILT_ON.get(name) in options.coefficients:
        return FusionScorer(make_scorer(BUILT_ON[name], options), DenseScorer(options.embedder))
    if name not in SCORERS:
        known = sorted({*SCORERS, *options.coefficients})
        raise InputError(
            f"no method {name!r}: there are {', '.join(known)}, and at2 or scout where they have coefficients"
        )
    return SCORERS[name](options)
