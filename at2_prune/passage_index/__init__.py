"""The passage index: keys of passages that the model read once, each passage alone, for all questions.

The first layers of the model read a short opening text (`layout.HEAD`), then one passage. The passage's keys are kept.
They depend on the passage alone. A question runs through the same layers, after the same opening text. Then the
attention of the question's rows to the kept keys of all passages is computed. `docs/method.md` has the definition.
"""
