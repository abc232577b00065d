"""Write results as a Markdown page, and record results in the cards of head coefficients.

The command `python -m at2_prune_eval.document` writes the page.
"""

from __future__ import annotations

from .page import results_document
from .writing import check_document, write_document

__all__ = ["check_document", "results_document", "write_document"]
