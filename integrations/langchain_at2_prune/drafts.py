"""Drafts and answers by a model of the user's own: any chat model, LLM or Runnable."""

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
"""What a chat model is asked; replace it with one of your own that has the same two variables."""


def as_writer(llm: Runnable, prompt: BasePromptTemplate = QA_PROMPT) -> Runnable[dict[str, Any], str]:
    """A Runnable from `writer_input` to the text of an answer.

    Args:
        llm: a chat model or LLM (bound to options, with retries or fallbacks as may be), which gets the prompt; or any
            other Runnable, a chain of yours say, which gets `writer_input` itself.
        prompt: has the variables `context` and `question`.
    """
    if _is_model(llm):
        return RunnableLambda(_for_prompt, name="documents as text") | prompt | llm | StrOutputParser()
    return llm | RunnableLambda(_text, name="text of the answer")


def writer_input(question: str, documents: Sequence[Document], passages: Sequence[Passage]) -> dict[str, Any]:
    """What a chain of the user's gets: `question` (also as `input`), and `context`, the documents.

    LangChain's own retrieval chains use these names.
    """
    return {"question": question, "input": question, "context": list(documents), "passages": list(passages)}


def _for_prompt(values: dict[str, Any]) -> dict[str, str]:
    texts = [f"{passage.title}: {passage.text}" if passage.title else passage.text for passage in values["passages"]]
    return {"question": values["question"], "context": "\n".join(texts)}


def _is_model(runnable: Any) -> bool:
    """Whether a language model is at the bottom of what was bound, configured or given fallbacks."""
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
        "a draft must be a text, a message or a dictionary with an 'answer', got "
        f"{type(output).__name__}: {output!r:.80}"
    )
