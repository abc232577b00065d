"""The pruner scores the sources, selects the best sources, and answers from the selected sources."""
