"""The ablations of one prompt, and their results so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from ..errors import ModelNotSupportedError
from ..models.language_model import LanguageModel
from ..models.prompts import EncodedPrompt

__all__ = ["Positions", "Run"]

Positions = Literal["kept", "closed"]


class Run:
    """The ablations to run on one prompt, and their results. Every function that runs ablations records results here.

    Args:
        language_model: the model.
        prompt: the prompt and its sources.
        target: the token ids that follow the prompt.
        masks: one mask for each ablation, with True for each source that it keeps.
        positions: whether the kept tokens keep their positions or close the gaps.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        prompt: EncodedPrompt,
        target: Sequence[int],
        masks: list[list[bool]],
        positions: Positions,
    ) -> None:
        self.language_model = language_model
        self.ids = [*prompt.ids, *target[:-1]]
        self.target = torch.tensor(list(target), device=language_model.device)
        self.sources = prompt.sources
        self.closed = positions == "closed"
        self.ablations: dict[tuple[bool, ...], list[int]] = {}
        """For each mask, the indices of the ablations with this mask. Each mask runs once."""
        for index, mask in enumerate(masks):
            self.ablations.setdefault(tuple(mask), []).append(index)
        self._log_probabilities: list[torch.Tensor] = [torch.empty(0)] * len(masks)

    def dropped(self, mask: Sequence[bool]) -> set[int]:
        """Return the positions of the tokens that are left out."""
        return {
            position for kept, span in zip(mask, self.sources, strict=True) if not kept for position in range(*span)
        }

    def kept(self, mask: Sequence[bool]) -> list[int]:
        """Return the positions of the tokens that are kept."""
        dropped = self.dropped(mask)
        return [position for position in range(len(self.ids)) if position not in dropped]

    def places(self, tokens: list[int]) -> list[int]:
        """Return the position ids of kept tokens, given their positions in the whole text."""
        return list(range(len(tokens))) if self.closed else tokens

    def record(self, mask: tuple[bool, ...], logits: torch.Tensor) -> None:
        """Record the log-probabilities of the target under one ablation.

        Args:
            mask: the ablation.
            logits: the logits that predict the target, `(target tokens, vocabulary)`.

        Raises:
            ModelNotSupportedError: the logits are NaN.
        """
        log_p = logits.float().log_softmax(-1).gather(1, self.target[:, None])[:, 0].double().cpu()
        if bool(log_p.isnan().any()):
            raise ModelNotSupportedError(
                "the model's logits are NaN, because values overflow in the model's dtype; load it in bfloat16 "
                "or float32"
            )
        for index in self.ablations[mask]:
            self._log_probabilities[index] = log_p

    def log_probabilities(self) -> torch.Tensor:
        """Return the log-probabilities `(ablations, target tokens)` float64, once all ablations are recorded."""
        return torch.stack(self._log_probabilities)
