"""The format of the data set Dolly, on which AT2's authors trained their published estimators.

Conover et al., "Free Dolly" (2023), https://huggingface.co/datasets/databricks/databricks-dolly-15k.
"""

from __future__ import annotations

from ...passages import Passage
from ..question import Question
from .row import Format, HubDataset, Row, identifier, string

__all__ = ["DOLLY"]


def _parse(row: Row, where: str) -> Question:
    context = Passage(string(row, "context", where))
    text = string(row, "instruction", where)
    return Question(identifier(row, where), text, (context,), string(row, "response", where))


def _wanted(row: Row) -> bool:
    """Return whether AT2's authors trained on this row. They chose rows by category and by length of the context."""
    return row["category"] in ("summarization", "closed_qa", "information_extraction") and len(row["context"]) < 20_000


DOLLY = Format(
    ("instruction", "context"),
    "response",
    _parse,
    answer="field 'response' is empty",
    gold="a row with field 'instruction' has only one context, so it names no gold passages",
    hub=(HubDataset("databricks/databricks-dolly-15k", wanted=_wanted),),
)
