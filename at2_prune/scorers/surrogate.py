"""Score sources by a linear surrogate of the model, which is fitted to random ablations of one question.

This method is ContextCite (arXiv 2409.00729, section 3). The AT2 paper calls the method ESM. An ablation keeps each
source with probability 1/2. LASSO predicts the draft's log-odds per token from standardised masks. The weights of LASSO
are rescaled to masks of 0 and 1, and to the log-odds of the whole draft. The rescaled weights are the scores.
"""

from __future__ import annotations

import torch

from ..ablation import random_masks, seeded_generator
from ..errors import InputError, need_package
from .base import Scorer, ScorerOptions, Task

__all__ = ["SurrogateScorer"]


class SurrogateScorer(Scorer):
    """Scores sources by the weights of a LASSO surrogate.

    Args:
        ablations: the number of ablations. With the same seed, the ablations of `surrogate_32` are the first 32
            ablations of `surrogate_64`. The two methods can therefore share outcomes.
        alpha: the penalty of LASSO. The default is the value that ContextCite's authors use.
        seed: the seed of the ablations. The ablations also depend on the question's text.

    Raises:
        InputError: there are fewer than two ablations.
        MissingExtraError: scikit-learn is not installed.
    """

    uses_draft = True

    def __init__(self, ablations: int = 64, alpha: float = 0.01, seed: int = 0) -> None:
        if ablations < 2:
            raise InputError(f"a surrogate needs at least 2 ablations, got {ablations}")
        self.name = f"surrogate_{ablations}"
        need_package("sklearn", "eval", f"The method {self.name}", "scikit-learn")
        self.ablations = ablations
        self.alpha = alpha
        self.seed = seed

    @classmethod
    def create(cls, name: str, options: ScorerOptions, **settings: object) -> SurrogateScorer:
        return cls(**settings, seed=options.seed)  # type: ignore[arg-type]

    def score(self, task: Task) -> torch.Tensor:
        from sklearn.linear_model import Lasso
        from sklearn.preprocessing import StandardScaler

        task.need_draft()
        if not task.prompt.sources:
            return torch.zeros(0)
        masks = random_masks(len(task.prompt.sources), self.ablations, seeded_generator(self.seed, task.question))
        outcomes = task.ablate(masks).double().cpu().numpy() / len(task.draft.ids)
        scaler = StandardScaler()
        lasso = Lasso(alpha=self.alpha).fit(scaler.fit_transform(masks.double().numpy()), outcomes)
        return torch.from_numpy(lasso.coef_ / scaler.scale_ * len(task.draft.ids))
