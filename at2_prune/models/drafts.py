"""Drafts with the attention that was read while they were written, or from one pass over a text written elsewhere."""

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
from .language_model import LanguageModel
from .prompts import EncodedPrompt

__all__ = [
    "Draft",
    "prompt_mass",
    "prompt_rows",
    "read_draft",
    "read_drafts",
    "read_prompt",
    "read_prompts",
    "write_drafts",
]


@dataclass(frozen=True)
class Draft:
    """A first answer and what its rows (and the prompt's) attended to."""

    text: str
    """The final answer, without a reasoning model's thoughts."""
    ids: list[int] = field(repr=False)
    """Its tokens: the target of attribution."""
    mass: Mapping[RowGroup, torch.Tensor] = field(repr=False, default_factory=dict)
    """`(layers, heads, sources)` for each row group that was read, and `(layers, heads, sources, sources)` for the
    sources' own rows; draft groups are missing if the draft is empty."""
    layers: Sequence[int] = field(repr=False, default=())
    """The layers that were read."""
    row_mass: torch.Tensor | None = field(repr=False, default=None)
    """`(layers, heads, draft tokens, sources)`: the rows of a draft the model wrote itself, one by one."""
    thoughts: str = field(repr=False, default="")
    """What a reasoning model wrote before its answer."""
    prompt_ids: Sequence[int] = field(repr=False, default=())
    """The prompt it was read with, so that it is not scored against another."""
    log_probability: float = field(repr=False, default=-math.inf)
    """How sure the model is of an answer it wrote itself; see `Generation.log_probability`."""


def write_drafts(
    language_model: LanguageModel,
    prompts: Sequence[EncodedPrompt],
    groups: Sequence[RowGroup] = (),
    max_new_tokens: int = 48,
    layers: Collection[int] | None = None,
    prefix: Prefix | None = None,
) -> list[Draft]:
    """Let the model draft, as one batch, and read attention as it does: no extra forward pass.

    Args:
        language_model: the model.
        prompts: one or more.
        groups: row groups to read.
        max_new_tokens: a draft is cut there.
        layers: layers to read; None reads all.
        prefix: how a single prompt begins, if that has been run.

    Returns:
        One draft a prompt. A model may write nothing: then the text is empty and the draft's rows are missing.
        Models that do not pad exactly write one by one.
    """
    if len(prompts) > 1 and not language_model.compatibility.pads_exactly:
        return [write_drafts(language_model, [one], groups, max_new_tokens, layers)[0] for one in prompts]
    if not groups:
        generations, _ = language_model.generate(prompts, max_new_tokens, prefix=prefix)
        return [
            Draft(
                g.text,
                g.answer_ids,
                thoughts=_thoughts(language_model, g.ids, g.answer),
                prompt_ids=prompt.ids,
                log_probability=g.log_probability,
            )
            for g, prompt in zip(generations, prompts, strict=True)
        ]
    readings = [Reading(prompt.sources, prompt_rows(prompt, groups)) for prompt in prompts]
    measures: list[Measure] = []
    if any(group.rows == "draft" for group in groups):
        read = {"attention", *(group.measure for group in groups if group.rows == "draft")}
        measures = [measure for measure in MEASURES if measure in read]
        readings = [
            Reading(reading.sources, [*reading.rows, *(_each_row(prompt, measure) for measure in measures)])
            for prompt, reading in zip(prompts, readings, strict=True)
        ]
    generations, reader = language_model.generate(prompts, max_new_tokens, readings, layers, prefix)
    assert reader is not None
    drafts = []
    for item, generation in enumerate(generations):
        rows = {}
        if generation.answer_ids:  # row i, counted from the prompt's last, predicts written token i
            for measure in measures:
                rows[measure] = reader.mass(f"draft-rows-{measure}", item)[:, :, slice(*generation.answer)]
        drafts.append(
            Draft(
                generation.text,
                generation.answer_ids,
                _mass(reader, prompts[item], item, groups, rows),
                reader.layers,
                rows.get("attention"),
                _thoughts(language_model, generation.ids, generation.answer),
                prompts[item].ids,
                generation.log_probability,
            )
        )
    return drafts


def read_draft(
    language_model: LanguageModel,
    prompt: EncodedPrompt,
    draft: str | Sequence[int],
    groups: Sequence[RowGroup],
    layers: Collection[int] | None = None,
) -> Draft:
    """`read_drafts` of one."""
    return read_drafts(language_model, [prompt], [draft], groups, layers)[0]


def read_drafts(
    language_model: LanguageModel,
    prompts: Sequence[EncodedPrompt],
    drafts: Sequence[str | Sequence[int]],
    groups: Sequence[RowGroup],
    layers: Collection[int] | None = None,
) -> list[Draft]:
    """Attention of drafts that were written elsewhere, in one forward pass over all of them.

    Args:
        language_model: the model that reads; any other may have written.
        prompts: question and passages, one or more.
        drafts: of each its text or its token ids.
        groups: row groups to read.
        layers: layers to read, after the last of which the pass ends; None reads all.

    Raises:
        EmptyDraftError: a draft without text, where draft rows are asked for.
        ContextTooLongError: prompt and draft do not fit into the context.
    """
    codec, wants_draft = language_model.codec, any(group.rows == "draft" for group in groups)
    targets, texts, rows = [], [], []
    for prompt, draft in zip(prompts, drafts, strict=True):
        ids = language_model.encode_draft(draft) if isinstance(draft, str) else list(draft)
        if wants_draft and not ids:
            raise EmptyDraftError(f"the draft is empty ({draft!r}), so there is nothing to attribute; pass a text")
        targets.append(ids)
        texts.append(draft.strip() if isinstance(draft, str) else codec.decode(ids).strip())
        first = len(prompt) - 1  # the row that predicts the draft's first token
        rows.append(
            [
                Rows(group.name, first, first + len(ids), group.reduce, group.measure)
                for group in groups
                if group.rows == "draft"
            ]
        )
    return _read(language_model, prompts, texts, targets, rows, groups, layers)


