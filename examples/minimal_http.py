"""A plain HTTP client: from documents through a retriever to the pruned passages and the answer of a server.

at2-prune serve      # in another terminal
python examples/minimal_http.py
AT2_PRUNE=off python examples/minimal_http.py      # without pruning
"""

import math
import os
import re
from collections import Counter

import httpx

from at2_prune import load_questions, sample_questions_path

sample = load_questions(sample_questions_path())  # some passages that come with at2-prune; take your own
passages = [{"title": p.title, "text": p.text} for question in sample for p in question.passages]


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


seen = Counter(word for passage in passages for word in words(passage["text"]))


def retrieve(question: str, count: int = 10) -> list[dict]:
    """Return the passages that share the rarest words with the question. Your retriever takes its place."""

    def shared(passage: dict) -> float:
        return sum(math.log(len(passages) / seen[word]) for word in words(question) & words(passage["text"]))

    return sorted(passages, key=shared, reverse=True)[:count]


question = "The inventor of the saxophone was born in a town that stands on which river?"
found = retrieve(question)
k = len(found) if os.environ.get("AT2_PRUNE") == "off" else 3
body = {"question": question, "passages": found, "k": k, "answer": True}
response = httpx.post("http://127.0.0.1:8080/prune", json=body, timeout=60)
result = response.raise_for_status().json()
print(*(passage["title"] for passage in result["kept"]), sep=", ")
print(result["answer"])
