"""Gives the calibration questions that come with at2-prune."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import replace

from ..datasets import Question, calibration_questions_path, load_questions
from ..passages import Passage
from ..training.settings import TrainingData

__all__ = ["SHIPPED", "digest_of", "shipped_data", "shipped_questions", "vary_lengths"]

SHIPPED = "at2_prune/calibration_questions.jsonl"
"""The name of the questions as training data. It is saved with coefficients that are learned from these questions."""


def shipped_questions() -> list[Question]:
    """Return the questions that come with at2-prune, with passages of varied length; see `vary_lengths`.

    The questions and their passages were written for calibration. They are about invented people, places and products.
    Each question has ten passages, some of which are marked as supporting passages.

    Example:
        >>> len(shipped_questions())
        170
    """
    return vary_lengths(load_questions(calibration_questions_path()))


def shipped_data() -> TrainingData:
    """Return `shipped_questions` as the data of a training run."""
    return TrainingData(shipped_questions(), SHIPPED, {"shipped": True})


def vary_lengths(questions: Sequence[Question], seed: int = 0) -> list[Question]:
    """Make about half of the passages longer. A passage that is made longer gets sentences of a random passage.

    The length of a passage then does not show whether the passage supports a question. Coefficients learn to find
    evidence among short and long passages. A passage that several questions share is changed in the same way in all
    these questions.
    """
    chooser = random.Random(seed)
    known = list(dict.fromkeys(passage for question in questions for passage in question.passages))
    changed: dict[Passage, Passage] = {}
    for passage in known:
        if chooser.random() < 0.5:
            sentences = re.split(r"(?<=[.!?])\s+", chooser.choice(known).text)
            added = " ".join(sentences[-chooser.randint(1, len(sentences)) :])
            changed[passage] = replace(passage, text=f"{passage.text} {added}", sentences=None)
    return [replace(q, passages=tuple(changed.get(passage, passage) for passage in q.passages)) for q in questions]


def digest_of(questions: Sequence[Question]) -> str:
    """Return a digest of some questions. It depends on the questions' texts, passages and supporting passages."""
    digest = hashlib.sha256()
    for question in questions:
        texts = [(passage.title, passage.text) for passage in question.passages]
        digest.update(repr((question.text, texts, question.gold)).encode())
    return digest.hexdigest()[:16]
