"""The passage index: keys of passages that the model read once, each alone, for all questions.

A passage runs through the first layers of the model behind a short fixed head. Its keys are kept; they depend on
nothing but the passage. A question runs through the same layers alone. Its rows then meet the kept keys of all
passages. `docs/method.md` has the definition.
"""
