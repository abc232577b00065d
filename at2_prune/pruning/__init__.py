"""The pruner scores the sources, selects the best ones and answers from them."""
