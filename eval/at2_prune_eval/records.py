"""Records: the JSON values that a run keeps for each question. A record is one line of `questions.jsonl`."""

from __future__ import annotations

from typing import Any

from at2_prune.datasets import Question

__all__ = ["TEXT", "Record", "text_of", "with_text"]

Record = dict[str, Any]
"""One line of `questions.jsonl`; see `at2_prune_eval.answer_question`."""

TEXT = ("question", "answer", "aliases", "passages")
"""The keys of a record that hold text of the data set. An archive leaves these keys out."""


def text_of(question: Question) -> dict[str, Any]:
    """Return the part of a question's record that holds text of the data set. Its keys are `TEXT`."""
    return {
        "question": question.text,
        "answer": question.answer,
        "aliases": list(question.aliases),
        "passages": [{"title": passage.title, "text": passage.text} for passage in question.passages],
    }


def with_text(record: Record, question: Question) -> Record:
    """Return the record with the text of the question added. A record that has its text already does not change."""
    return {"id": record["id"], **text_of(question), **record}
