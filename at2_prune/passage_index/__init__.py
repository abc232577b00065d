"""The passage index: the model reads each passage once and alone, and the passage's keys are kept for all questions.

The first layers of the model read a short opening text (`layout.HEAD`), then one passage. The keys of the passage are
kept. These keys do not depend on other passages or on a question. A question runs through the same layers, after the
same opening text. Then the attention of the question's rows to the kept keys of all passages is computed.
`docs/method.md` has the definition.
"""
