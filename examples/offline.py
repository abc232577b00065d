"""What both examples share: a corpus and its two indexes on this machine, a local model that completes prompts, and F1
with pruning off and on. Nothing here knows LangChain or LlamaIndex."""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

import bm25s
from tqdm.auto import tqdm
from transformers.utils import logging as transformers_logging

from at2_prune import AT2Pruner, LanguageModel, Passage, Question, load_questions, sample_questions_path
from at2_prune.config import PruneConfig
from at2_prune.intervals import bootstrap_mean
from at2_prune.prompt import EncodedPrompt, TextTemplate
from at2_prune_eval.metrics import answer_scores

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
        self.dimensions = dimensions
        self.texts = len(texts)
        self.containing = Counter(word for text in texts for word in set(_words(text)))

    def __call__(self, text: str) -> list[float]:
        vector = [0.0] * self.dimensions
        for word, count in Counter(_words(text)).items():
            place = crc32(word.encode())
            weight = (1 + math.log(count)) * math.log(1 + self.texts / (1 + self.containing[word]))
            vector[place % self.dimensions] += weight if place & 1 << 31 else -weight
        length = math.sqrt(sum(x * x for x in vector)) or 1.0
        return [x / length for x in vector]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def complete(model: LanguageModel, prompt: str, max_new_tokens: int = 48) -> str:
    """What a base model writes after a prompt, up to the end of the line."""
    ids = model.codec.begin + model.codec.plain(prompt)[0]
    return model.generate([EncodedPrompt(ids, [], [], [], [], (0, 0))], max_new_tokens)[0][0].text


Ask = Callable[[str], str]
Build = Callable[[str, Corpus, AT2Pruner], Callable[[PruneConfig], Ask]]


def main(description: str, build: Build) -> None:
    """The command line of an example.

    Args:
        description: for `--help`.
        build: from an index, `bm25` or `vectors`, a corpus and a pruner to what makes a pipeline of a config.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("question", nargs="?", help="ask this (default: the first question about the corpus)")
    parser.add_argument("--questions", type=int, metavar="N", help="ask N questions, pruning off and on; print F1")
    parser.add_argument("--index", choices=["bm25", "vectors"], default="bm25", help="(default: bm25)")
    parser.add_argument("--corpus", metavar="FILE", action="append", help="questions with passages; may be repeated")
    parser.add_argument("--config", metavar="FILE", help="a PruneConfig, as YAML or TOML; AT2_PRUNE… goes on top")
    args = parser.parse_args()

    config = PruneConfig.load(args.config)
    corpus = Corpus.load(args.corpus or ())
    transformers_logging.disable_progress_bar()
    model = LanguageModel.load(config.model, device=config.device, dtype=config.dtype)
    coefficients = "average" if config.method == "average_attention" else config.coefficients
    pruner = AT2Pruner.from_pretrained(model, coefficients)
    print(f"{len(corpus.passages)} passages, {args.index}, {model.name}, {config.method}", file=sys.stderr)
    pipeline = build(args.index, corpus, pruner)
    if not args.questions:
        question = args.question or corpus.questions[0].text
        print(f"{question} {pipeline(config)(question)}")
        return
    asked = corpus.questions[: args.questions]
    flags = [config.enabled] if os.environ.get("AT2_PRUNE") else [False, True]
    scores = {}
    for enabled in flags:
        ask = pipeline(replace(config, enabled=enabled))
        state = "on" if enabled else "off"
        bar = tqdm(asked, desc=f"pruning {state}", unit="question", disable=None)
        scores[enabled] = [answer_scores(ask(question.text), question.answer or "").f1 for question in bar]
        print(f"pruning {state:3}  F1 {bootstrap_mean(scores[enabled])}  ({len(asked)} questions)", flush=True)
    if len(flags) == 2:
        gains = [on - off for off, on in zip(scores[False], scores[True], strict=True)]
        print(f"difference      {bootstrap_mean(gains)}")
