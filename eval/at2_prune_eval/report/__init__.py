"""Write a run as an HTML page with tables, figures, costs, faithfulness, and twenty questions to browse."""

from __future__ import annotations

from .page import report_page, write_report

__all__ = ["report_page", "write_report"]
