"""Run the stage `rank`: every method orders the passages of every question, once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from at2_prune.catalogue import METHODS, family_of
from at2_prune.errors import AT2PruneError, DataError, InputError
from at2_prune.files import user_path

from .folder import StudyFolder, check_ranking, chosen, load_data
from .lines import adding, read_lines
from .settings import Method, Model, Study, in_full

if TYPE_CHECKING:
    from at2_prune.datasets import Question
    from at2_prune.models.language_model import LanguageModel
    from at2_prune.pruning.pruner import AT2Pruner
    from at2_prune.scorers import Scorer

__all__ = ["rank"]

logger = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]
"""A function that is called with a title, the number of questions that are done, and the number of all questions."""


@dataclass(frozen=True)
class _Order:
    """The rankings of one file: those of a method on a data set, and of a reader if each reader has its own."""

    method: str
    data: str
    reader: str = ""
    """The reader that the rankings are for. It scores the passages, or writes the drafts, or both."""
    reader_scores: bool = False

    @property
    def title(self) -> str:
        """The words that a progress bar shows."""
        reader = f" {'by' if self.reader_scores else 'for'} {self.reader}" if self.reader else ""
        return f"rank {self.method}/{self.data}{reader}"

    @property
    def role(self) -> str:
        """The words that error messages use for the scoring model."""
        return f"reader {self.reader}" if self.reader_scores else "scorer"

    def scorer_of(self, study: Study) -> Model:
        """Return the settings of the scoring model."""
        return study.readers[self.reader] if self.reader_scores else study.scorer

    def drafter_of(self, study: Study) -> Model | None:
        """Return the settings of the model that writes drafts, or None if it is the scoring model."""
        reader = study.readers[self.reader] if study.methods[self.method].draft else None
        return None if reader == study.scorer else reader


@dataclass(frozen=True)
class _Models:
    """The models that a ranking needs."""

    scorer: LanguageModel
    drafter: LanguageModel | None
    """The model that writes drafts, or None if it is the scoring model."""


def rank(folder: StudyFolder, only: Sequence[str], progress: Progress) -> None:
    """Order the passages by every method, and write the rankings and the questions.

    Args:
        folder: the study's folder.
        only: patterns `METHOD/DATA` that choose methods and data sets. Without patterns, all methods and data sets are
            chosen.
        progress: a function that is called after every question.

    Raises:
        InputError: a method or a data set cannot be used.
        DataError: rankings from a file do not belong to the questions.
        CacheError: the folder cannot be written.
    """
    study = folder.study
    orders = _orders(study, chosen(study.methods, study.data, only))
    questions = {data: load_data(study, data) for data in study.data}
    for data, some in questions.items():
        folder.keep_questions(data, some)
    _check_methods(study, [one for one in orders if _missing(folder, one, questions[one.data])])
    settings: tuple[Model, Model | None] | None = None
    models: _Models | None = None  # no other models are kept in memory
    pruners: dict[str, AT2Pruner] = {}
    for order in orders:
        if study.methods[order.method].file is not None:
            _copy(folder, order)
        missing = _missing(folder, order, questions[order.data])
        if not missing:
            continue
        needed = order.scorer_of(study), order.drafter_of(study)
        if models is None or settings != needed:
            pruners, models = {}, None
            settings, models = needed, _load_models(*needed, order)
        if order.method not in pruners:
            pruners[order.method] = _pruner(study, order, models)
        _rank(folder, order, pruners[order.method], missing, progress)


def _orders(study: Study, pairs: Sequence[tuple[str, str]]) -> list[_Order]:
    """Return the rankings to make. Those of the study's scoring model come first, and then those of each reader."""
    shared = [_Order(name, data) for name, data in pairs if not study.methods[name].of_reader]
    own = [
        _Order(name, data, one, study.methods[name].scorer is not None)
        for one in study.readers
        for name, data in pairs
        if study.methods[name].of_reader
    ]
    return shared + own


def _settings(study: Study, order: _Order) -> Method:
    """Return the settings of a method, with the reader's name in the path of the coefficients."""
    method = in_full(study.methods[order.method], f"method {order.method}")
    return replace(method, coefficients=method.coefficients and method.coefficients.replace("{reader}", order.reader))


def _missing(folder: StudyFolder, order: _Order, questions: Sequence[Question]) -> list[Question]:
    """Return the questions whose passages a scorer still has to order. Without a scorer, there are none."""
    method = folder.study.methods[order.method]
    if method.file is not None or method.method in ("none", "oracle"):
        return []
    file = folder.rankings_file(order.method, order.data, order.reader)
    done = {record["id"] for record in read_lines(file, ("id", "ranking")).records}
    return [question for question in questions if question.id not in done]


def _check_methods(study: Study, orders: Sequence[_Order]) -> None:
    """Check that the methods and their scoring models can be used, as far as this is known before a model is loaded."""
    from at2_prune.scorers import ScorerOptions
    from at2_prune.scorers.registry import check_scorer

    from .models import checked_name

    models = {one.role: checked_name(one.scorer_of(study), one.role) for one in orders}
    for reader in dict.fromkeys(one.reader for one in orders if one.drafter_of(study)):
        checked_name(study.readers[reader], f"reader {reader}")
    for order in {(one.method, one.reader): one for one in orders}.values():
        method = _settings(study, order)
        try:
            options = ScorerOptions(embedder=method.embedder, cross_encoder=method.cross_encoder)
            check_scorer(models[order.role], method.method, method.coefficients, options)
        except AT2PruneError as error:
            raise InputError(f"method {order.method}: {error}") from error


