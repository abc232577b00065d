"""What both examples share: a corpus and its two indexes on this machine, and a local model that completes prompts.

Nothing here knows LangChain or LlamaIndex.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import bm25s
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.pipeline import make_pipeline

from at2_prune import LanguageModel, Passage, Question, load_questions, sample_questions_path
from at2_prune.models.prompts import EncodedPrompt, TextTemplate

HOTPOTQA = Path(__file__).resolve().parents[2] / "shared" / "data" / "hotpotqa"
RETRIEVED = 10
PROMPT = TextTemplate().instruction + TextTemplate().examples + "Documents:\n{context}\n\nQuestion: {question}\nAnswer:"
"""For a base model: an instruction and two worked examples, then what was retrieved."""


@dataclass(frozen=True)
class Corpus:
    """Passages to retrieve from, and questions about them."""

    passages: list[Passage]
    questions: list[Question]

    @classmethod
    def load(cls, files: Sequence[str | Path] = ()) -> Corpus:
        """All passages of some files of questions, and the first file's questions.

        Without files HotpotQA's where it lies beside this checkout, else the dozen questions that come with at2-prune.
        """
        usual = [file for file in (HOTPOTQA / "validation.jsonl", HOTPOTQA / "train.jsonl") if file.is_file()]
        groups = [load_questions(source) for source in files or usual or [sample_questions_path()]]
        found = {(p.title, p.text): p for questions in groups for question in questions for p in question.passages}
        passages = [replace(passage, id=f"passage-{i}") for i, passage in enumerate(found.values())]
        return cls(passages, groups[0])

    def gold(self, question: Question) -> set[str]:
        """Ids of the passages that support the answer."""
        supporting = {(question.passages[i].title, question.passages[i].text) for i in question.gold}
        return {str(passage.id) for passage in self.passages if (passage.title, passage.text) in supporting}


class BM25:
    """A keyword index."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.index = bm25s.BM25()
        self.index.index([_words(f"{passage.title} {passage.text}") for passage in passages], show_progress=False)

    def search(self, question: str, k: int) -> list[tuple[int, float]]:
        found, scores = self.index.retrieve([_words(question)], k=k, show_progress=False)
        return [(int(i), float(score)) for i, score in zip(found[0], scores[0], strict=True)]


class HashedWords:
    """An embedding that needs no model: TF-IDF of words, hashed into so many dimensions, of length 1."""

    def __init__(self, texts: Sequence[str], dimensions: int = 1024) -> None:
        self.weights = make_pipeline(HashingVectorizer(n_features=dimensions, norm=None), TfidfTransformer())
        self.weights.fit(texts)

    def __call__(self, text: str) -> list[float]:
        return self.weights.transform([text]).toarray()[0].tolist()


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def complete(model: LanguageModel, prompt: str, max_new_tokens: int = 48) -> str:
    """What a base model writes after a prompt, up to the end of the line."""
    ids = model.codec.begin + model.codec.plain(prompt)[0]
    return model.generate([EncodedPrompt(ids, [], [], [], [], (0, 0))], max_new_tokens)[0][0].text
