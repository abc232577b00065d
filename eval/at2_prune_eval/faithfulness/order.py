"""The order test: do scores follow content or position?

The passages are shuffled, and the same draft is scored again as if the model had written it from them. Kendall's tau
between the scores before and after is taken twice: between a source and itself, wherever it stands now (content), and
between a source and the one that stands in its place now (position). Scores that depend on the text alone have a
content tau of 1 and a position tau near 0; scores that depend on the place alone, the reverse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from at2_prune.models.drafts import Draft, read_drafts
from at2_prune.passages import Granularity
from at2_prune.scorers import Scorer, Task

from ..loop.cached_loop import CachedLoop
from .ablations import Ablator
from .ranks import kendall

__all__ = ["order_test", "shuffled_order"]


def shuffled_order(passages: int, generator: torch.Generator) -> list[int]:
    """A random order of two or more passages that is not the one they have."""
    order = list(range(passages))
    while order == list(range(passages)):
        order = torch.randperm(passages, generator=generator).tolist()
    return order


def order_test(
    loop: CachedLoop,
    task: Task,
    scores: Mapping[str, Sequence[float]],
    scorers: Sequence[Scorer],
    order: Sequence[int],
    granularity: Granularity,
) -> dict[str, dict[str, float]]:
    """What each method's scores follow when the passages are shown in another order.

    Args:
        loop: the pruning loop, with its memory.
        task: the question as it was scored.
        scores: of every method, before.
        scorers: methods to test.
        order: indices of the passages, in their new order.
        granularity: of the sources.

    Returns:
        `content` and `position` by method.
    """
    passages = [task.passages[index] for index in order]
    prompt = loop.language_model.encode(task.question, passages, granularity)
    groups = list(dict.fromkeys(group for scorer in scorers for group in scorer.draft_groups))
    draft = Draft(task.draft.text, task.draft.ids, prompt_ids=prompt.ids)
    if groups:
        draft = read_drafts(loop.language_model, [prompt], [task.draft.ids], groups)[0]
    ablator = Ablator(loop, prompt, draft.ids)
    again = Task(loop.language_model, task.question, passages, prompt, draft, outcomes=ablator)
    owners = task.prompt.source_passage
    origin = [source for index in order for source, owner in enumerate(owners) if owner == index]
    result = {}
    for scorer in scorers:
        before, after = scores[scorer.name], scorer.score(again).tolist()
        result[scorer.name] = {
            "content": kendall([before[source] for source in origin], after),
            "position": kendall(before, after),
        }
    return result
