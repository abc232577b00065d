"""What a person looks at: a report for the terminal, and an HTML page."""

from __future__ import annotations

from .page import check_report_path, html_report, write_html_report
from .terminal import terminal_report

__all__ = ["check_report_path", "html_report", "terminal_report", "write_html_report"]
