"""A language model: loading and prompting it, drafts and answers, and the rules about model families."""
