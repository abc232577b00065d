"""Makes prompts whose sources are sentences of thoughts. A reasoning model writes thoughts before its answer.

In thought attribution (AT2, arXiv 2504.13752, Figure 4b), the sources are the parts of the thoughts that the model
wrote, and the target is the final answer. Here, an `EncodedPrompt` holds the original prompt and then the thoughts. It
ends before the first token of the answer. So scorers, ablations and training use the same code as for passages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..attention.rows import Span
from ..errors import EmptyDraftError
from .compatibility import THOUGHTS
from .drafts import Draft
from .language_model import LanguageModel
from .prompts import EncodedPrompt
from .statements import decoded_offsets, sentence_spans, token_parts

__all__ = ["thought_prompt", "thought_tokens"]


def thought_tokens(language_model: LanguageModel, ids: Sequence[int]) -> Span:
    """Return the token span of the thoughts, without the markers that open and close the thoughts.

    Args:
        language_model: the model that wrote the tokens.
        ids: all tokens that the model wrote before the answer.

    Returns:
        The span. It is empty if there is no token between the markers.
    """
    codec, marker = language_model.codec, getattr(language_model.template, "thoughts_end", "")
    text = codec.decode(ids, special=True)
    pairs = [*([("", marker)] if marker else []), *THOUGHTS]
    opening, closing = next(((one, end) for one, end in pairs if end in text), ("", ""))
    begin, end = 0, text.index(closing) if closing else len(text)
    if opening and opening in text[:end]:
        begin = text.index(opening) + len(opening)
    ends = [len(codec.decode(ids[: count + 1], special=True)) for count in range(len(ids))]
    first = next((i for i, stop in enumerate(ends) if stop > begin), len(ids))
    # A token that holds the end of the thoughts and the start of the closing marker belongs to the marker.
    last = next((i for i, stop in enumerate(ends) if stop > end), len(ids))
    return first, max(first, last)


def thought_prompt(language_model: LanguageModel, prompt: EncodedPrompt, draft: Draft) -> EncodedPrompt:
    """Return a prompt whose sources are the sentences of a draft's thoughts. The draft's answer follows this prompt.

    Args:
        language_model: the model that wrote the draft.
        prompt: the draft's prompt.
        draft: a draft that the model wrote itself.

    Returns:
        A prompt with the tokens of `prompt`, then all tokens before the answer. The thoughts are its only passage, so
        all sources belong to passage 0.

    Raises:
        EmptyDraftError: the model wrote no thoughts before its answer.
        MissingExtraError: sentencex is not installed.
    """
    written = list(draft.thought_ids)
    start, stop = thought_tokens(language_model, written)
    own = written[start:stop]
    offsets = decoded_offsets(language_model, own)
    text = language_model.codec.decode(own)
    spans = sentence_spans(text)
    found = [(span, part) for span, part in zip(spans, token_parts(offsets, spans), strict=True) if part[1] > part[0]]
    if not text.strip() or not found:
        raise EmptyDraftError(
            f"{language_model.name} wrote no thoughts before its answer, so there are no sources to score: use a "
            "reasoning model with LanguageModel.reasoning(own=True), or a template with thoughts_end"
        )
    first = len(prompt) + start
    return replace(
        prompt,
        ids=[*prompt.ids, *written],
        sources=[(first + a, first + b) for _, (a, b) in found],
        source_passage=[0] * len(found),
        source_texts=[text[a:b] for (a, b), _ in found],
        passages=[(first, first + len(own))],
    )
