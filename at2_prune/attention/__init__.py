"""Reads attention mass while a model runs. The model's own attention function stays in use."""
