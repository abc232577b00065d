"""Reads attention mass from prompts and the tokens after them. A readout holds the mass of one prompt and its draft."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from ..attention.rows import Reading, RowGroup, Rows
from .language_model import LanguageModel
from .prompts import EncodedPrompt

__all__ = ["Readout", "prompt_rows", "read_targets"]


@dataclass(frozen=True)
class Readout:
    """The attention mass that was read from one prompt and, if it has one, from its draft.

    Example:
        >>> readout = Readout({RowGroup("draft"): torch.zeros(18, 4, 3)}, layers=range(18))
        >>> [(group.name, tuple(mass.shape)) for group, mass in readout.mass.items()]  # layers, heads, sources
        [('draft', (18, 4, 3))]
    """

    mass: Mapping[RowGroup, torch.Tensor]
    """For each row group, the attention mass `(layers, heads, sources)`. If the draft is empty, no group of draft
    rows has an entry."""
    layers: Sequence[int] = ()
    """The indices of the layers that were read."""
    row_mass: torch.Tensor | None = None
    """The attention mass of each draft row, `(layers, heads, draft tokens, sources)`. It is None unless the model wrote
    the draft itself and draft rows were requested."""
    every_layer: bool = True
    """True if all layers were requested, and not only some layers. `layers` then holds every layer with attention."""


def prompt_rows(prompt: EncodedPrompt, groups: Sequence[RowGroup]) -> list[Rows]:
    """Return the positions of those row groups whose rows lie in the prompt."""
    places = {"question": prompt.question, "last": (len(prompt) - 1, len(prompt))}
    return [
        Rows(group.name, *places[group.rows], group.reduce, group.measure) for group in groups if group.rows != "draft"
    ]


def read_targets(
    language_model: LanguageModel,
    prompts: Sequence[EncodedPrompt],
    targets: Sequence[list[int]],
    groups: Sequence[RowGroup],
    layers: Collection[int] | None = None,
) -> list[Readout]:
    """Read attention from prompts and the tokens that follow each prompt, in one forward pass.

    If the model does not pad exactly (see `Compatibility.pads_exactly`), each prompt takes one pass.

    Args:
        language_model: the model that reads.
        prompts: one prompt or more.
        targets: for each prompt, the tokens that follow it. If no draft rows are requested, there may be no tokens.
        groups: the row groups to read.
        layers: the layers to read. The pass ends after the last of these layers. `None` reads all layers.

    Returns:
        One readout for each prompt.

    Raises:
        ContextTooLongError: a prompt and its target do not fit into the context.
    """
    if len(prompts) > 1 and not language_model.compatibility.pads_exactly:
        return [
            read_targets(language_model, [prompt], [ids], groups, layers)[0]
            for prompt, ids in zip(prompts, targets, strict=True)
        ]
    for prompt, ids in zip(prompts, targets, strict=True):
        language_model.check_length(len(prompt), len(ids))
    readings = [
        Reading(prompt.sources, [*prompt_rows(prompt, groups), *_target_rows(prompt, ids, groups)])
        for prompt, ids in zip(prompts, targets, strict=True)
    ]
    reader = language_model.read(prompts, targets, readings, layers)
    return [
        Readout({group: reader.mass(group.name, item) for group in groups}, reader.layers, None, layers is None)
        for item in range(len(prompts))
    ]


def _target_rows(prompt: EncodedPrompt, ids: list[int], groups: Sequence[RowGroup]) -> list[Rows]:
    first = len(prompt) - 1  # this row predicts the target's first token
    return [
        Rows(group.name, first, first + len(ids), group.reduce, group.measure)
        for group in groups
        if group.rows == "draft"
    ]
