from __future__ import annotations

import pytest

from at2_prune import Question


@pytest.fixture
def question(sample_questions: list[Question]) -> Question:
    return sample_questions[0]
