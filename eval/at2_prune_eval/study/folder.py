"""Read and write the questions and rankings of a study, and find the passages that each method keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from at2_prune.errors import AT2PruneError, DataError, InputError
from at2_prune.files import write_atomically

from ..k_values import ALL
from ..loop.digests import json_digest
from .lines import as_lines, read_lines
from .settings import Method, Study, in_full

if TYPE_CHECKING:
    from at2_prune.datasets import Question
    from at2_prune.datasets.formats.parse import Required

__all__ = ["Asked", "Kept", "StudyFolder", "check_ranking", "chosen", "kept_sets", "load_data"]

Kept = tuple[int, ...]
"""The indices of the passages that are kept."""


@dataclass(frozen=True)
class Asked:
    """The parts of a question that the study's folder keeps."""

    id: str
    answers: list[str]
    """The right answers."""
    gold: list[int]
    passages: int
    """The number of the question's passages."""
    sha256: str
    """A digest of the question and its passages."""


class StudyFolder:
    """The files of a study.

    Args:
        path: the folder.
        study: the study's settings.
        file: the YAML file of the settings, as the user named it. The page shows the name.
    """

    def __init__(self, path: Path, study: Study, file: str = "") -> None:
        self.path = path
        self.study = study
        self.file = file

    def rankings_file(self, method: str, data: str, reader: str = "") -> Path:
        """Return the file of a method's rankings. A reader's name counts only if readers have rankings of their own."""
        own = f".{reader}" if self.study.methods[method].of_reader else ""
        return self.path / "rankings" / f"{method}{own}.{data}.jsonl"

    def answers_file(self, reader: str, data: str) -> Path:
        return self.path / "answers" / f"{reader}.{data}.jsonl"

    def questions_file(self, data: str) -> Path:
        return self.path / "questions" / f"{data}.jsonl"

    def questions(self, data: str) -> list[Asked]:
        """Read the questions of a data set from the folder.

        Raises:
            DataError: the file with the questions does not exist, or it is damaged.
        """
        file = self.questions_file(data)
        found = read_lines(file, ("id", "answers", "gold", "passages", "sha256")).records
        if not found:
            raise DataError(f"{file}: does not exist or holds no questions; run the stage rank first")
        return [Asked(**record) for record in found]

    def keep_questions(self, data: str, questions: Sequence[Question]) -> None:
        """Write the questions of a data set into the folder.

        Raises:
            InputError: the folder holds another question with the same id.
        """
        asked = [_asked(question) for question in questions]
        file = self.questions_file(data)
        known = {record["id"]: record for record in read_lines(file).records}
        for one in asked:
            if one.id in known and known[one.id] != asdict(one):
                raise InputError(f"{file}: holds another question of {data} with the id {one.id!r}; use another folder")
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, as_lines(asdict(one) for one in asked))

    def rankings(self, method: str, data: str, questions: Sequence[Asked], reader: str) -> dict[str, dict[str, Any]]:
        """Read the records of a method's rankings of these questions. Return the records by question id.

        A record has the key `ranking`, and `seconds` if the time was measured.

        Raises:
            DataError: a ranking is missing, or a ranking is not an order of the question's passages.
        """
        name = self.study.methods[method].method
        if name in ("none", "oracle"):
            return {one.id: {"ranking": _known_order(one, name), "seconds": 0.0} for one in questions}
        file = self.rankings_file(method, data, reader)
        known = {record["id"]: record for record in read_lines(file, ("id", "ranking")).records}
        for one in questions:
            if one.id not in known:
                raise DataError(f"{file}: there is no ranking of question {one.id!r}; run the stage rank first")
            check_ranking(known[one.id], one, file)
        return known

    def kept(self, data: str, questions: Sequence[Asked], reader: str) -> dict[str, dict[tuple[str, str], Kept]]:
        """Return the sets of passages that a reader sees, by question id, and then by method and k (a string)."""
        sets: dict[str, dict[tuple[str, str], Kept]] = {one.id: {} for one in questions}
        for name, method in self.study.methods.items():
            rankings = self.rankings(name, data, questions, reader)
            for one in questions:
                sets[one.id] |= {
                    (name, k): some for k, some in kept_sets(self.study, method, rankings[one.id]["ranking"])
                }
        return sets


def check_ranking(record: Mapping[str, Any], asked: Asked, file: Path) -> None:
    """Raise `DataError` unless the ranking in a record is an order of all passages of its question."""
    ranking = record["ranking"]
    whole = isinstance(ranking, list) and all(isinstance(index, int) for index in ranking)
    if not whole or sorted(ranking) != list(range(asked.passages)):
        raise DataError(
            f"{file}: the ranking of question {asked.id!r} must hold each index below {asked.passages} once, got "
            f"{ranking!r:.80}"
        )


def kept_sets(study: Study, method: Method, ranking: Sequence[int]) -> Iterator[tuple[str, Kept]]:
    """Yield each k as a string, with the passages that a method keeps, in the order in which the reader sees them."""
    if method.method == "none":
        yield ALL, tuple(range(len(ranking)))
    else:
        for k in study.k:
            yield str(k), tuple(sorted(ranking[:k]))


def load_data(study: Study, name: str) -> list[Question]:
    """Load the questions of a data set.

    Raises:
        InputError: the questions cannot be loaded, or an environment variable is not set. The message begins with the
            data set's name.
        DataError: two questions have the same id.
    """
    from at2_prune.datasets import load_questions

    options = asdict(in_full(study.data[name], f"data {name}"))
    needed: list[Required] = ["answer"]
    if any(method.method == "oracle" for method in study.methods.values()):
        needed.append("gold")
    path = options.pop("path")
    try:
        questions = load_questions(path, require=needed, **options)
    except AT2PruneError as error:
        raise InputError(f"data {name}: {error}") from error
    ids = [question.id for question in questions]
    if repeated := next((one for one in ids if ids.count(one) > 1), None):
        raise DataError(f"data {name}: two questions have the id {repeated!r}; give each question its own id")
    return questions


def chosen(names: Mapping[str, Any], data: Mapping[str, Any], only: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of a name and a data set that match at least one of the patterns `NAME/DATA`.

    Without patterns, return all pairs.

    Raises:
        InputError: a pattern matches no pair.
    """
    pairs = [(name, one) for name in names for one in data]
    for pattern in only:
        if not any(fnmatch(f"{name}/{one}", pattern) for name, one in pairs):
            raise InputError(f"--only {pattern} matches none of {', '.join('/'.join(pair) for pair in pairs)}")
    return [pair for pair in pairs if not only or any(fnmatch("/".join(pair), pattern) for pattern in only)]


def _asked(question: Question) -> Asked:
    shown = [question.text, [[passage.title, passage.text] for passage in question.passages]]
    answers = [question.answer or "", *question.aliases]
    return Asked(question.id, answers, list(question.gold), len(question.passages), json_digest(shown))


def _known_order(asked: Asked, method: str) -> list[int]:
    first = asked.gold if method == "oracle" else []
    return [*first, *(index for index in range(asked.passages) if index not in first)]
