"""What every scorer gets and gives: question, passages and draft in, one score per source out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from ..coefficients import RowGroup
from ..draft import Draft
from ..model import LanguageModel
from ..passages import Passage
from ..prompt import EncodedPrompt

__all__ = ["Scorer", "Task"]


@dataclass(frozen=True)
class Task:
    """One question to score the sources of."""

    language_model: LanguageModel
    question: str
    passages: Sequence[Passage]
    prompt: EncodedPrompt
    draft: Draft


class Scorer(Protocol):
    """A method that scores sources."""

    name: str
    row_groups: tuple[RowGroup, ...]
    """Attention it wants read while the draft is written; empty for methods that do not look at attention."""

    def score(self, task: Task) -> torch.Tensor:
        """Scores of the prompt's sources, `(sources,)` float; higher means more influence on the draft.

        Raises:
            EmptyDraftError: the method needs a draft and the draft is empty.
        """
        ...
