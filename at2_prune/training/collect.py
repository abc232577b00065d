"""Collect training examples: drafts, attention mass, and log-odds under ablations of the sources."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from ..ablation import Positions, ablation_outcomes, random_masks, seeded_generator
from ..attention.rows import RowGroup
from ..datasets import Question
from ..errors import ContextTooLongError, EmptyDraftError
from ..models.drafts import write_drafts
from ..models.language_model import LanguageModel
from ..models.readouts import Readout
from ..models.statements import draft_parts, read_parts, split_readout
from ..models.thoughts import thought_prompt
from ..passages import Granularity
from .examples import Example, ExampleStore

__all__ = ["ROW_GROUPS", "CollectSettings", "LearnFrom", "collect_examples"]

logger = logging.getLogger(__name__)

LearnFrom = Literal["draft", "answer"]
"""The supervision; see `CollectSettings.learn_from`."""

ROW_GROUPS = (
    RowGroup("draft"),
    RowGroup("draft", "max"),
    RowGroup("question"),
    RowGroup("question", "max"),
    RowGroup("last"),
)
"""The row groups that are read for every example. Coefficients for any of these groups can be fitted later. It takes
much longer to write the draft than to read all of these groups."""
_NOT_READ_AGAIN = "the stored draft splits into other sentences when it is tokenised again"
"""The reason why more row groups cannot be read for a stored example whose sources are passages or their parts."""
_OTHER_DRAFT = "the model now writes another draft"
"""The reason why more row groups cannot be read for a stored example whose sources are thoughts."""


@dataclass(frozen=True)
class CollectSettings:
    """The settings with which examples are collected."""

    ablations: int = 32
    """The number of random ablations of each question."""
    granularity: Granularity = "passage"
    """The kind of source. Sources get scores, and ablations leave sources out."""
    targets: Literal["draft", "sentence"] = "draft"
    """The texts whose log-odds are measured in each ablation: the whole draft, or each sentence of the draft."""
    positions: Positions = "kept"
    """The way in which an ablation leaves sources out. With "kept", no token attends to these sources, and the other
    tokens keep their positions, as in AT2. With "closed", the text of the sources is removed from the prompt."""
    max_new_tokens: int = 48
    """The maximum number of tokens in a draft."""
    seed: int = 0
    """The seed of the ablations."""
    learn_from: LearnFrom = "draft"
    """The supervision. With `draft`, the log-odds of the draft are measured under ablations, as in AT2. With `answer`,
    the log-odds of the known answer are measured instead."""
    thoughts: bool = False
    """False if the sources are the passages or their parts; see `granularity`. True if the sources are the sentences of
    the thoughts that the model writes before its answer; see `at2_prune.models.thoughts`. `max_new_tokens` then limits
    the thoughts and the answer together."""


def collect_examples(
    language_model: LanguageModel,
    questions: Sequence[Question],
    store: ExampleStore,
    settings: CollectSettings,
    progress: Callable[[], None] = lambda: None,
    row_groups: Sequence[RowGroup] = ROW_GROUPS,
) -> dict[str, int]:
    """Collect the examples that `store` does not have yet.

    If a stored example lacks row groups, one more forward pass reads the missing groups, and the outcomes of its
    ablations are kept. If the sources are thoughts, the model first writes its draft again, because the store holds no
    thoughts.

    Args:
        language_model: the model for which coefficients are trained.
        questions: the questions.
        store: the store. Each example is written to the store as soon as it is collected.
        settings: the settings with which examples are collected.
        progress: a function that is called after every question.
        row_groups: the row groups that every example must hold. Every example holds `ROW_GROUPS` too.

    Returns:
        The number of questions without a complete example, by reason. For example, a question may have fewer than two
        sources, an empty draft, or too many tokens for the model. The example of a question may also lack row groups
        that cannot be read any more. This happens if its stored draft splits into other sentences when it is tokenised
        again, or if the model now writes another draft.
    """
    skipped: dict[str, int] = {}
    for question in questions:
        known = next(store.load([question.id]), None)
        try:
            outcome = known or _example(language_model, question, settings, row_groups)
        except ContextTooLongError:
            outcome = "longer than the model's context"
        if isinstance(outcome, Example):
            missing = [group for group in row_groups if group.name not in outcome.mass]
            example = _read_again(language_model, question, settings, outcome, missing) if missing else outcome
            if example is not known:
                store.add(example or outcome)
            outcome = example or (_OTHER_DRAFT if settings.thoughts else _NOT_READ_AGAIN)
        if isinstance(outcome, str):
            skipped[outcome] = skipped.get(outcome, 0) + 1
            logger.info("question %s gives no complete example: %s", question.id, outcome)
        progress()
    return skipped


def _read_again(
    language_model: LanguageModel,
    question: Question,
    settings: CollectSettings,
    example: Example,
    groups: Sequence[RowGroup],
) -> Example | None:
    """Return the example with these row groups added, or None if they cannot be read.

    The groups cannot be read if the draft now splits into another number of sentences. If the sources are thoughts, the
    groups can also not be read if the model now writes another answer, or another number of sentences in its thoughts.
    """
    prompt = language_model.encode(question.text, question.passages, settings.granularity)
    ids = language_model.encode_draft(example.draft)
    if settings.thoughts:
        draft = write_drafts(language_model, [prompt], (), settings.max_new_tokens)[0]
        try:
            prompt, ids = thought_prompt(language_model, prompt, draft), draft.ids
        except EmptyDraftError:
            return None
        if draft.text != example.draft or len(prompt.sources) != example.masks.shape[1]:
            return None
    parts = draft_parts(language_model, ids) if settings.targets == "sentence" else [(0, len(ids))]
    if len(parts) != example.outcomes.shape[1]:
        return None
    mass = _by_name(read_parts(language_model, prompt, ids, parts, groups))
    return replace(example, mass={**example.mass, **mass})


def _example(
    language_model: LanguageModel, question: Question, settings: CollectSettings, row_groups: Sequence[RowGroup]
) -> Example | str:
    prompt = language_model.encode(question.text, question.passages, settings.granularity)
    if len(prompt.sources) < 2:
        return "fewer than two sources"
    if settings.learn_from == "answer" and not (question.answer or "").strip():
        return "no answer"
    groups = () if settings.granularity == "token" or settings.thoughts else ROW_GROUPS
    draft = write_drafts(language_model, [prompt], groups, settings.max_new_tokens)[0]
    if not draft.ids:
        return "empty draft"
    if settings.thoughts:
        try:
            prompt = thought_prompt(language_model, prompt, draft)
        except EmptyDraftError:
            return "no thoughts before the answer"
        if len(prompt.sources) < 2:
            return "fewer than two sentences of thoughts"
    parts = draft_parts(language_model, draft.ids) if settings.targets == "sentence" else [(0, len(draft.ids))]
    readouts = None if draft.readout is None else split_readout(draft.readout, parts, ROW_GROUPS)
    every = [*ROW_GROUPS, *(group for group in row_groups if group not in ROW_GROUPS)]
    readouts = readouts or read_parts(language_model, prompt, draft.ids, parts, every)
    masks = random_masks(len(prompt.sources), settings.ablations, seeded_generator(settings.seed, question.id))
    target, target_parts = draft.ids, parts
    if settings.learn_from == "answer":
        target = language_model.encode_draft(question.answer or "")
        target_parts = [(0, len(target))]
    outcomes = ablation_outcomes(language_model, prompt, target, masks, target_parts, settings.positions)
    gold = torch.tensor([not settings.thoughts and passage in question.gold for passage in prompt.source_passage])
    mass, layers = _by_name(readouts), list(readouts[0].layers)
    return Example(question.id, draft.text, mass, layers, masks, outcomes, gold)


def _by_name(readouts: Sequence[Readout]) -> dict[str, torch.Tensor]:
    """Return the attention mass of all parts, by the name of the row group.

    Only row groups with the draft's rows can have several parts. Other row groups have one part.
    """
    return {
        group.name: torch.stack([one.mass[group] for one in readouts[: None if group.rows == "draft" else 1]])
        .float()
        .cpu()
        for group in readouts[0].mass
    }
