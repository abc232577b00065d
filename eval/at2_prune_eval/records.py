"""Records: the JSON values that a run keeps for each question, one line per question in `questions.jsonl`."""

from __future__ import annotations

from typing import Any

from at2_prune.datasets import Question

__all__ = ["TEXT", "Record", "text_of", "with_text"]

Record = dict[str, Any]
"""One line of `questions.jsonl`; see `at2_prune_eval.answer_question`."""

TEXT = ("question", "answer", "aliases", "passages")
"""The keys of a record that hold the data set's text; an archive leaves them out."""


def text_of(question: Question) -> dict[str, Any]:
    """Return the data set's text for a question's record, under the keys of `TEXT`."""
    return {
        "question": question.text,
        "answer": question.answer,
        "aliases": list(question.aliases),
        "passages": [{"title": passage.title, "text": passage.text} for passage in question.passages],
    }


def with_text(record: Record, question: Question) -> Record:
    """Put the text back into a record from an archive; a record that has its text stays as it is."""
    return {"id": record["id"], **text_of(question), **record}
