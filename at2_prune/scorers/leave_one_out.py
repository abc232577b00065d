"""Leave-one-out: score a source by the log-odds that the draft loses without this source."""

from __future__ import annotations

import torch

from .base import Scorer, Task

__all__ = ["LeaveOneOutScorer"]


class LeaveOneOutScorer(Scorer):
    """Scores a source by the draft's log-odds with all sources, minus the draft's log-odds without this source."""

    name = "leave_one_out"
    uses_draft = True

    def score(self, task: Task) -> torch.Tensor:
        sources = len(task.prompt.sources)
        masks = torch.cat([torch.ones(1, sources, dtype=torch.bool), ~torch.eye(sources, dtype=torch.bool)])
        outcomes = task.ablate(masks)
        return outcomes[0] - outcomes[1:]
