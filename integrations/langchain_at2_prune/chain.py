"""A Runnable that prunes documents, and answers from the kept documents.

If the pruning method reads a draft, the Runnable first writes a draft from the documents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from langchain_core.documents import Document
from langchain_core.prompts import BasePromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, RunnablePassthrough
from langchain_core.runnables.config import run_in_executor

from at2_prune.errors import InputError

from .compressor import AT2DocumentCompressor
from .drafts import QA_PROMPT, as_writer, writer_input

__all__ = ["create_prune_chain"]


def create_prune_chain(
    llm: Runnable,
    compressor: AT2DocumentCompressor | None = None,
    *,
    prompt: BasePromptTemplate = QA_PROMPT,
    own_draft: bool = False,
) -> Runnable[dict[str, Any], dict[str, Any]]:
    """Make a Runnable that takes a question with its documents and returns an answer.

    The steps `draft`, `prune` and `answer` are separate runs in a trace, and the answer streams. If `llm` wrote the
    draft and every document is kept whole and in the same order, the draft is the answer, and `llm` is not called
    again. There is no draft if pruning is off, if the method reads no draft, or if there is at most one document.

    Args:
        llm: the model that writes the draft and the answer: a chat model, an LLM, or a chain that takes `question` and
            `context`.
        compressor: the compressor that selects the documents. If it has a `draft_llm`, that model writes the draft
            instead of `llm`.
        prompt: the prompt for a chat model or LLM, with `{context}` and `{question}`.
        own_draft: whether the compressor's reader writes the draft instead of `llm`. `llm` is then called only once.
            The reader is the scoring model by default. `own_draft` has no effect if the compressor has a `draft_llm`.

    Returns:
        A Runnable that takes `{"question": str, "documents": list[Document]}`. Other keys are passed through. The
        Runnable adds these keys: `draft` (a text or None), `kept` (the kept documents), `scores` (a score or None for
        each document), `dropped` (for every dropped document its index, reason, score and probability) and `answer`.

    Example:
        >>> from langchain_core.documents import Document
        >>> from langchain_core.language_models import FakeListChatModel
        >>> llm = FakeListChatModel(responses=["the Meuse"])
        >>> chain = create_prune_chain(llm, AT2DocumentCompressor(enabled=False))
        >>> documents = [Document("Dinant lies on the Meuse."), Document("Ghent is a city.")]
        >>> chain.invoke({"question": "Which river?", "documents": documents})["answer"]
        'the Meuse'
    """
    pruning = compressor or AT2DocumentCompressor()
    writer = as_writer(llm, prompt)
    drafter = pruning.drafter or writer
    own_draft = own_draft and pruning.drafter is None
    chain = (
        RunnablePassthrough.assign(draft=_draft_step(pruning, drafter, own_draft))
        | _prune_step(pruning)
        | RunnablePassthrough.assign(answer=_answer_step(pruning, writer, same=drafter is writer and not own_draft))
    )
    return chain.with_config(run_name="at2_prune")


# To make schemas, LangChain evaluates the annotations of the functions in a step. LangChain cannot find names that this
# file defines, such as a type alias. The functions below therefore write `dict[str, Any]` in full.


def _draft_step(pruning: AT2DocumentCompressor, drafter: Runnable, own_draft: bool) -> Runnable[dict[str, Any], Any]:
    """Make the step that writes the draft, if the method reads a draft.

    With `own_draft`, the compressor's reader writes the draft. Otherwise `drafter` writes the draft. If passages must
    be scored, the step first loads the scoring model. If the step is called asynchronously, the model is loaded in a
    thread.
    """

    def first(state: dict[str, Any]) -> Callable[[], Any]:
        question, documents = _read(state)
        if own_draft:
            return partial(pruning.step.draft, question, pruning.passages(documents))
        return partial(pruning.draft_input, documents, question)

    def draft(state: dict[str, Any], config: RunnableConfig) -> Any:
        found = first(state)()
        return found if own_draft or found is None else drafter.invoke(found, config)

    async def adraft(state: dict[str, Any], config: RunnableConfig) -> Any:
        found = await run_in_executor(config, first(state))
        return found if own_draft or found is None else await drafter.ainvoke(found, config)

    return RunnableLambda(draft, adraft, name="draft")


def _prune_step(pruning: AT2DocumentCompressor) -> Runnable[dict[str, Any], dict[str, Any]]:
    """Make the step that scores the documents and keeps the best documents."""

    def prune(state: dict[str, Any]) -> dict[str, Any]:
        question, documents = _read(state)
        pruned = pruning.step.run(question, pruning.passages(documents), state["draft"])
        return {
            **state,
            "draft": pruned.draft,
            "kept": pruning.kept_documents(documents, pruned) if pruning.enabled else documents,
            "scores": pruned.scores,
            "dropped": [asdict(item) for item in pruned.dropped],
        }

    return RunnableLambda(prune, name="prune")


def _answer_step(pruning: AT2DocumentCompressor, writer: Runnable, *, same: bool) -> Runnable[dict[str, Any], Any]:
    """Make the step that answers from the kept documents.

    Args:
        pruning: the compressor, which turns documents into passages.
        writer: the Runnable that writes the answer.
        same: whether `writer` also wrote the draft. If so, and if every document is kept whole and in the same order,
            the draft is the answer.
    """

    def answer(state: dict[str, Any]) -> Any:
        unchanged = [d.page_content for d in state["kept"]] == [d.page_content for d in state["documents"]]
        if unchanged and state["draft"] and same:
            return state["draft"]
        return from_kept

    def kept_input(state: dict[str, Any]) -> dict[str, Any]:
        return writer_input(state["question"], state["kept"], pruning.passages(state["kept"]))

    from_kept = RunnableLambda(kept_input, name="kept documents") | writer
    return RunnableLambda(answer, name="answer")


def _read(state: Mapping[str, Any]) -> tuple[str, list[Document]]:
    question, documents = state.get("question"), state.get("documents")
    if not isinstance(question, str):
        raise InputError(f"the key 'question' must hold a string, got {question!r:.80}")
    if not isinstance(documents, list) or not all(isinstance(document, Document) for document in documents):
        raise InputError(f"the key 'documents' must hold a list of Document objects, got {documents!r:.80}")
    return question, documents
