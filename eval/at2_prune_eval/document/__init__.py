"""Results as a Markdown page, which `python -m at2_prune_eval.document` writes, and in cards of head coefficients."""

from __future__ import annotations

from .page import results_document
from .writing import write_document

__all__ = ["results_document", "write_document"]
