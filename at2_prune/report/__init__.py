"""Reports on one result, as text for the terminal and as an HTML page."""

from __future__ import annotations

from .citations import html_citations, terminal_citations
from .page import html_report
from .terminal import terminal_report
from .write import check_report_path, write_html_report

__all__ = [
    "check_report_path",
    "html_citations",
    "html_report",
    "terminal_citations",
    "terminal_report",
    "write_html_report",
]
