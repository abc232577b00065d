"""A run of the experiment: its methods, its questions, and its folder on disk."""
