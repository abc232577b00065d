"""Results as rows of tables, ready for a terminal, Markdown or HTML."""
