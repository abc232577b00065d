"""What every scorer gets and gives: question, passages and draft in, one score per source out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from ..ablation import ablation_outcomes
from ..attention.rows import RowGroup
from ..errors import EmptyDraftError
from ..models.drafts import Draft
from ..models.kv_cache import Prefix
from ..models.language_model import LanguageModel
from ..models.prompts import EncodedPrompt
from ..passages import Passage

__all__ = ["Scorer", "Task", "prepare", "prompt_groups", "read_layers"]


@dataclass(frozen=True)
class Task:
    """One question to score the sources of."""

    language_model: LanguageModel
    question: str
    passages: Sequence[Passage]
    prompt: EncodedPrompt
    draft: Draft
    outcomes: Callable[[torch.Tensor], torch.Tensor] | None = None
    """Runs ablations in `ablate`'s place: one that remembers lets methods share them."""
    prefix: Prefix | None = None
    """What stands before the sources, if that has been run."""
    read: Draft | None = None
    """What the `prompt_groups` attended to, if that has been read, as one batch with other questions say."""

    def ablate(self, masks: torch.Tensor) -> torch.Tensor:
        """Log-odds of the draft under ablations.

        Args:
            masks: `(ablations, sources)` bool, True where a source is kept.

        Returns:
            `(ablations,)` float64.
        """
        self.need_draft()
        if self.outcomes is not None:
            return self.outcomes(masks)
        return ablation_outcomes(self.language_model, self.prompt, self.draft.ids, masks)[:, 0]

    @property
    def titled_texts(self) -> list[str]:
        """Each source's text after its passage's title: what methods that read text rather than attention get."""
        prompt = self.prompt
        titles = [self.passages[index].title for index in prompt.source_passage]
        return [f"{title} {text}" if title else text for title, text in zip(titles, prompt.source_texts, strict=True)]

    def need_draft(self) -> None:
        """Raise `EmptyDraftError` if there is no draft."""
        if not self.draft.ids:
            raise EmptyDraftError("the draft is empty, so there is nothing to attribute")


class Scorer(Protocol):
    """A method that scores sources.

    It may have more attributes: `layers`, the only ones it looks at; `prompt_groups`, what it reads without a draft;
    and `prepare`, which loads what it needs beside the model. See `read_layers` and the functions of the other names.
    """

    name: str
    row_groups: tuple[RowGroup, ...]
    """Attention it wants read while the draft is written; empty for methods that do not look at attention."""
    uses_draft: bool
    """Whether it needs the draft, or what was read while it was written; False if question and passages suffice."""

    def score(self, task: Task) -> torch.Tensor:
        """Scores of the prompt's sources, `(sources,)` float; higher means more influence on the draft.

        Raises:
            EmptyDraftError: the method needs a draft and the draft is empty.
        """
        ...


def prepare(scorer: Scorer, device: torch.device) -> None:
    """Let a scorer load what it needs beside the model, an embedder say, before the first question is scored.

    Args:
        scorer: its `prepare(device)` is called if it has one.
        device: where to.

    Raises:
        InputError: what it needs cannot be loaded.
    """
    getattr(scorer, "prepare", lambda _: None)(device)


def read_layers(scorer: Scorer) -> Collection[int] | None:
    """The layers whose attention a scorer looks at: its `layers` if it has any, else None for all."""
    return getattr(scorer, "layers", None)


def prompt_groups(scorer: Scorer) -> tuple[RowGroup, ...]:
    """Attention that a scorer reads from the prompt alone, before anything is written: its `prompt_groups` if any."""
    return getattr(scorer, "prompt_groups", ())
