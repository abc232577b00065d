"""A run: methods, one question, many questions, the folder on disk."""
