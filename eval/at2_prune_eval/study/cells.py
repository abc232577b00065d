"""Compute the numbers of a study's page from the study's files: cells, pooled means and paired differences.

The cells hold only numbers, and no text of the data sets. They can therefore be published, as `results.json`. The page
can be written again from the published cells.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from at2_prune.bootstrap import Estimate, bootstrap_pooled
from at2_prune.catalogue import label_of
from at2_prune.errors import DataError
from at2_prune.files import read_text

from ..k_values import ALL
from ..loop.digests import json_digest
from ..metrics import answer_scores, gold_recall
from ..tables.cells import main_method
from .answer import NEEDED
from .folder import StudyFolder
from .lines import read_lines
from .settings import Method

__all__ = ["BASELINES", "Cell", "Cells", "Key", "Part", "as_json", "load_cells", "read_cells"]

BASELINES = ("none", "bm25", "dense", "cross_encoder")
"""The methods of the catalogue with which other methods are compared if the study names none."""
Key = tuple[str, str]
"""The name of a method, and a value of k as a string."""


@dataclass
class Cell:
    """The results of a method at one k, for one reader and one data set. A list has one value for each question."""

    f1: list[float] = field(default_factory=list)
    tokens: list[float] = field(default_factory=list)
    """The number of tokens that the reader read."""
    choosing: list[float] = field(default_factory=list)
    """The seconds that the method took to order the passages."""
    answering: list[float] = field(default_factory=list)
    """The seconds that the reader took to answer."""
    recall: list[float] = field(default_factory=list)
    """The share of the gold passages that were kept. This list leaves out questions without gold passages."""


@dataclass
class Part:
    """The answers of one reader to the questions of one data set."""

    cells: dict[Key, Cell]
    questions: int
    empty: int
    """The number of empty answers."""
    answers: int
    """The number of answers."""
    about: dict[str, Any]
    """The settings of the reader."""
    where: list[dict[str, Any]]
    """The devices and batch sizes with which the reader wrote the answers."""
    digest: str = ""
    """A digest of the questions and their passages, in their order. It is empty in results of earlier versions."""


@dataclass
class Cells:
    """The complete parts of a study, and the other facts that the study's page states."""

    title: str
    parts: dict[tuple[str, str], Part]
    """The complete parts, by reader and data set."""
    missing: dict[tuple[str, str], tuple[int, int]]
    """The parts that are not complete, by reader and data set. The two numbers are the number of needed answers that
    the file has, and the number of needed answers."""
    labels: dict[str, str]
    """The label of each method."""
    subject: str
    """The name of the method that the forest plot compares with the baselines."""
    baselines: list[str]
    """The names of the methods with which other methods are compared."""
    devices: dict[str, list[str]]
    """The devices on which each method ordered the passages."""
    file: str = ""
    """The YAML file of the study. It is empty if the file is not known."""

    @property
    def readers(self) -> list[str]:
        return list(dict.fromkeys(reader for reader, _ in self.parts))

    @property
    def keys(self) -> list[Key]:
        """The pairs of a method and a k, in the order of the study."""
        return list(next(iter(self.parts.values())).cells)

    def data_of(self, readers: Sequence[str]) -> list[str]:
        """Return the data sets whose questions all of these readers have answered."""
        names = dict.fromkeys(data for _, data in self.parts)
        return [data for data in names if all((reader, data) in self.parts for reader in readers)]

    def groups(self, key: Key, what: str, readers: Sequence[str], data: Sequence[str]) -> list[list[float]]:
        """Return one list for each data set. A list holds one value for each question: the mean over the readers."""
        found = []
        for one in data:
            values = [getattr(self.parts[reader, one].cells[key], what) for reader in readers]
            found.append([sum(each) / len(each) for each in zip(*values, strict=True)])
        return found

    def mean(self, key: Key, what: str, readers: Sequence[str], data: Sequence[str]) -> Estimate:
        return bootstrap_pooled(self.groups(key, what, readers, data))

    def difference(self, key: Key, baseline: str, readers: Sequence[str], data: Sequence[str]) -> Estimate | None:
        """Estimate the mean paired difference in F1 between a method and a baseline.

        The baseline is taken at the same k. If the baseline is no pruning, it keeps all passages. The result is None
        if there is no such baseline, or if it is the method itself.
        """
        other = (baseline, ALL) if (baseline, ALL) in self.keys else (baseline, key[1])
        return None if other == key or other not in self.keys else self.gain(key, other, readers, data)

    def gain(self, key: Key, other: Key, readers: Sequence[str], data: Sequence[str]) -> Estimate:
        """Estimate the mean paired difference in F1 between two cells."""
        groups = [self.groups(one, "f1", readers, data) for one in (key, other)]
        return bootstrap_pooled(
            [[new - old for new, old in zip(*pair, strict=True)] for pair in zip(*groups, strict=True)]
        )


