"""A language model: loading it, prompting it, letting it draft and answer, and what each model family needs."""
