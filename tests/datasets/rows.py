"""One small question in every shape that questions come in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from at2_prune.datasets import Question, load_questions

HUB: dict[str, Any] = {
    "id": "q1",
    "question": "Who?",
    "answer": "Ann",
    "type": "bridge",
    "supporting_facts": {"title": ["B", "B"], "sent_id": [0, 1]},
    "context": {"title": ["A", "B"], "sentences": [["One.", " Two."], ["Three.", " Four."]]},
}
OFFICIAL: dict[str, Any] = {
    "_id": "q1",
    "question": "Who?",
    "answer": "Ann",
    "type": "bridge",
    "supporting_facts": [["B", 0], ["B", 1]],
    "context": [["A", ["One.", " Two."]], ["B", ["Three.", " Four."]]],
}
TWO_WIKI: dict[str, Any] = {
    "_id": "8813f87c0bdd11eba7f7acde48001122",
    "type": "compositional",
    "question": "Who is the mother of the director of Low Tide?",
    "context": [
        ["Low Tide", ["Low Tide is a film.", "It was directed by Ann Oake."]],
        ["High Tide", ["High Tide is a film.", "It was directed by Bo Elm.", "It is long."]],
        ["Ann Oake", ["Ann Oake is the daughter of Una Oake."]],
    ],
    "supporting_facts": [["Low Tide", 1], ["Ann Oake", 0]],
    "evidences": [["Low Tide", "director", "Ann Oake"], ["Ann Oake", "mother", "Una Oake"]],
    "evidences_id": [["Q1", "director", "Q2"], ["Q2", "mother", "Q3"]],
    "answer": "Una Oake",
    "answer_id": "Q3",
    "entity_ids": "Q1_Q2",
}
MUSIQUE: dict[str, Any] = {
    "id": "3hop1__12_34_56",
    "question": "What river runs through the town where the founder of Harl was born?",
    "paragraphs": [
        {"idx": 0, "title": "Harl", "paragraph_text": "Harl was founded by Ina Moss.", "is_supporting": True},
        {"idx": 1, "title": "Town", "paragraph_text": "Town is a word.", "is_supporting": False},
        {"idx": 2, "title": "Ina Moss", "paragraph_text": "Ina Moss was born in Dorn.", "is_supporting": True},
        {"idx": 3, "title": "Dorn", "paragraph_text": "Dorn has a mayor.", "is_supporting": False},
        {"idx": 4, "title": "Dorn", "paragraph_text": "Dorn lies on the Vell.", "is_supporting": True},
    ],
    "question_decomposition": [
        {"id": 12, "question": "Harl >> founder", "answer": "Ina Moss", "paragraph_support_idx": 0},
        {"id": 34, "question": "#1 >> place of birth", "answer": "Dorn", "paragraph_support_idx": 2},
        {"id": 56, "question": "What river runs through #2?", "answer": "Vell", "paragraph_support_idx": 4},
    ],
    "answer": "Vell",
    "answer_aliases": ["the Vell", "River Vell"],
    "answerable": True,
}
PLAIN: dict[str, Any] = {
    "question": "Who?",
    "passages": ["one", {"title": "T", "text": "two"}],
    "answer": "Ann",
    "gold": [1],
}
DOLLY: dict[str, Any] = {"instruction": "Who?", "context": "Ann did.", "response": "Ann", "category": "closed_qa"}


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def load(folder: Path, text: str | bytes, name: str = "q.jsonl", **options: Any) -> list[Question]:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_questions(path, **options)
