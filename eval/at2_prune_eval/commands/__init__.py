"""The commands that the evaluator adds to `at2-prune`, through the entry point group `at2_prune.commands`."""
