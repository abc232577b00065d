"""Writes drafts, which are first answers, or reads drafts that were given. Attention is read in the same pass."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from ..attention.measures import MEASURES, Measure
from ..attention.reader import AttentionReader
from ..attention.rows import Reading, RowGroup, Rows
from ..errors import EmptyDraftError
from .kv_cache import Prefix
from .language_model import Generation, LanguageModel
from .prompts import EncodedPrompt
from .readouts import Readout, prompt_rows, read_targets

__all__ = ["Draft", "read_drafts", "write_drafts"]


@dataclass(frozen=True)
class Draft:
    """A first answer to a question. A model wrote it from the passages, or the caller gave it.

    Example:
        >>> Draft("the Meuse", ids=[506, 1714]).readout is None  # because no attention was read
        True
    """

    text: str
    """The final answer, without a reasoning model's thoughts."""
    ids: list[int] = field(repr=False)
    """The token ids of the final answer. Methods that read a draft score sources by their influence on these tokens."""
    log_probability: float = field(repr=False, default=-math.inf)
    """The log-probability of the final answer; see `Generation.log_probability`. It is minus infinity for a draft that
    the caller passed in."""
    thoughts: str = field(repr=False, default="")
    """The text that a reasoning model wrote before its answer."""
    prompt_ids: Sequence[int] = field(repr=False, default=())
    """The token ids of the draft's prompt. If the ids are given, the draft can be scored only with this prompt."""
    readout: Readout | None = field(repr=False, default=None)
    """The attention mass that was read with the draft. It is None if no row group was requested."""
    thought_ids: Sequence[int] = field(repr=False, default=())
    """The ids of all tokens before the answer: the thoughts, the markers around the thoughts, and white space."""
    only_thoughts: bool = field(repr=False, default=False)
    """True if the model stopped within its thoughts and wrote no answer; see `Generation.only_thoughts`."""


def write_drafts(
    language_model: LanguageModel,
    prompts: Sequence[EncodedPrompt],
    groups: Sequence[RowGroup] = (),
    max_new_tokens: int = 48,
    layers: Collection[int] | None = None,
    prefix: Prefix | None = None,
) -> list[Draft]:
    """Let the model write drafts as one batch, and read attention in the same forward passes.

    A model that does not pad exactly (see `Compatibility.pads_exactly`) writes the drafts one by one.

    Args:
        language_model: the model.
        prompts: one prompt or more.
        groups: the row groups to read.
        max_new_tokens: the maximum number of tokens in a draft. A longer draft is cut.
        layers: the layers to read. `None` reads all layers.
        prefix: the prefix of the prompt, if the prefix was run before. It is used only if there is a single prompt.

    Returns:
        One draft for each prompt. If the model writes nothing, the draft's text is empty, and its readout has no draft
        rows.
    """
    if len(prompts) > 1 and not language_model.compatibility.pads_exactly:
        return [write_drafts(language_model, [one], groups, max_new_tokens, layers)[0] for one in prompts]
    if not groups:
        generations, _ = language_model.generate(prompts, max_new_tokens, prefix=prefix)
        return [_draft(language_model, *pair, None) for pair in zip(generations, prompts, strict=True)]
    measures = _draft_measures(groups)
    readings = [
        Reading(prompt.sources, [*prompt_rows(prompt, groups), *(_each_row(prompt, measure) for measure in measures)])
        for prompt in prompts
    ]
    generations, reader = language_model.generate(prompts, max_new_tokens, readings, layers, prefix)
    assert reader is not None
    drafts = []
    for item, (generation, prompt) in enumerate(zip(generations, prompts, strict=True)):
        rows = {}
        if generation.answer_ids:  # row 0 is the prompt's last token; row i predicts written token i
            for measure in measures:
                rows[measure] = reader.mass(_row_name(measure), item)[:, :, slice(*generation.answer)]
        mass = _mass(reader, item, groups, rows)
        readout = Readout(mass, reader.layers, rows.get("attention"), every_layer=layers is None)
        drafts.append(_draft(language_model, generation, prompt, readout))
    return drafts


def read_drafts(
    language_model: LanguageModel,
    prompts: Sequence[EncodedPrompt],
    drafts: Sequence[str | Sequence[int]],
    groups: Sequence[RowGroup],
    layers: Collection[int] | None = None,
) -> list[Draft]:
    """Read the attention of drafts that were written elsewhere, in one forward pass over all drafts.

    A model that does not pad exactly (see `Compatibility.pads_exactly`) takes one forward pass for each draft.

    Args:
        language_model: the model that reads the drafts. Another model may have written the drafts.
        prompts: one prompt or more.
        drafts: the text or the token ids of each draft.
        groups: the row groups to read.
        layers: the layers to read. The pass ends after the last of these layers. `None` reads all layers.

    Raises:
        EmptyDraftError: a draft is empty, and `groups` has a group of draft rows.
        ContextTooLongError: a prompt and its draft do not fit into the context.
    """
    wants_draft = any(group.rows == "draft" for group in groups)
    targets, texts = [], []
    for draft in drafts:
        ids = language_model.encode_draft(draft) if isinstance(draft, str) else list(draft)
        if wants_draft and not ids:
            raise EmptyDraftError(f"the draft is empty ({draft!r}), so there is nothing to attribute; pass a text")
        targets.append(ids)
        texts.append((draft if isinstance(draft, str) else language_model.codec.decode(ids)).strip())
    readouts = read_targets(language_model, prompts, targets, groups, layers)
    return [
        Draft(text, ids, prompt_ids=prompt.ids, readout=readout)
        for text, ids, prompt, readout in zip(texts, targets, prompts, readouts, strict=True)
    ]


def _draft(
    language_model: LanguageModel, generation: Generation, prompt: EncodedPrompt, readout: Readout | None
) -> Draft:
    before = generation.ids[: generation.answer[0]]
    return Draft(
        generation.text,
        generation.answer_ids,
        generation.log_probability,
        language_model.codec.decode(before).strip(),
        prompt.ids,
        readout,
        before,
        generation.only_thoughts,
    )


def _draft_measures(groups: Sequence[RowGroup]) -> list[Measure]:
    """Return the measures to read for every draft row: attention, and the measures of the groups of draft rows.

    The list is empty if there is no group of draft rows.
    """
    wanted = {group.measure for group in groups if group.rows == "draft"}
    return [measure for measure in MEASURES if measure in wanted | {"attention"}] if wanted else []


def _row_name(measure: Measure) -> str:
    return f"draft-rows-{measure}"


def _each_row(prompt: EncodedPrompt, measure: Measure) -> Rows:
    return Rows(_row_name(measure), len(prompt) - 1, None, "none", measure)


def _mass(
    reader: AttentionReader,
    item: int,
    groups: Sequence[RowGroup],
    rows: Mapping[Measure, torch.Tensor],
) -> dict[RowGroup, torch.Tensor]:
    mass = {group: reader.mass(group.name, item) for group in groups if group.rows != "draft"}
    for group in groups:
        if group.rows == "draft" and rows:
            own = rows[group.measure]
            mass[group] = own.mean(2) if group.reduce == "mean" else own.amax(2)
    return mass
