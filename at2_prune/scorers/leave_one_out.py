"""Leave-one-out: what the draft's log-odds lose without each source."""

from __future__ import annotations

import torch

from .base import Scorer, Task

__all__ = ["LeaveOneOutScorer"]


class LeaveOneOutScorer(Scorer):
    """Log-odds of the draft with all sources, less those with all but one; one ablation a source, and one of none."""

    name = "leave_one_out"
    uses_draft = True

    def score(self, task: Task) -> torch.Tensor:
        sources = len(task.prompt.sources)
        masks = torch.cat([torch.ones(1, sources, dtype=torch.bool), ~torch.eye(sources, dtype=torch.bool)])
        outcomes = task.ablate(masks)
        return outcomes[0] - outcomes[1:]
