"""The whole loop as one Runnable: draft from all documents, prune, answer from those that are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
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
    """A Runnable from a question and its documents to an answer.

    `draft`, `prune` and `answer` are runs of their own in every trace, and the answer streams. Where every document is
    kept in its place, the draft is the answer and `llm` is not asked again; where there is nothing to choose from,
    pruning is off or the method reads no draft, there is none.

    Args:
        llm: writes draft and answer: a chat model or LLM, or a chain of yours that takes `question` and `context`.
        compressor: chooses; with a `draft_llm` of its own, that one drafts instead of `llm`.
        prompt: what a chat model is asked, with `{context}` and `{question}`.
        own_draft: let the compressor's scoring model draft, which asks `llm` once only.

    Returns:
        Takes `{"question": str, "documents": list[Document]}`; other keys pass through. Adds `draft` (or None), `kept`
        (documents), `scores` (one a document, None where there is none), `dropped` (index, reason and score of each
        document that is not kept) and `answer`.

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
    writer = drafter = as_writer(llm, prompt)
    if pruning.draft_llm is not None:
        drafter = as_writer(pruning.draft_llm, pruning.draft_prompt)
    by_scoring_model = own_draft and pruning.draft_llm is None

    def draft(state: dict[str, Any], config: RunnableConfig) -> Any:
        question, documents = _read(state)
        if by_scoring_model:
            return pruning.step.draft(question, pruning.passages(documents))
        asked = pruning.draft_input(documents, question)
        return None if asked is None else drafter.invoke(asked, config)

    async def adraft(state: dict[str, Any], config: RunnableConfig) -> Any:
        question, documents = _read(state)
        if by_scoring_model:
            return await run_in_executor(config, pruning.step.draft, question, pruning.passages(documents))
        asked = await run_in_executor(config, pruning.draft_input, documents, question)
        return None if asked is None else await drafter.ainvoke(asked, config)

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

    def answer(state: dict[str, Any]) -> Any:
        same = [d.page_content for d in state["kept"]] == [d.page_content for d in state["documents"]]
        if same and state["draft"] and drafter is writer and not by_scoring_model:
            return state["draft"]
        return from_kept

    def kept_input(state: dict[str, Any]) -> dict[str, Any]:
        return writer_input(state["question"], state["kept"], pruning.passages(state["kept"]))

    from_kept = RunnableLambda(kept_input, name="kept documents") | writer
    chain = (
        RunnablePassthrough.assign(draft=RunnableLambda(draft, adraft, name="draft"))
        | RunnableLambda(prune, name="prune")
        | RunnablePassthrough.assign(answer=RunnableLambda(answer, name="answer"))
    )
    return chain.with_config(run_name="at2_prune")


def _read(state: Mapping[str, Any]) -> tuple[str, list[Document]]:
    question, documents = state.get("question"), state.get("documents")
    if not isinstance(question, str):
        raise InputError(f"the chain takes 'question', a text, got {question!r:.80}")
    if not isinstance(documents, list) or not all(isinstance(document, Document) for document in documents):
        raise InputError(f"the chain takes 'documents', a list of Document, got {documents!r:.80}")
    return question, documents
