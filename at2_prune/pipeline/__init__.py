"""Pruning as a step of a pipeline: its config, and what the framework adapters run."""
