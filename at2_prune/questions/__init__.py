"""Questions with their passages, from files and from the Hub; one data format a file."""

from .load import load_questions, sample_questions_path
from .parse import parse_question
from .question import Question

__all__ = ["Question", "load_questions", "parse_question", "sample_questions_path"]
