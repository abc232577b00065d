"""The order test: do scores follow the content of sources, or their position?

The passages are shuffled, and the same draft is scored again, as if the model had written the draft from the shuffled
passages. Kendall's tau between the scores before and after the shuffle is computed twice. By content, a source is
matched with itself. By position, a source is matched with the source that took its place. If scores depend only on the
text, tau is 1 by content and near 0 by position. If scores depend only on the position, tau is near 0 by content and 1
by position.
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
    """Draw a random order of at least two passages. It differs from the present order."""
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
    """Correlate each method's scores before and after the passages are shown in another order.

    Args:
        loop: the pruning loop, which caches its results.
        task: the question as it was scored first.
        scores: the scores in the first order, by method.
        scorers: the methods to test.
        order: the indices of the passages in their new order.
        granularity: whether the sources are passages or sentences.

    Returns:
        For each method, Kendall's tau by `content` and by `position`.
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
