"""Makes pseudo-questions from a user's own texts, so that nobody has to write or label questions.

A question about one passage consists of rare words from one sentence of the passage. This sentence is removed from the
passage, as in the inverse cloze task (Lee et al. 2019, arXiv 1906.00300). A question about two linked passages consists
of the title of the first passage and rare words from one sentence of the second passage. Two passages are linked if the
text of the first passage names the title of the second passage.

The passages that a question is about are its evidence. The question gets further passages that are similar to the
question and the evidence by BM25 (Robertson and Zaragoza 2009), so that the evidence is hard to find.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..datasets import Question
from ..errors import DataError
from ..passages import Passage

__all__ = ["pseudo_questions"]

QUESTIONS = 100
PASSAGES = 10
"""The maximum number of passages of a question."""
LEAST_PASSAGES = 20
"""The minimum number of different passages of a corpus."""
CHARACTERS = 1500
"""The maximum length of a passage. Longer texts are cut into several passages."""
LONGEST_CORPUS = 20_000
"""The maximum number of passages that are used. From a larger corpus, this many passages are drawn at random."""
K1, B = 1.2, 0.75
"""The parameters of BM25."""
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")
"""The pattern of a word. In Chinese and Japanese text, which has no spaces between words, each character is a word."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*|\n+")


@dataclass(frozen=True)
class _Made:
    """One pseudo-question."""

    text: str
    evidence: dict[int, Passage]
    """The supporting passages. The keys are their indices in the corpus. In a question about one passage, the passage
    lacks the sentence that the words come from."""


def pseudo_questions(passages: Sequence[Passage], count: int = QUESTIONS, seed: int = 0) -> list[Question]:
    """Make pseudo-questions from passages.

    Args:
        passages: the corpus. Titles help, because they link passages. Duplicates and blank passages are left out.
        count: the maximum number of questions.
        seed: the seed of all choices.

    Returns:
        The questions, possibly fewer than `count`. A question has at most ten passages, including its evidence.

    Raises:
        DataError: the corpus has fewer than 20 different passages with text. Long passages are cut before they are
            counted.
    """
    chooser = random.Random(seed)
    pieces = list(dict.fromkeys(piece for passage in passages for piece in _cut(passage)))
    if len(pieces) < LEAST_PASSAGES:
        raise DataError(
            f"the corpus has {len(pieces)} different passages with text, but at least {LEAST_PASSAGES} are "
            f"needed to make questions: give more texts, or calibrate without --passages"
        )
    if len(pieces) > LONGEST_CORPUS:
        pieces = chooser.sample(pieces, LONGEST_CORPUS)
    corpus = _Corpus(pieces)
    order = list(range(len(pieces)))
    chooser.shuffle(order)
    found: list[Question] = []
    for index in order * 2:
        if len(found) == count:
            break
        made = corpus.about_two(index, chooser) if len(found) % 2 else None
        made = made or corpus.about_one(index, chooser)
        if made is not None:
            found.append(_question(corpus, made, len(found), chooser))
    return found


def _question(corpus: _Corpus, made: _Made, number: int, chooser: random.Random) -> Question:
    """Return a question with its evidence and the most similar other passages. The passages are in random order."""
    words = _words(made.text) + [word for piece in made.evidence.values() for word in _words(_whole(piece))[:60]]
    others = corpus.similar(words, made.evidence, PASSAGES - len(made.evidence))
    shown = [*((piece, True) for piece in made.evidence.values()), *((corpus.pieces[i], False) for i in others)]
    chooser.shuffle(shown)
    gold = tuple(place for place, (_, supports) in enumerate(shown) if supports)
    return Question(f"pseudo-{number}", made.text, tuple(piece for piece, _ in shown), gold=gold)