def _load_models(scorer: Model, drafter: Model | None, order: _Order) -> _Models:
    from .models import load_language_model

    language_model = load_language_model(scorer, order.role)
    language_model.compatibility.measure()  # the time of these forward passes must not count as a method's time
    return _Models(language_model, load_language_model(drafter, f"reader {order.reader}") if drafter else None)


def _pruner(study: Study, order: _Order, models: _Models) -> AT2Pruner:
    """Make a pruner with this method, as a user would make it."""
    from at2_prune.pruning.pruner import AT2Pruner

    try:
        scorer = _scorer(_settings(study, order), models.scorer)
        scorer.prepare(models.scorer.device)
    except AT2PruneError as error:
        raise InputError(f"method {order.method}: {error}") from error
    return AT2Pruner(models.scorer, scorer, reader=models.drafter, max_new_tokens=study.max_new_tokens)


def _scorer(method: Method, language_model: LanguageModel) -> Scorer:
    from at2_prune.coefficients.loading import load_coefficients
    from at2_prune.scorers import ScorerOptions, make_scorer

    wanted = METHODS[method.method].coefficients if method.method in METHODS else ""
    loaded = {wanted: load_coefficients(language_model, method.coefficients, wanted)} if wanted else {}
    embedder, reranker = (_as_path(name) for name in (method.embedder, method.cross_encoder))
    return make_scorer(method.method, ScorerOptions(loaded, embedder, reranker, seed=method.seed))


def _as_path(name: str | None) -> Any:
    """Return a folder as a `Path`, and a Hub id unchanged. The study's files record only the end of a `Path`."""
    return user_path(name) if name is not None and user_path(name).exists() else name


def _rank(
    folder: StudyFolder, order: _Order, pruner: AT2Pruner, questions: Sequence[Question], progress: Progress
) -> None:
    from at2_prune.pruning.selection import top_k

    from .models import describe_device

    about = _about(folder, order, pruner)
    where = {"device": describe_device(pruner.language_model.device)}
    with adding(folder.rankings_file(order.method, order.data, order.reader), about, where) as add:
        for count, question in enumerate(questions, start=1):
            started = time.perf_counter()
            try:
                scored = pruner.try_score(question.text, question.passages)
            except AT2PruneError as error:
                raise InputError(
                    f"method {order.method}, data {order.data}, question {question.id}: {error}"
                ) from error
            record: dict[str, Any] = {
                "id": question.id,
                "ranking": top_k(scored.scores, len(scored.scores), "score"),
                "seconds": round(time.perf_counter() - started, 4),
            }
            if scored.error is not None:
                record["fallback"] = str(scored.error)
            add([record])
            progress(order.title, count, len(questions))


def _about(folder: StudyFolder, order: _Order, pruner: AT2Pruner) -> dict[str, Any]:
    """Return the settings that a method's rankings depend on."""
    from ..loop.identity import describe_scorer
    from .models import describe_model

    scorer, kind = pruner.scorer, folder.study.methods[order.method].method
    about: dict[str, Any] = {"method": kind, "data": order.data, "settings": describe_scorer(scorer)}
    if family_of(kind) != "retrieval":  # retrieval methods do not use the language model
        about["scorer"] = describe_model(pruner.language_model)
    if pruner.reader is not pruner.language_model:
        about["drafts"] = {**describe_model(pruner.reader), "max_new_tokens": folder.study.max_new_tokens}
    return about


def _copy(folder: StudyFolder, order: _Order) -> None:
    """Check the rankings in a file that the study names, and copy them into the study's folder."""
    data, path = order.data, str(in_full(folder.study.methods[order.method], f"method {order.method}").file)
    given = Path(path.replace("{data}", data).replace("{reader}", order.reader))
    if not given.is_file():
        raise DataError(f"method {order.method}: the file {given} with rankings of {data} does not exist")
    known = read_lines(given, ("id", "ranking"))
    records = {record["id"]: record for record in known.records}
    questions = folder.questions(data)
    for one in questions:
        if one.id not in records:
            raise DataError(f"{given}: there is no ranking of question {one.id!r} of {data}")
        check_ranking(records[one.id], one, given)
    file = folder.rankings_file(order.method, data, order.reader)
    done = {record["id"]: record for record in read_lines(file, ("id", "ranking")).records}
    changed = next((one for one in questions if one.id in done and done[one.id] != records[one.id]), None)
    if changed is not None:
        raise InputError(f"{file}: the ranking of question {changed.id!r} differs from {given}; remove {file}")
    about = {"method": "file", "data": data, "file": given.name, "made_with": known.about}
    with adding(file, about, known.where[-1] if known.where else {"device": "unknown"}) as add:
        add(records[one.id] for one in questions if one.id not in done)
