"""Results as a Markdown page, and in the cards of head coefficients; `python -m at2_prune_eval.document`."""

from __future__ import annotations

from .page import load_results, results_document, short_table, write_document

__all__ = ["load_results", "results_document", "short_table", "write_document"]