class _Corpus:
    """The passages of a corpus, with an inverted index of their words."""

    def __init__(self, pieces: Sequence[Passage]) -> None:
        self.pieces = pieces
        self.counts = [Counter(_words(_whole(piece))) for piece in pieces]
        self.lengths = [sum(count.values()) for count in self.counts]
        self.mean_length = sum(self.lengths) / len(pieces)
        self.places: dict[str, list[int]] = {}
        for index, count in enumerate(self.counts):
            for word in count:
                self.places.setdefault(word, []).append(index)
        self.titles: dict[str, int] = {}
        for index, piece in enumerate(pieces):
            title = re.sub(r" \(.*", "", piece.title or "")
            if len(title) > 4:
                self.titles.setdefault(title, index)

    def rarity(self, word: str) -> float:
        """Return the inverse document frequency of a word. It is 0 for a word that is not in the corpus."""
        return math.log(1 + len(self.pieces) / len(self.places[word])) if word in self.places else 0.0

    def similar(self, words: Sequence[str], without: dict[int, Passage], count: int) -> list[int]:
        """Return the indices of the passages that are most similar to some words by BM25.

        The passages in `without` are left out.
        """
        scores: Counter[int] = Counter()
        for word in set(words):
            rarity = self.rarity(word)
            for index in self.places.get(word, ()):
                times = self.counts[index][word]
                norm = times + K1 * (1 - B + B * self.lengths[index] / self.mean_length)
                scores[index] += rarity * times * (K1 + 1) / norm  # type: ignore[assignment]
        ranked = [index for index, _ in scores.most_common(count + len(without)) if index not in without]
        return ranked[:count]

    def about_one(self, index: int, chooser: random.Random) -> _Made | None:
        """Return a question about one passage, or None if the passage has too few or too short sentences.

        The question consists of rare words from one sentence. This sentence is removed from the passage.
        """
        piece = self.pieces[index]
        sentences = _sentences(piece.text)
        long = [sentence for sentence in sentences if len(_words(sentence)) >= 6]
        if len(sentences) < 2 or not long:
            return None
        taken = chooser.choice(long)
        rest = " ".join(sentence for sentence in sentences if sentence is not taken)
        return _Made(self._rare(taken, chooser.randint(4, 8)), {index: Passage(rest, title=piece.title)})

    def about_two(self, index: int, chooser: random.Random) -> _Made | None:
        """Return a question about two passages, or None if the first passage has no title or no suitable link.

        The text of the first passage names the title of the second passage. The question consists of the first
        passage's title and rare words from one sentence of the second passage.
        """
        piece = self.pieces[index]
        linked = [
            (title, other) for title, other in self._named_in(piece.text) if other != index and title != piece.title
        ]
        if not linked or not piece.title:
            return None
        title, other = chooser.choice(linked)
        long = [sentence for sentence in _sentences(self.pieces[other].text) if len(_words(sentence)) >= 6]
        if not long:
            return None
        words = self._rare(chooser.choice(long).replace(title, " "), chooser.randint(3, 6))
        return _Made(f"{piece.title} {words}", {index: piece, other: self.pieces[other]})

    def _named_in(self, text: str) -> Iterator[tuple[str, int]]:
        """Yield each title of `titles` that a text names, with the index of its passage.

        Titles of at most four characters are not in `titles`.
        """
        words = text.split()
        for title, index in self.titles.items():
            if title.split()[0] in words and title in text:
                yield title, index

    def _rare(self, text: str, count: int) -> str:
        """Return the rarest words of a text, in the order of the text."""
        words = _WORD.findall(text)
        rarest = sorted(range(len(words)), key=lambda i: -self.rarity(words[i].lower()))[:count]
        return " ".join(words[i] for i in sorted(rarest))


def _cut(passage: Passage) -> Iterator[Passage]:
    """Yield the parts of a passage, each with at most `CHARACTERS` characters.

    The passage is cut between sentences. Only a sentence that is too long for one part is cut itself.
    """
    part = ""
    for sentence in _sentences(passage.text):
        for start in range(0, len(sentence), CHARACTERS):
            piece = sentence[start : start + CHARACTERS]
            if part and len(part) + len(piece) >= CHARACTERS:
                yield Passage(part, title=passage.title)
                part = ""
            part = f"{part} {piece}" if part else piece
    if part:
        yield Passage(part, title=passage.title)


def _sentences(text: str) -> list[str]:
    return [sentence.strip() for sentence in _SENTENCE.split(text) if sentence.strip()]


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _whole(piece: Passage) -> str:
    return f"{piece.title} {piece.text}" if piece.title else piece.text
