"""Write drafts and answers with a LangChain model or chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.language_models import BaseLanguageModel
from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import BasePromptTemplate, ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda

from at2_prune.errors import InputError
from at2_prune.passages import Passage

__all__ = ["QA_PROMPT", "as_writer", "writer_input"]

QA_PROMPT: BasePromptTemplate = ChatPromptTemplate.from_messages(
    [
        (
            "human",
            "Answer the question with a few words, using the documents. Give only the answer.\n\n"
            "Documents:\n{context}\n\nQuestion: {question}",
        )
    ]
)
"""The default prompt for a chat model. Another prompt must have the same two variables."""


def as_writer(llm: Runnable, prompt: BasePromptTemplate = QA_PROMPT) -> Runnable[dict[str, Any], str]:
    """Make a Runnable that takes the result of `writer_input` and returns the text of an answer.

    Args:
        llm: a chat model or LLM, which gets the prompt. The model may have bound options, retries or fallbacks. Any
            other Runnable, such as a chain, gets the result of `writer_input` instead of the prompt.
        prompt: the prompt for a chat model or LLM, with the variables `context` and `question`.
    """
    if _is_model(llm):
        return RunnableLambda(_for_prompt, name="documents as text") | prompt | llm | StrOutputParser()
    return llm | RunnableLambda(_text, name="text of the answer")


def writer_input(question: str, documents: Sequence[Document], passages: Sequence[Passage]) -> dict[str, Any]:
    """Make the input of a chain, with the keys `question`, `input` (the question again), `context` and `passages`.

    `context` holds the documents. LangChain's own retrieval chains use the names `question`, `input` and `context`.
    """
    return {"question": question, "input": question, "context": list(documents), "passages": list(passages)}


def _for_prompt(values: dict[str, Any]) -> dict[str, str]:
    texts = [f"{passage.title}: {passage.text}" if passage.title else passage.text for passage in values["passages"]]
    return {"question": values["question"], "context": "\n".join(texts)}


def _is_model(runnable: Any) -> bool:
    """Return whether a Runnable is a language model, with or without bound options, configuration or fallbacks."""
    while not isinstance(runnable, BaseLanguageModel):
        inner = [getattr(runnable, name, None) for name in ("bound", "default", "runnable")]
        inner = [candidate for candidate in inner if isinstance(candidate, Runnable)]
        if not inner:
            return False
        runnable = inner[0]
    return True


def _text(output: Any) -> str:
    if isinstance(output, BaseMessage):
        return str(output.text)
    if isinstance(output, dict) and isinstance(output.get("answer"), str):
        return output["answer"]
    if isinstance(output, str):
        return output
    raise InputError(
        "a draft or an answer must be a string, a message or a dictionary with the key 'answer', got "
        f"{type(output).__name__}: {output!r:.80}; change the chain so that it returns one of these"
    )
