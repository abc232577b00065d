from __future__ import annotations

import os

import pytest

from at2_prune import Question

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # before Haystack is imported: tests send nothing


@pytest.fixture
def question(sample_questions: list[Question]) -> Question:
    return sample_questions[0]
