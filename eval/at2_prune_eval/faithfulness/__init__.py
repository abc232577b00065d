"""Faithfulness: do a method's scores say what the model used?

Two measures of ContextCite (arXiv 2409.00729) and AT2 (arXiv 2504.13752), and the tests of "Attention is not
Explanation" (Jain and Wallace 2019, arXiv 1902.10186), restated for a language model's draft. They are defined in
`measure`, `permutation` and `order`.

Rankers that never look at the draft (BM25, a dense embedder) are measured alike. They make no claim about the model;
how well a ranking does that was made without it is what an attribution has to beat.
"""

from __future__ import annotations

from .measure import measure_faithfulness
from .over_questions import run_faithfulness
from .summary import summarize_faithfulness

__all__ = ["measure_faithfulness", "run_faithfulness", "summarize_faithfulness"]
