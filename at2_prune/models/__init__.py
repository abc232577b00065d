"""Language models: loading, prompts, drafts, answers, and the rules about model families."""
