"""Converts text to token ids with character offsets, and token ids back to text."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from ..attention.rows import Span
from ..errors import InputError, ModelNotSupportedError, reason_of

__all__ = ["TextCodec"]

_INSTEAD = "use the tokenizer.json that belongs to the model"


class TextCodec:
    """Encodes control text and plain text as token ids.

    In control text, special tokens are recognised. In plain text, they are ordinary characters.

    The codec holds copies of the fast tokenizer's backend. The state of the copies never changes, so threads may share
    a codec.

    Args:
        tokenizer: a fast tokenizer.

    Raises:
        ModelNotSupportedError: the tokenizer is not a fast one, so it reports no character offsets. The error is also
            raised if the tokenizer cannot encode plain letters.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ModelNotSupportedError(
                f"{type(tokenizer).__name__} is not a fast tokenizer, so it reports no character offsets, which token "
                "spans need; convert it to a tokenizer.json"
            )
        self.tokenizer = tokenizer
        self._control = _copy(tokenizer.backend_tokenizer)
        self._plain = _copy(tokenizer.backend_tokenizer)
        self._plain.encode_special_tokens = True
        self._plain.post_processor = None  # some post-processors remove white space from the offsets of tokens
        # Some markers, such as `<think>` and `<|fim_prefix|>`, are not special tokens. The tokenizer would encode such
        # a marker as one token in plain text too. To prevent this, plain text is cut after the first character of the
        # marker.
        chat = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
        markers = [
            token.content
            for token in tokenizer.added_tokens_decoder.values()
            if not token.special
            and len(token.content.strip()) > 1
            and (token.content in chat or re.fullmatch(r"<\|.*\|>", token.content))
        ]
        self._markers = re.compile("|".join(map(re.escape, markers))) if markers else None
        try:
            probe = self._control.encode("a").ids
        except Exception as error:  # tokenizers raises plain exceptions
            raise ModelNotSupportedError(
                f"the tokenizer cannot encode text ({reason_of(error)}); {_INSTEAD}"
            ) from error
        if set(self.control("a")) <= set(tokenizer.all_special_ids):  # no token, or only the token for unknown text
            raise ModelNotSupportedError(
                f"the tokenizer makes no token of 'a': its vocabulary is empty or lacks plain letters; {_INSTEAD}"
            )
        self.begin: list[int] = probe[:1] if probe and probe[0] == tokenizer.bos_token_id else []
        """The ids at the start of a prompt that does not start with control text.

        If the tokenizer adds a beginning-of-sequence token, this token is the only id. Otherwise, the list is empty.
        """

    def control(self, text: str) -> list[int]:
        """Return the ids of control text, in which special tokens are recognised."""
        return self._control.encode(text, add_special_tokens=False).ids

    def plain(self, text: str) -> tuple[list[int], list[Span]]:
        """Return the ids and the character offsets of plain text, in which special tokens are ordinary characters.

        Raises:
            InputError: the text holds half a surrogate pair.
            ModelNotSupportedError: the tokenizer cannot encode the text.
        """
        cuts = [0, *(match.start() + 1 for match in self._markers.finditer(text))] if self._markers else [0]
        ids: list[int] = []
        offsets: list[Span] = []
        for start, stop in zip(cuts, [*cuts[1:], len(text)], strict=True):
            try:
                encoding = self._plain.encode(text[start:stop], add_special_tokens=False)
            except TypeError:
                half = next(i for i, character in enumerate(text) if "\ud800" <= character <= "\udfff")
                near = text[max(0, half - 30) : half + 30]
                raise InputError(
                    f"a text holds half a surrogate pair, which is not a character: remove it from {near!r}"
                ) from None
            except Exception as error:  # tokenizers raises plain exceptions, for example for an unknown character
                raise ModelNotSupportedError(
                    f"the tokenizer cannot encode {text[start:stop]!r:.80} ({reason_of(error)}); {_INSTEAD}"
                ) from error
            ids += encoding.ids
            offsets += [(first + start, last + start) for first, last in encoding.offsets]
        return ids, offsets

    def decode(self, ids: Sequence[int], special: bool = False) -> str:
        """Return the text of token ids. Special tokens are shown only if `special` is true."""
        return self._control.decode(list(ids), skip_special_tokens=not special)


def _copy(backend: Tokenizer) -> Tokenizer:
    """Return a copy of the backend. The copy does not truncate or pad.

    First, the backend's added tokens are added to a copy that shares the backend's vocabulary. This copy is returned if
    its added tokens have the same ids as in the backend. Otherwise, `copy.deepcopy` makes the copy. This takes seconds
    for a large vocabulary, because `copy.deepcopy` writes the vocabulary as JSON and reads it again.
    """
    result = Tokenizer(backend.model)
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        if getattr(backend, part) is not None:
            setattr(result, part, getattr(backend, part))
    added = backend.get_added_tokens_decoder()
    result.add_tokens([added[i] for i in sorted(added)])
    if result.get_added_tokens_decoder() != added:  # `add_tokens` leaves no gap between ids, so ids may change
        result = copy.deepcopy(backend)
        result.no_truncation()
        result.no_padding()
    return result