def read_prompt(
    language_model: LanguageModel,
    prompt: EncodedPrompt,
    groups: Sequence[RowGroup],
    layers: Collection[int] | None = None,
    prefix: Prefix | None = None,
) -> Draft:
    """`read_prompts` of one."""
    return read_prompts(language_model, [prompt], groups, layers, prefix)[0]


def read_prompts(
    language_model: LanguageModel,
    prompts: Sequence[EncodedPrompt],
    groups: Sequence[RowGroup],
    layers: Collection[int] | None = None,
    prefix: Prefix | None = None,
) -> list[Draft]:
    """Attention of the prompts' own rows, without a draft: one forward pass that ends with the last layer wanted.

    Args:
        language_model: the model that reads.
        prompts: question and passages, one or more.
        groups: row groups to read, none of them the draft's.
        layers: layers to read; None reads all.
        prefix: how a single prompt begins, if that has been run.

    Returns:
        A draft without text for each prompt, for what was read.

    Raises:
        EmptyDraftError: draft rows are asked for.
        ContextTooLongError: a prompt does not fit into the context.
    """
    if any(group.rows == "draft" for group in groups):
        raise EmptyDraftError("rows of the draft are asked for, but there is no draft")
    n = len(prompts)
    return _read(language_model, prompts, [""] * n, [[]] * n, [[]] * n, groups, layers, prefix)


def _read(
    language_model: LanguageModel,
    prompts: Sequence[EncodedPrompt],
    texts: Sequence[str],
    targets: Sequence[list[int]],
    draft_rows: Sequence[list[Rows]],
    groups: Sequence[RowGroup],
    layers: Collection[int] | None,
    prefix: Prefix | None = None,
) -> list[Draft]:
    """One pass over prompts and targets, and what it read, as drafts."""
    if len(prompts) > 1 and not language_model.compatibility.pads_exactly:
        return [
            _read(language_model, [prompt], [text], [ids], [rows], groups, layers)[0]
            for prompt, text, ids, rows in zip(prompts, texts, targets, draft_rows, strict=True)
        ]
    for prompt, ids in zip(prompts, targets, strict=True):
        language_model.check_length(len(prompt), len(ids))
    readings = [
        Reading(prompt.sources, prompt_rows(prompt, groups) + rows)
        for prompt, rows in zip(prompts, draft_rows, strict=True)
    ]
    reader = language_model.read(prompts, targets, readings, layers, prefix)
    drafts = []
    for item, (prompt, text, ids) in enumerate(zip(prompts, texts, targets, strict=True)):
        mass = {
            group: reader.mass(group.name, item) if group.rows == "draft" else prompt_mass(reader, prompt, group, item)
            for group in groups
        }
        drafts.append(Draft(text, ids, mass, reader.layers, prompt_ids=prompt.ids))
    return drafts


def prompt_rows(prompt: EncodedPrompt, groups: Sequence[RowGroup]) -> list[Rows]:
    """The positions of those groups whose rows are in the prompt; `prompt_mass` gives what was read."""
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
    """What was read of a group of `prompt_rows`.

    Returns:
        `(layers, heads, sources)`, or for the sources' own rows `(layers, heads, sources, sources)`: row source first.
    """
    if group.rows != "sources":
        return reader.mass(group.name, item)
    spans = [index for index, (start, stop) in enumerate(prompt.sources) if stop > start]
    read = {index: reader.mass(f"{group.name} {index}", item) for index in spans}
    nothing = torch.zeros_like(next(iter(read.values())))
    return torch.stack([read.get(index, nothing) for index in range(len(prompt.sources))], dim=2)


def _each_row(prompt: EncodedPrompt, measure: Measure) -> Rows:
    return Rows(f"draft-rows-{measure}", len(prompt) - 1, None, "none", measure)


def _mass(
    reader: AttentionReader,
    prompt: EncodedPrompt,
    item: int,
    groups: Sequence[RowGroup],
    rows: Mapping[Measure, torch.Tensor],
) -> dict[RowGroup, torch.Tensor]:
    mass = {group: prompt_mass(reader, prompt, group, item) for group in groups if group.rows != "draft"}
    for group in groups:
        if group.rows == "draft" and rows:
            own = rows[group.measure]
            mass[group] = own.mean(2) if group.reduce == "mean" else own.amax(2)
    return mass


def _thoughts(language_model: LanguageModel, ids: list[int], answer: tuple[int, int]) -> str:
    return language_model.codec.decode(ids[: answer[0]]).strip()
