"""Holds the ablations of one prompt and the results that are recorded so far."""

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
        masks: one mask for each ablation. An entry is True if the ablation keeps the source.
        positions: "kept" if the remaining tokens keep their positions, "closed" if they move up to close the gaps.
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
        """For each mask, the indices of the ablations with this mask. Equal masks run only once."""
        for index, mask in enumerate(masks):
            self.ablations.setdefault(tuple(mask), []).append(index)
        self._log_probabilities: list[torch.Tensor] = [torch.empty(0)] * len(masks)

    def dropped(self, mask: Sequence[bool]) -> set[int]:
        """Return the positions of the tokens that an ablation leaves out."""
        return {
            position for kept, span in zip(mask, self.sources, strict=True) if not kept for position in range(*span)
        }

    def kept(self, mask: Sequence[bool]) -> list[int]:
        """Return the positions of the tokens that an ablation keeps."""
        dropped = self.dropped(mask)
        return [position for position in range(len(self.ids)) if position not in dropped]

    def places(self, tokens: list[int]) -> list[int]:
        """Return the position ids of kept tokens. `tokens` are the positions of these tokens in the whole text."""
        return list(range(len(tokens))) if self.closed else tokens

    def record(self, mask: tuple[bool, ...], logits: torch.Tensor) -> None:
        """Record the log-probabilities of the target's tokens under one mask.

        Args:
            mask: the mask. The result counts for every ablation with this mask.
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
        """Return the log-probabilities of the target's tokens, `(ablations, target tokens)` float64.

        All ablations must be recorded before this call.
        """
        return torch.stack(self._log_probabilities)
