"""Choose the passages to hand on, by rank or by token budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..passages import Passage
from ..pruning.selection import neighborhood, token_budget, top_k
from .config import PruneConfig

if TYPE_CHECKING:
    from ..pruning.results import ScoredSource

__all__ = ["Choice", "Limits", "choose", "nothing_kept"]


@dataclass(frozen=True)
class Choice:
    """The passages to keep and the passages to drop. The keys of both dictionaries are indices of passages."""

    texts: dict[int, str]
    """The text of every passage to keep, in the order in which the passages are shown."""
    reasons: dict[int, str]
    """The reason for dropping, for every passage to drop."""


@dataclass(frozen=True)
class Limits:
    """The limits on the number of sources to keep."""

    k: int | None
    """The maximum number of sources. With None, the best sources that fit into `max_tokens` are kept."""
    bound: int | None = None
    """`min_score` and `keep` allow at most this many of the best sources. With None, they set no limit."""


def choose(
    config: PruneConfig,
    passages: Sequence[Passage],
    sources: Sequence[ScoredSource] | None,
    limits: Limits,
    count_tokens: Callable[[str], int],
) -> Choice:
    """Choose passages by the scores of their sources.

    Args:
        config: the settings. `granularity`, `neighbors`, `order`, `max_tokens` and `min_documents` are applied here.
            `min_score` and `keep` only appear in the reasons for dropping.
        passages: all passages.
        sources: the sources of the passages, with scores. With None, the first passages are kept whole.
        limits: the limits on the number of sources to keep.
        count_tokens: a function that returns the number of tokens of a text.
    """
    whole = sources is None or config.granularity == "passage"
    owners = list(range(len(passages))) if sources is None else [source.passage for source in sources]
    texts = [passage.text for passage in passages] if sources is None else [source.text for source in sources]
    scores = [0.0] * len(passages) if sources is None else [source.score for source in sources]
    groups = [neighborhood(i, owners, 0 if whole else config.neighbors) for i in range(len(owners))]
    ranking = top_k(scores, len(scores) or 1, "score")
    bound = len(ranking) if limits.bound is None else limits.bound
    if limits.k is None:
        assert config.max_tokens is not None
        seeds = token_budget(ranking[:bound], groups, [count_tokens(text) for text in texts], config.max_tokens)
        rule = f"too few of the {config.max_tokens} tokens are left for this source"
    else:
        seeds, rule = ranking[: min(limits.k, bound)], f"the top {limits.k} are kept"
    if len(seeds) == bound < len(ranking):
        rule = f"{bound} {'source is' if bound == 1 else 'sources are'} selected by {_asked(config)}"
        if config.keep is None:
            rule = f"{bound} {'source reaches' if bound == 1 else 'sources reach'} {_asked(config)}"
    seeds = _with_at_least(config.min_documents, ranking, seeds, owners)
    shown = list(dict.fromkeys(owners[i] for i in seeds))
    if config.order == "original":
        shown.sort()
    kept = sorted({i for seed in seeds for i in groups[seed]})
    return Choice(
        {
            owner: passages[owner].text if whole else "".join(texts[i] for i in kept if owners[i] == owner).strip()
            for owner in shown
        },
        {
            owner: _reason(owner, owners, ranking, whole, rule)
            for owner in range(len(passages))
            if owner not in set(shown)
        },
    )


def nothing_kept(passages: Sequence[Passage], reason: str) -> Choice:
    """Return the choice that drops every passage for one reason."""
    return Choice({}, dict.fromkeys(range(len(passages)), reason))


def _asked(config: PruneConfig) -> str:
    """Return the settings that limit the number of sources, as text such as `min_score=0.5 and keep='recall>=0.9'`."""
    asked = [] if config.min_score is None else [f"min_score={config.min_score}"]
    return " and ".join(asked if config.keep is None else [*asked, f"keep='{config.keep}'"])


def _with_at_least(count: int, ranking: Sequence[int], seeds: Sequence[int], owners: Sequence[int]) -> list[int]:
    """Add the best sources of further passages until `count` passages are chosen.

    Return the indices of all chosen sources, best first.
    """
    chosen = list(seeds)
    for source in ranking:
        if len({owners[i] for i in chosen}) >= count:
            break
        if owners[source] not in {owners[i] for i in chosen}:
            chosen.append(source)
    return sorted(chosen, key=list(ranking).index)


def _reason(owner: int, owners: Sequence[int], ranking: Sequence[int], whole: bool, rule: str) -> str:
    best = next(place for place, source in enumerate(ranking, start=1) if owners[source] == owner)
    return f"{'rank' if whole else 'its best sentence is rank'} {best} of {len(ranking)}, {rule}"
