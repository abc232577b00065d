"""Check drafts that were given, and read the attention that the scorer needs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ..errors import EmptyDraftError, InputError
from ..models.compatibility import attention_shape
from ..models.drafts import Draft, read_drafts
from ..models.language_model import LanguageModel
from ..models.prompts import EncodedPrompt
from ..scorers.base import Scorer

__all__ = ["check_draft", "given_drafts", "read_for"]

logger = logging.getLogger(__name__)


def read_for(
    scorer: Scorer, model: LanguageModel, prompts: Sequence[EncodedPrompt], drafts: Sequence[str | list[int]]
) -> list[Draft]:
    """Return given drafts as `Draft` objects, with the attention that the scorer needs.

    Args:
        scorer: the scorer. Its `draft_groups` name the attention to read. If there are none, no forward pass is run.
        model: the model that reads the drafts.
        prompts: the prompt of each draft.
        drafts: the text or the token ids of each draft.

    Raises:
        EmptyDraftError: a draft is empty, and the scorer reads the draft's attention rows (see `RowGroup.rows`).
    """
    if scorer.draft_groups:
        return read_drafts(model, prompts, drafts, scorer.draft_groups, scorer.layers)
    ids = [model.encode_draft(draft) if isinstance(draft, str) else list(draft) for draft in drafts]
    texts = [draft if isinstance(draft, str) else model.codec.decode(draft) for draft in drafts]
    return [Draft(text.strip(), some) for text, some in zip(texts, ids, strict=True)]


def given_drafts(
    scorer: Scorer, model: LanguageModel, prompts: Sequence[EncodedPrompt], drafts: Sequence[str | Draft]
) -> list[Draft]:
    """Check the given drafts, and return them as `Draft` objects with the attention that the scorer needs.

    A `Draft` is returned unchanged. For a text, the attention is read. On a GPU, all texts are read as one batch.

    Raises:
        EmptyDraftError: a text is empty.
        InputError: a `Draft` was written for another prompt, holds attention to another number of sources, or lacks
            attention that the scorer reads.
    """
    known: dict[int, Draft] = {}
    texts: dict[int, str] = {}
    for index, (prompt, draft) in enumerate(zip(prompts, drafts, strict=True)):
        if isinstance(draft, str):
            if not draft.strip():
                which = f" of question {index}" if len(prompts) > 1 else ""
                raise EmptyDraftError(
                    f"the draft{which} is empty ({draft!r}), so there is nothing to attribute; pass a text"
                )
            texts[index] = draft
        elif draft.prompt_ids not in ((), prompt.ids) or not _has_as_many_sources(draft, prompt):
            raise InputError("this draft was written for another question or for other passages")
        elif not _holds(draft, scorer, model):
            raise InputError(
                f"this draft lacks attention that the method {scorer.name} reads: pass its text, or let a pruner of "
                "this method write the draft"
            )
        else:
            known[index] = draft
    if texts and not scorer.uses_draft:
        logger.warning('the method %s does not read the given draft; method="at2" reads drafts', scorer.name)
    if texts and (model.batching_pays or not scorer.draft_groups):
        read = read_for(scorer, model, [prompts[index] for index in texts], [*texts.values()])
        known |= dict(zip(texts, read, strict=True))
    else:
        known |= {index: read_for(scorer, model, [prompts[index]], [text])[0] for index, text in texts.items()}
    return [known[index] for index in range(len(prompts))]


def check_draft(draft: Any) -> None:
    """Raise `InputError` unless the draft is a text or a `Draft`."""
    if not isinstance(draft, (str, Draft)):
        raise InputError(f"a draft must be a text or a Draft, got {type(draft).__name__}: {draft!r:.80}")


def _has_as_many_sources(draft: Draft, prompt: EncodedPrompt) -> bool:
    mass = {} if draft.readout is None else draft.readout.mass
    return all(one.shape[-1] == len(prompt.sources) for one in mass.values())


def _holds(draft: Draft, scorer: Scorer, model: LanguageModel) -> bool:
    """Return whether a draft holds all attention that the scorer reads. If the draft has no tokens, return True."""
    if not draft.ids or not scorer.draft_groups:
        return True  # no attention is needed, or the scorer will report the empty draft
    if draft.readout is None or any(group not in draft.readout.mass for group in scorer.draft_groups):
        return False
    if scorer.layers is None:
        return draft.readout.every_layer or len(draft.readout.layers) == attention_shape(model.model.config)[0]
    return {*scorer.layers} <= {*draft.readout.layers}
