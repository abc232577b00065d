"""Defines prompt templates. A template shows a question and its passages as pieces of control text and plain text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from transformers import PreTrainedTokenizerBase

from ..errors import ModelNotSupportedError, reason_of

__all__ = ["ChatTemplate", "Piece", "PromptTemplate", "TextTemplate", "default_template", "reasoning_template"]


@dataclass(frozen=True)
class Piece:
    """A part of the prompt.

    A control piece, such as the start of a turn in a chat template, may contain special tokens. In any other piece,
    texts such as `<bos>` and `<|im_start|>` are tokenised as ordinary characters.
    """

    text: str
    kind: Literal["control", "text", "question"] = "text"
    source: int | None = None
    """The index of the source that this text belongs to, if there is one."""
    passage: int | None = None
    """The index of the passage that this text belongs to, if there is one."""


class PromptTemplate(Protocol):
    """The interface of a template. Any class with these members can be used as a template."""

    @property
    def name(self) -> str:
        """The name that is recorded with coefficients and results."""
        ...

    @property
    def answer_prefix(self) -> str:
        """The text to put before a given draft. With it, the draft is tokenised as if the model had written it."""
        ...

    @property
    def stop(self) -> tuple[str, ...]:
        """The strings that end an answer. The answer is the text before the first of these strings."""
        ...

    @property
    def passage(self) -> str:
        """The pattern that shows a passage. It must contain `{text}` once. It may contain `{title}`, to show titles."""
        ...

    def around(self, question: str) -> tuple[list[Piece], list[Piece]]:
        """Return the pieces before the passages, and the pieces after them.

        One piece must have the kind `question`. Its text is the question.
        """
        ...


REASONING = "Answer the question below, using the documents. Follow the form that the question asks for.\n\n"
STEPS = (
    " First state the facts from the documents that answer the question, in two or three sentences. Then write "
    '"Answer:" and the short answer.'
)
"""The request for reasoning. It follows the question, because Qwen2.5-Coder 1.5B ignored it before the documents."""
OPENING = "Facts:\n1."
"""The start of the model's turn. With it, Qwen2.5-Coder 1.5B mostly follows the request, also after ten documents."""
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
    """A plain-text prompt for base models. It holds an instruction, worked examples, the documents and the question."""

    name: str = "text-v1"
    instruction: str = INSTRUCTION + "\n\n"
    examples: str = EXAMPLES
    passage: str = "{title}: {text}\n"
    answer_prefix: str = " "
    stop: tuple[str, ...] = ("\n",)
    thoughts_end: str = ""
    """The marker between the thoughts and the answer; see `ChatTemplate`."""

    def around(self, question: str) -> tuple[list[Piece], list[Piece]]:
        before = [Piece(self.instruction + self.examples + "Documents:\n")]
        return before, [Piece("\nQuestion: "), Piece(question, "question"), Piece("\nAnswer:")]


_MARK = "at2-prune-user-turn"
_INSTEAD = "correct the template in the model's folder, or pass template=TextTemplate() for a plain-text prompt"


@dataclass(frozen=True)
class ChatTemplate:
    """A prompt for instruction-tuned models. It is one user turn in the chat template of the tokenizer."""

    head: str
    """The text that the chat template puts before the user's text, including control tokens."""
    tail: str
    """The text that the chat template puts between the user's text and the model's answer."""
    name: str = "chat-v1"
    instruction: str = INSTRUCTION + " Give only the answer.\n\n"
    passage: str = "{title}: {text}\n"
    answer_prefix: str = ""
    stop: tuple[str, ...] = ()
    thoughts_end: str = ""
    """The marker between the thoughts and the answer, if the template asks the model to reason. Everything before the
    marker counts as thoughts. If the marker is empty, only the markers of reasoning models (`compatibility.THOUGHTS`)
    separate thoughts from the answer."""
    request: str = ""
    """The text that follows the question, for example a request for reasoning. It begins with a space."""

    @classmethod
    def from_tokenizer(cls, tokenizer: PreTrainedTokenizerBase, **chat_options: Any) -> ChatTemplate:
        """Make a template whose `head` and `tail` come from the tokenizer's chat template.

        Args:
            tokenizer: a tokenizer with a chat template.
            chat_options: options for `apply_chat_template`, for instance `enable_thinking=False`.

        Raises:
            ModelNotSupportedError: the chat template cannot be rendered for one user turn, or it does not show the
                user's text exactly once.
        """
        try:
            rendered = tokenizer.apply_chat_template(
                [{"role": "user", "content": _MARK}], tokenize=False, add_generation_prompt=True, **chat_options
            )
        except Exception as error:  # a template is a program, which may raise anything
            raise ModelNotSupportedError(
                f"the tokenizer's chat template cannot show a question ({reason_of(error)}); {_INSTEAD}"
            ) from error
        if not isinstance(rendered, str) or rendered.count(_MARK) != 1:
            raise ModelNotSupportedError(f"the chat template does not show the user's text exactly once; {_INSTEAD}")
        head, tail = rendered.split(_MARK)
        return cls(head=head, tail=tail)

    def around(self, question: str) -> tuple[list[Piece], list[Piece]]:
        before = [Piece(self.head, "control"), Piece(self.instruction + "Documents:\n")]
        request = [Piece(self.request)] if self.request else []
        return before, [Piece("\nQuestion: "), Piece(question, "question"), *request, Piece(self.tail, "control")]


def default_template(tokenizer: PreTrainedTokenizerBase, thinks: bool = False) -> TextTemplate | ChatTemplate:
    """Return the tokenizer's chat template. For a tokenizer without a chat template, return a few-shot text prompt.

    Args:
        tokenizer: the model's tokenizer.
        thinks: whether a reasoning model is asked to think before it answers. This has an effect only if the chat
            template knows the option `enable_thinking`, as the template of Qwen3 does.
    """
    return ChatTemplate.from_tokenizer(tokenizer, enable_thinking=thinks) if tokenizer.chat_template else TextTemplate()


def reasoning_template(template: PromptTemplate) -> ChatTemplate:
    """Return a chat template that asks for reasoning before the marker "Answer:". The reasoning counts as thoughts.

    Args:
        template: the chat template whose instruction and request are replaced. The model's turn begins with `OPENING`.

    Raises:
        ModelNotSupportedError: the template is not a `ChatTemplate`, so the model may not follow an instruction.
    """
    if not isinstance(template, ChatTemplate):
        raise ModelNotSupportedError(
            f"a model with the template {template.name!r} cannot be asked to reason before it answers: use a model "
            "with a chat template"
        )
    name = f"{template.name}-reasoning"
    tail = template.tail + OPENING
    return replace(template, name=name, tail=tail, instruction=REASONING, request=STEPS, thoughts_end="Answer:")
