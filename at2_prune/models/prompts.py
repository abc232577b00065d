"""Question + passages -> token ids and the token span of every source.

A template renders to a list of pieces. Control pieces (a chat template's turns, the first token) may hold special
tokens; everything else is text, where `<bos>` or `<|im_start|>` are tokenised as the characters they are. Text is
tokenised in one go, and a token belongs to the piece that holds its last character, so spans are exact for any
template and any tokenizer that reports offsets.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Protocol

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from ..errors import InputError, ModelNotSupportedError
from ..passages import Granularity, Passage, split_sentences

__all__ = [
    "ChatTemplate",
    "EncodedPrompt",
    "Piece",
    "PromptTemplate",
    "TextCodec",
    "TextTemplate",
    "default_template",
    "encode_prompt",
]

Span = tuple[int, int]


@dataclass(frozen=True)
class Piece:
    """A stretch of the prompt."""

    text: str
    kind: Literal["control", "text", "question"] = "text"
    source: int | None = None
    """Index of the source that this text belongs to."""
    passage: int | None = None
    """Index of the passage that this text belongs to."""


class PromptTemplate(Protocol):
    """What a template has to offer; write your own by implementing it."""

    @property
    def name(self) -> str:
        """Recorded with coefficients and results."""
        ...

    @property
    def answer_prefix(self) -> str:
        """Put before a draft that is given as text, so that it is tokenised as the model would have written it."""
        ...

    @property
    def stop(self) -> tuple[str, ...]:
        """An answer ends before the first of these."""
        ...

    @property
    def passage(self) -> str:
        """How a passage is shown; holds `{text}` and, if titles are to be shown, `{title}`."""
        ...

    def around(self, question: str) -> tuple[list[Piece], list[Piece]]:
        """The pieces before and after the passages; the question's own text must be a piece of kind `question`."""
        ...


INSTRUCTION = "Answer the question with a few words, using the documents."
EXAMPLES = """Documents:
Bram Stoker: Bram Stoker was an Irish author, born in Clontarf, Dublin.
Dracula: Dracula is an 1897 novel by Bram Stoker.

Question: In which city was the author of Dracula born?
Answer: Dublin

Documents:
Lake Superior: Lake Superior has a surface area of 82,100 square kilometres.
Lake Ontario: Lake Ontario has a surface area of 18,960 square kilometres.

Question: Is Lake Ontario larger than Lake Superior?
Answer: no

"""


@dataclass(frozen=True)
class TextTemplate:
    """A plain-text prompt for base models: an instruction, worked examples, the documents, the question."""

    name: str = "text-v1"
    instruction: str = INSTRUCTION + "\n\n"
    examples: str = EXAMPLES
    passage: str = "{title}: {text}\n"
    answer_prefix: str = " "
    stop: tuple[str, ...] = ("\n",)

    def around(self, question: str) -> tuple[list[Piece], list[Piece]]:
        before = [Piece(self.instruction + self.examples + "Documents:\n")]
        return before, [Piece("\nQuestion: "), Piece(question, "question"), Piece("\nAnswer:")]


_MARK = "at2-prune-user-turn"


@dataclass(frozen=True)
class ChatTemplate:
    """One user turn in the tokenizer's own chat template, for instruct models."""

    head: str
    """What the chat template puts before the user's text, control tokens and all."""
    tail: str
    """What it puts after it, up to where the model's answer starts."""
    name: str = "chat-v1"
    instruction: str = INSTRUCTION + " Give only the answer.\n\n"
    passage: str = "{title}: {text}\n"
    answer_prefix: str = ""
    stop: tuple[str, ...] = ()

    @classmethod
    def from_tokenizer(cls, tokenizer: PreTrainedTokenizerBase, **chat_options: Any) -> ChatTemplate:
        """Read head and tail off the tokenizer's chat template.

        Args:
            tokenizer: has a chat template.
            chat_options: passed to `apply_chat_template`, `enable_thinking=False` for instance.
        """
        rendered = tokenizer.apply_chat_template(
            [{"role": "user", "content": _MARK}], tokenize=False, add_generation_prompt=True, **chat_options
        )
        if not isinstance(rendered, str) or rendered.count(_MARK) != 1:
            raise ModelNotSupportedError("the chat template does not show the user's text exactly once")
        head, tail = rendered.split(_MARK)
        return cls(head=head, tail=tail)

    def around(self, question: str) -> tuple[list[Piece], list[Piece]]:
        before = [Piece(self.head, "control"), Piece(self.instruction + "Documents:\n")]
        return before, [Piece("\nQuestion: "), Piece(question, "question"), Piece(self.tail, "control")]


