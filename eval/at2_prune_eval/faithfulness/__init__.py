"""Measure faithfulness: do the scores of a method show which sources the model used?

This package has two measures from ContextCite (arXiv 2409.00729) and AT2 (arXiv 2504.13752). It also has the tests of
"Attention is not Explanation" (Jain and Wallace 2019, arXiv 1902.10186), adapted to the draft of a language model. The
modules `measure`, `permutation` and `order` define the measures and tests.

Rankers that do not read the draft, such as BM25 and a dense embedder, are measured in the same way. Their scores say
nothing about the model. An attribution method should therefore be more faithful than these rankers.
"""

from __future__ import annotations

from .measure import measure_faithfulness
from .over_questions import add_faithfulness, run_faithfulness
from .settings import FaithfulnessSettings
from .summary import summarize_faithfulness

__all__ = [
    "FaithfulnessSettings",
    "add_faithfulness",
    "measure_faithfulness",
    "run_faithfulness",
    "summarize_faithfulness",
]