def load_cells(folder: StudyFolder) -> Cells:
    """Read the files of a study, and compute its cells.

    Raises:
        DataError: a file is missing or damaged, or no reader has answered a whole data set.
    """
    study = folder.study
    parts, missing = {}, {}
    for reader in study.readers:
        for data in study.data:
            part, counts = _part(folder, reader, data)
            if part is None:
                missing[reader, data] = counts
            else:
                parts[reader, data] = part
    if not parts:
        raise DataError(f"{folder.path}: no reader has answered a whole data set; run the stage answer first")
    kinds = {name: method.method for name, method in study.methods.items()}
    labels = {name: _label(name, method) for name, method in study.methods.items()}
    baselines = study.baselines or [name for one in BASELINES for name, kind in kinds.items() if kind == one]
    devices = {name: _devices(folder, name) for name in study.methods}
    subject = study.subject or main_method(kinds)
    return Cells(study.title, parts, missing, labels, subject, baselines, devices, folder.file)


def as_json(cells: Cells) -> str:
    """Return the text of a `results.json` that holds the cells."""
    parts = []
    for (reader, data), part in cells.parts.items():
        found = [{"method": name, "k": k, **asdict(cell)} for (name, k), cell in part.cells.items()]
        facts = {name: value for name, value in vars(part).items() if name != "cells"}
        parts.append({"reader": reader, "data": data, **facts, "cells": found})
    rest = {name: value for name, value in vars(cells).items() if name not in ("parts", "missing")}
    missing = [[reader, data, *counts] for (reader, data), counts in cells.missing.items()]
    return json.dumps({**rest, "missing": missing, "parts": parts}, ensure_ascii=False, allow_nan=False) + "\n"


def read_cells(path: Path) -> Cells:
    """Read the cells from a `results.json` of a study.

    Raises:
        DataError: the file cannot be read, or it does not hold the results of a study.
    """
    try:
        found: Mapping[str, Any] = json.loads(read_text(path))
        parts = {}
        for given in found["parts"]:
            one = dict(given)
            key = one.pop("reader"), one.pop("data")
            cells = {(cell.pop("method"), cell.pop("k")): Cell(**cell) for cell in one.pop("cells")}
            parts[key] = Part(cells, **one)
        missing = {(reader, data): (done, needed) for reader, data, done, needed in found["missing"]}
        return Cells(**{**found, "parts": parts, "missing": missing})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: does not hold results of a study ({type(error).__name__}: {error})") from None


def _part(folder: StudyFolder, reader: str, data: str) -> tuple[Part | None, tuple[int, int]]:
    """Return the part, or None if the part is not complete.

    Also return the number of needed answers that the file has, and the number of needed answers.
    """
    questions = folder.questions(data)
    lines = read_lines(folder.answers_file(reader, data), NEEDED)
    answers = {(record["id"], tuple(record["kept"])): record for record in lines.records}
    kept = folder.kept(data, questions, reader)
    rankings = {name: folder.rankings(name, data, questions, reader) for name in folder.study.methods}
    wanted = {(name, some) for name, sets in kept.items() for some in sets.values()}
    counts = (len(wanted & answers.keys()), len(wanted))
    if counts[0] < counts[1]:
        return None, counts
    cells: dict[Key, Cell] = {}
    truths = {question.id: question.answers for question in questions}
    scores = {one: answer_scores(answers[one]["answer"], truths[one[0]]).f1 for one in wanted}
    for question in questions:
        for key, some in kept[question.id].items():
            record, cell = answers[question.id, some], cells.setdefault(key, Cell())
            cell.f1.append(scores[question.id, some])
            cell.tokens.append(record["prompt_tokens"])
            cell.choosing.append(rankings[key[0]][question.id].get("seconds") or 0.0)
            cell.answering.append(record["seconds"])
            if question.gold:
                cell.recall.append(gold_recall(some, question.gold))
    empty = sum(not answers[one]["answer"] for one in wanted)
    digest = json_digest([question.sha256 for question in questions])
    return Part(cells, len(questions), empty, len(wanted), lines.about, lines.where, digest), counts


def _label(name: str, method: Method) -> str:
    if not method.of_reader:
        return label_of(name)
    return f"{label_of(method.method or name)} of the reader" + ("'s draft" if method.draft else "")


def _devices(folder: StudyFolder, method: str) -> list[str]:
    """Return the devices on which a method ordered the passages, without repetitions."""
    study = folder.study
    files = dict.fromkeys(folder.rankings_file(method, data, reader) for reader in study.readers for data in study.data)
    return list(dict.fromkeys(str(where.get("device")) for file in files for where in read_lines(file).where))