def default_template(tokenizer: PreTrainedTokenizerBase) -> TextTemplate | ChatTemplate:
    """The tokenizer's chat template where it has one, a few-shot text prompt where it has none."""
    return ChatTemplate.from_tokenizer(tokenizer) if tokenizer.chat_template else TextTemplate()


class TextCodec:
    """A tokenizer's two faces: control text, where special tokens count, and plain text, where they are characters.

    Holds its own copies of the fast tokenizer's backend and never changes their state, so threads may share it.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ModelNotSupportedError(
                f"{type(tokenizer).__name__} is not a fast tokenizer: token spans need its character offsets; convert "
                "it to a tokenizer.json"
            )
        self.tokenizer = tokenizer
        self._control = _copy(tokenizer.backend_tokenizer)
        self._plain = _copy(tokenizer.backend_tokenizer)
        self._plain.encode_special_tokens = True
        self._plain.post_processor = None  # some narrow offsets by the white space around a token
        # Markers that the tokenizer does not call special (`<think>`, `<|fim_prefix|>`) still have to be cut apart.
        chat = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
        markers = [
            token.content
            for token in tokenizer.added_tokens_decoder.values()
            if not token.special
            and len(token.content.strip()) > 1
            and (token.content in chat or re.fullmatch(r"<\|.*\|>", token.content))
        ]
        self._markers = re.compile("|".join(map(re.escape, markers))) if markers else None
        probe = self._control.encode("a").ids
        self.begin: list[int] = probe[:1] if probe and probe[0] == tokenizer.bos_token_id else []
        """The ids that open every sequence: the beginning-of-sequence token, for tokenizers that add it."""

    def control(self, text: str) -> list[int]:
        """Ids of text in which special tokens count."""
        return self._control.encode(text, add_special_tokens=False).ids

    def plain(self, text: str) -> tuple[list[int], list[Span]]:
        """Ids of text in which special tokens are characters, with each token's character offsets."""
        cuts = [0, *(match.start() + 1 for match in self._markers.finditer(text))] if self._markers else [0]
        ids: list[int] = []
        offsets: list[Span] = []
        for start, stop in zip(cuts, [*cuts[1:], len(text)], strict=True):
            try:
                encoding = self._plain.encode(text[start:stop], add_special_tokens=False)
            except TypeError:
                half = next(i for i, character in enumerate(text) if "\ud800" <= character <= "\udfff")
                near = text[max(0, half - 30) : half + 30]
                raise InputError(f"a text holds half a surrogate pair, which is no character: {near!r}") from None
            ids += encoding.ids
            offsets += [(first + start, last + start) for first, last in encoding.offsets]
        return ids, offsets

    def decode(self, ids: Sequence[int], special: bool = False) -> str:
        """Text of ids; special tokens are left out unless asked for."""
        return self._control.decode(list(ids), skip_special_tokens=not special)


def _copy(backend: Tokenizer) -> Tokenizer:
    """A tokenizer of its own, without truncation and padding, that shares the vocabulary.

    `copy.deepcopy` writes the vocabulary as JSON and reads it again: seconds for a large one.
    """
    result = Tokenizer(backend.model)
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        if getattr(backend, part) is not None:
            setattr(result, part, getattr(backend, part))
    added = backend.get_added_tokens_decoder()
    result.add_tokens([added[i] for i in sorted(added)])
    if result.get_added_tokens_decoder() != added:  # ids with gaps between them
        result = copy.deepcopy(backend)
        result.no_truncation()
        result.no_padding()
    return result


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as the model gets it. Spans are `(start, stop)` token positions."""

    ids: list[int]
    sources: list[Span]
    source_passage: list[int]
    """For each source, the passage it is in."""
    source_texts: list[str]
    """With tokens as sources, each passage's join to the text that the template shows of it."""
    passages: list[Span]
    question: Span

    def __len__(self) -> int:
        return len(self.ids)


