"""The pruner: score the sources, select the best, answer from those."""
