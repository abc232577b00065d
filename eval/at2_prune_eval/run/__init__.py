"""A run of the experiment: the methods and questions, and the folder on disk."""
