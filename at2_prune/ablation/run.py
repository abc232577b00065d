"""Ablations of one prompt, and what has come out of them so far."""

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
    """What every way of running ablations starts from, and puts its results into.

    Args:
        language_model: the model.
        prompt: with its sources.
        target: token ids that follow the prompt.
        masks: of each ablation, which sources it keeps.
        positions: of the tokens that are kept.
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
        """By the sources they keep; those that keep the same are run once."""
        for index, mask in enumerate(masks):
            self.ablations.setdefault(tuple(mask), []).append(index)
        self._log_probabilities: list[torch.Tensor] = [torch.empty(0)] * len(masks)

    def dropped(self, mask: Sequence[bool]) -> set[int]:
        """Positions of the tokens that are left out."""
        return {
            position for kept, span in zip(mask, self.sources, strict=True) if not kept for position in range(*span)
        }

    def kept(self, mask: Sequence[bool]) -> list[int]:
        """Positions of the tokens that are not left out."""
        dropped = self.dropped(mask)
        return [position for position in range(len(self.ids)) if position not in dropped]

    def places(self, tokens: list[int]) -> list[int]:
        """Position ids of the tokens that are kept, from their positions in the whole."""
        return list(range(len(tokens))) if self.closed else tokens

    def record(self, mask: tuple[bool, ...], logits: torch.Tensor) -> None:
        """What an ablation makes of the target: logits `(target tokens, vocabulary)`.

        Raises:
            ModelNotSupportedError: they are not numbers.
        """
        log_p = logits.float().log_softmax(-1).gather(1, self.target[:, None])[:, 0].double().cpu()
        if bool(log_p.isnan().any()):
            raise ModelNotSupportedError(
                "the model's logits are not numbers: it overflows in the precision it was loaded with; load it in "
                "bfloat16 or float32"
            )
        for index in self.ablations[mask]:
            self._log_probabilities[index] = log_p

    def log_probabilities(self) -> torch.Tensor:
        """Of the target's tokens, `(ablations, target tokens)` float64, once all are recorded."""
        return torch.stack(self._log_probabilities)
