"""Questions with their passages, from files and from the Hub; one data format a file."""

from .formats.parse import parse_question
from .load import load_questions, sample_questions_path
from .question import Question

__all__ = ["Question", "load_questions", "parse_question", "sample_questions_path"]
