"""Questions with their passages, loaded from files or from the Hub."""

from .formats.parse import parse_question
from .load import calibration_questions_path, load_questions, sample_questions_path
from .question import Question
from .selection import Selection

__all__ = [
    "Question",
    "Selection",
    "calibration_questions_path",
    "load_questions",
    "parse_question",
    "sample_questions_path",
]
