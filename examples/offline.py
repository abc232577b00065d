"""The parts that the examples share: a corpus, two indexes, and a local model that completes prompts.

Nothing here needs a network, LangChain, LlamaIndex or Haystack.

The corpus comes from the files that `--data` names. Without files it is HotpotQA, if the environment variable
AT2_PRUNE_DATA names a folder that holds `hotpotqa/validation.jsonl` or `hotpotqa/train.jsonl`. The tests read the same
folder, which may also hold `nq/` and `musique/`. Without the variable the corpus is the dozen questions that come with
at2-prune.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import bm25s
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.pipeline import make_pipeline

from at2_prune import LanguageModel, Passage, Question, load_questions, sample_questions_path
from at2_prune.errors import DataError
from at2_prune.models.prompts import EncodedPrompt, TextTemplate

RETRIEVED = 10
PROMPT = TextTemplate().instruction + TextTemplate().examples + "Documents:\n{context}\n\nQuestion: {question}\nAnswer:"
"""The prompt for a base model: an instruction, two examples, and the retrieved passages."""


@dataclass(frozen=True)
class Corpus:
    """The passages to retrieve from, and questions about them."""

    passages: list[Passage]
    questions: list[Question]

    @classmethod
    def load(cls, files: Sequence[str | Path] = ()) -> Corpus:
        """Take the passages of all files, and the questions of the first file.

        Args:
            files: files of questions with passages. Without files see the top of this module.

        Raises:
            DataError: a file cannot be read, or AT2_PRUNE_DATA names a folder without HotpotQA.
        """
        groups = [load_questions(source) for source in files or _default_files()]
        found = {(p.title, p.text): p for questions in groups for question in questions for p in question.passages}
        passages = [replace(passage, id=f"passage-{i}") for i, passage in enumerate(found.values())]
        return cls(passages, groups[0])

    def gold(self, question: Question) -> set[str]:
        """Return the ids of the passages that support the answer."""
        supporting = {(question.passages[i].title, question.passages[i].text) for i in question.gold}
        return {str(passage.id) for passage in self.passages if (passage.title, passage.text) in supporting}


class BM25:
    """A keyword index of title and text."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.index = bm25s.BM25()
        self.index.index([_words(f"{passage.title} {passage.text}") for passage in passages], show_progress=False)

    def search(self, question: str, k: int) -> list[tuple[int, float]]:
        """Return the indices and scores of the k best passages, the best first."""
        found, scores = self.index.retrieve([_words(question)], k=k, show_progress=False)
        return [(int(i), float(score)) for i, score in zip(found[0], scores[0], strict=True)]


class HashedWords:
    """An embedding that needs no model: the TF-IDF of hashed words, as a vector of length 1."""

    def __init__(self, texts: Sequence[str], dimensions: int = 1024) -> None:
        self.weights = make_pipeline(HashingVectorizer(n_features=dimensions, norm=None), TfidfTransformer())
        self.weights.fit(texts)

    def __call__(self, text: str) -> list[float]:
        return self.weights.transform([text]).toarray()[0].tolist()


def _default_files() -> list[Path]:
    data = os.environ.get("AT2_PRUNE_DATA")
    if not data:
        return [sample_questions_path()]
    files = [Path(data) / "hotpotqa" / name for name in ("validation.jsonl", "train.jsonl")]
    found = [file for file in files if file.is_file()]
    if not found:
        raise DataError(
            f"AT2_PRUNE_DATA is {data!r}, but there is no {files[0]} and no {files[1]}: set the variable to a folder "
            "that holds one of them, unset it, or name files with --data"
        )
    return found


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def complete(model: LanguageModel, prompt: str, max_new_tokens: int = 48) -> str:
    """Return the text that a base model writes after a prompt, up to the end of the line."""
    ids = model.codec.begin + model.codec.plain(prompt)[0]
    return model.generate([EncodedPrompt(ids, [], [], [], [], (0, 0))], max_new_tokens)[0][0].text
