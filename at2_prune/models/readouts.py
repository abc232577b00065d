"""Readouts: the attention mass that was read with one prompt, from the draft's rows or from the prompt's rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from ..attention.reader import AttentionReader
from ..attention.rows import Reading, RowGroup, Rows
from ..errors import EmptyDraftError
from .kv_cache import Prefix
from .language_model import LanguageModel
from .prompts import EncodedPrompt

__all__ = ["Readout", "prompt_mass", "prompt_rows", "read_prompts", "read_targets"]


@dataclass(frozen=True)
class Readout:
    """The attention mass that was read with one prompt.

    Example:
        >>> readout = Readout({RowGroup("draft"): torch.zeros(18, 4, 3)}, layers=range(18))
        >>> [(group.name, tuple(mass.shape)) for group, mass in readout.mass.items()]  # layers, heads, sources
        [('draft', (18, 4, 3))]
    """

    mass: Mapping[RowGroup, torch.Tensor]
    """`(layers, heads, sources)` for each row group, and `(layers, heads, sources, sources)` for groups of the rows
    `sources` (see `prompt_mass`). If the draft is empty, the groups of draft rows are missing."""
    layers: Sequence[int] = ()
    """The indices of the layers that were read."""
    row_mass: torch.Tensor | None = None
    """The attention mass of each single draft row, `(layers, heads, draft tokens, sources)`. It is set only for a draft
    that the model wrote itself."""
    every_layer: bool = True
    """True if all layers that have attention were requested, and not only some layers."""


def prompt_rows(prompt: EncodedPrompt, groups: Sequence[RowGroup]) -> list[Rows]:
    """Return the positions of the row groups that lie in the prompt. `prompt_mass` returns the mass of these groups."""
    places = {"question": prompt.question, "last": (len(prompt) - 1, len(prompt))}
    rows = []
    for group in groups:
        if group.rows == "sources":
            spans = [(index, span) for index, span in enumerate(prompt.sources) if span[1] > span[0]]
            rows += [Rows(f"{group.name} {index}", *span, group.reduce, group.measure) for index, span in spans]
        elif group.rows != "draft":
            rows.append(Rows(group.name, *places[group.rows], group.reduce, group.measure))
    return rows


def prompt_mass(reader: AttentionReader, prompt: EncodedPrompt, group: RowGroup, item: int = 0) -> torch.Tensor:
    """Return the attention mass of a group whose positions `prompt_rows` gave.

    Returns:
        `(layers, heads, sources)`, or `(layers, heads, sources, sources)` for a group of the rows `sources`. Then the
        first `sources` axis holds the sources whose rows attend, and the second holds the sources that are attended to.
    """
    if group.rows != "sources":
        return reader.mass(group.name, item)
    spans = [index for index, (start, stop) in enumerate(prompt.sources) if stop > start]
    read = {index: reader.mass(f"{group.name} {index}", item) for index in spans}
    nothing = torch.zeros_like(next(iter(read.values())))
    return torch.stack([read.get(index, nothing) for index in range(len(prompt.sources))], dim=2)


def read_prompts(
    language_model: LanguageModel,
    prompts: Sequence[EncodedPrompt],
    groups: Sequence[RowGroup],
    layers: Collection[int] | None = None,
    prefix: Prefix | None = None,
) -> list[Readout]:
    """Read rows of the prompts, without a draft, in one forward pass. The pass ends after the last requested layer.

    Args:
        language_model: the model that reads.
        prompts: one prompt or more.
        groups: the row groups to read. Groups of draft rows are not allowed.
        layers: the layers to read. `None` reads all layers.
        prefix: the prefix of a single prompt, if it has been run.

    Returns:
        One readout for each prompt.

    Raises:
        EmptyDraftError: a group of draft rows is requested.
        ContextTooLongError: a prompt does not fit into the context.
    """
    if any(group.rows == "draft" for group in groups):
        raise EmptyDraftError("rows of the draft are requested, but there is no draft")
    return read_targets(language_model, prompts, [[]] * len(prompts), groups, layers, prefix)


def read_targets(
    language_model: LanguageModel,
    prompts: Sequence[EncodedPrompt],
    targets: Sequence[list[int]],
    groups: Sequence[RowGroup],
    layers: Collection[int] | None = None,
    prefix: Prefix | None = None,
) -> list[Readout]:
    """Read attention from prompts and the tokens that follow each prompt, in one forward pass.

    Args:
        language_model: the model that reads.
        prompts: one prompt or more.
        targets: the tokens that follow each prompt. They may be empty if no draft rows are requested.
        groups: the row groups to read.
        layers: the layers to read. The pass ends after the last of these layers. `None` reads all layers.
        prefix: the prefix of a single prompt, if it has been run.

    Returns:
        One readout for each prompt. If the model does not pad exactly, each prompt takes one pass.

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
    reader = language_model.read(prompts, targets, readings, layers, prefix)
    return [
        Readout(
            {group: prompt_mass(reader, prompt, group, item) for group in groups}, reader.layers, None, layers is None
        )
        for item, prompt in enumerate(prompts)
    ]


def _target_rows(prompt: EncodedPrompt, ids: list[int], groups: Sequence[RowGroup]) -> list[Rows]:
    first = len(prompt) - 1  # this row predicts the target's first token
    return [
        Rows(group.name, first, first + len(ids), group.reduce, group.measure)
        for group in groups
        if group.rows == "draft"
    ]