def encode_prompt(
    codec: TextCodec,
    template: PromptTemplate,
    question: str,
    passages: Sequence[Passage],
    granularity: Granularity = "passage",
) -> EncodedPrompt:
    """Token ids of question and passages, and where everything is.

    Args:
        codec: the model's tokenizer.
        template: how question and passages are shown.
        question: not empty.
        passages: shown in this order; may be none.
        granularity: what a source is. A passage includes its title and line break; its sentences do not.

    Raises:
        InputError: an empty question, a template without `{text}`.

    Returns:
        The prompt; `sources` are in order and do not overlap.
    """
    if not isinstance(question, str) or not question.strip():
        raise InputError(f"the question must be a text, got {question!r:.80}")
    before, after = template.around(question)
    body: list[Piece] = []
    texts: list[str] = []
    owner: list[int] = []
    for index, passage in enumerate(passages):
        lead, trail = _passage_frame(template, passage)
        if granularity == "sentence":
            body.append(Piece(lead, passage=index))
            for sentence in split_sentences(passage):
                body.append(Piece(sentence, source=len(texts), passage=index))
                texts.append(sentence)
                owner.append(index)
            body.append(Piece(trail, passage=index))
        else:
            body.append(Piece(lead + passage.text + trail, source=len(texts), passage=index))
            texts.append(passage.text)
            owner.append(index)
    pieces = [*before, *body, *after]
    ids, places, shown = _encode_pieces(codec, pieces)
    sources = _spans([piece.source for piece in pieces], places, len(texts))
    passage_spans = _spans([piece.passage for piece in pieces], places, len(passages))
    questions = [place for piece, place in zip(pieces, places, strict=True) if piece.kind == "question"]
    if len(questions) != 1:
        raise InputError(f"template {template.name!r} shows the question {len(questions)} times; it must show it once")
    if granularity == "token":
        tokens = [(i, position) for i, span in enumerate(passage_spans) for position in range(*span)]
        owner = [i for i, _ in tokens]
        sources = [(position, position + 1) for _, position in tokens]
        texts = [shown[position] for _, position in tokens]
    return EncodedPrompt(ids, sources, owner, texts, passage_spans, questions[0])


def _passage_frame(template: PromptTemplate, passage: Passage) -> tuple[str, str]:
    """What the template shows before and after a passage's text."""
    if template.passage.count("{text}") != 1:
        raise InputError(f"template {template.name!r}: passage must hold {{text}} once, got {template.passage!r}")
    lead, trail = template.passage.split("{text}")
    if not passage.title:  # no title: leave out what only leads up to it
        lead = "" if "{title}" in lead else lead
    return lead.replace("{title}", passage.title or ""), trail.replace("{title}", passage.title or "")


def _encode_pieces(codec: TextCodec, pieces: Sequence[Piece]) -> tuple[list[int], list[Span], list[str]]:
    """Ids of all pieces, each piece's token span, and each token's stretch of the text."""
    ids: list[int] = []
    shown: list[str] = []
    places: list[Span] = [(0, 0)] * len(pieces)
    if not (pieces and pieces[0].kind == "control"):
        ids += codec.begin
        shown += [""] * len(codec.begin)
    index = 0
    while index < len(pieces):
        if pieces[index].kind == "control":
            start = len(ids)
            ids += codec.control(pieces[index].text)
            shown += [""] * (len(ids) - start)
            places[index] = (start, len(ids))
            index += 1
            continue
        last = index
        while last < len(pieces) and pieces[last].kind != "control":
            last += 1
        text = "".join(piece.text for piece in pieces[index:last])
        text_ids, offsets = codec.plain(text)
        place, token, end = len(ids), 0, 0
        for i in range(index, last):
            start = token
            end += len(pieces[i].text)
            while token < len(offsets) and max(offsets[token][0], offsets[token][1] - 1) < end:
                token += 1
            places[i] = (place + start, place + token)
        if token != len(offsets) or any(b[1] < a[1] for a, b in pairwise(offsets)):
            raise ModelNotSupportedError("the tokenizer's character offsets are not in order, so spans cannot be exact")
        ids += text_ids
        ends = [0, *(stop for _, stop in offsets)]
        shown += [text[start:stop] for start, stop in pairwise(ends)]
        index = last
    return ids, places, shown


def _spans(labels: Sequence[int | None], places: Sequence[Span], count: int) -> list[Span]:
    """The token span of each label's pieces, which stand side by side."""
    spans: list[Span | None] = [None] * count
    for label, (start, stop) in zip(labels, places, strict=True):
        if label is not None:
            known = spans[label]
            spans[label] = (start, stop) if known is None else (known[0], stop)
    return [span or (0, 0) for span in spans]
