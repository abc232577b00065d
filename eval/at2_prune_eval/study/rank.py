"""Run the stage `rank`: every method orders the passages of every question, once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from at2_prune.catalogue import METHODS, family_of
from at2_prune.errors import AT2PruneError, DataError, InputError
from at2_prune.files import user_path

from .folder import StudyFolder, check_ranking, chosen, load_data
from .lines import adding, read_lines
from .settings import Method, in_full

if TYPE_CHECKING:
    from at2_prune.datasets import Question
    from at2_prune.models.language_model import LanguageModel
    from at2_prune.pruning.pruner import AT2Pruner
    from at2_prune.scorers import Scorer

__all__ = ["rank"]

logger = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]
"""A function that is called with a title, the number of questions that are done, and the number of all questions."""


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
    pairs = chosen(study.methods, study.data, only)
    questions = {data: load_data(study, data) for data in study.data}
    for data, some in questions.items():
        folder.keep_questions(data, some)
    _check_methods(folder, [name for name, data in pairs if _missing(folder, name, data, questions[data])])
    language_model: LanguageModel | None = None
    pruners: dict[str, AT2Pruner] = {}
    for name, data in pairs:
        if study.methods[name].file is not None:
            _copy(folder, name, data)
        missing = _missing(folder, name, data, questions[data])
        if not missing:
            continue
        if name not in pruners:
            language_model = language_model or _scoring_model(folder)
            pruners[name] = _pruner(folder, name, language_model)
        _rank(folder, (name, data), pruners[name], missing, progress)


def _missing(folder: StudyFolder, name: str, data: str, questions: Sequence[Question]) -> list[Question]:
    """Return the questions whose passages a scorer still has to order. Without a scorer, there are none."""
    method = folder.study.methods[name]
    if method.file is not None or method.method in ("none", "oracle"):
        return []
    done = {record["id"] for record in read_lines(folder.rankings_file(name, data), ("id", "ranking")).records}
    return [question for question in questions if question.id not in done]


def _check_methods(folder: StudyFolder, names: Sequence[str]) -> None:
    """Check that the methods and their scoring model can be used, as far as this is known before a model is loaded."""
    from at2_prune.scorers import ScorerOptions
    from at2_prune.scorers.registry import check_scorer

    from .models import checked_name

    if not names:
        return
    model = checked_name(folder.study.scorer, "scorer")
    for name in dict.fromkeys(names):
        method = in_full(folder.study.methods[name], f"method {name}")
        try:
            options = ScorerOptions(embedder=method.embedder, cross_encoder=method.cross_encoder)
            check_scorer(model, method.method, method.coefficients, options)
        except AT2PruneError as error:
            raise InputError(f"method {name}: {error}") from error


def _scoring_model(folder: StudyFolder) -> LanguageModel:
    from .models import load_language_model

    language_model = load_language_model(folder.study.scorer, "scorer")
    language_model.compatibility.measure()  # the time of these forward passes must not count as a method's time
    return language_model


def _pruner(folder: StudyFolder, name: str, language_model: LanguageModel) -> AT2Pruner:
    """Make a pruner with this method, as a user would make it."""
    from at2_prune.pruning.pruner import AT2Pruner

    try:
        scorer = _scorer(in_full(folder.study.methods[name], name), language_model)
        scorer.prepare(language_model.device)
    except AT2PruneError as error:
        raise InputError(f"method {name}: {error}") from error
    return AT2Pruner(language_model, scorer, max_new_tokens=folder.study.max_new_tokens)


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
    folder: StudyFolder, pair: tuple[str, str], pruner: AT2Pruner, questions: Sequence[Question], progress: Progress
) -> None:
    from at2_prune.pruning.selection import top_k

    from .models import describe_device

    name, data = pair
    about = _about(folder, name, data, pruner)
    where = {"device": describe_device(pruner.language_model.device)}
    with adding(folder.rankings_file(name, data), about, where) as add:
        for count, question in enumerate(questions, start=1):
            started = time.perf_counter()
            try:
                scored = pruner.try_score(question.text, question.passages)
            except AT2PruneError as error:
                raise InputError(f"method {name}, data {data}, question {question.id}: {error}") from error
            record: dict[str, Any] = {
                "id": question.id,
                "ranking": top_k(scored.scores, len(scored.scores), "score"),
                "seconds": round(time.perf_counter() - started, 4),
            }
            if scored.error is not None:
                record["fallback"] = str(scored.error)
            add([record])
            progress(f"rank {name}/{data}", count, len(questions))


def _about(folder: StudyFolder, name: str, data: str, pruner: AT2Pruner) -> dict[str, Any]:
    """Return the settings that a method's rankings depend on."""
    from ..loop.identity import describe_scorer
    from .models import describe_model

    scorer, kind = pruner.scorer, folder.study.methods[name].method
    about: dict[str, Any] = {"method": kind, "data": data, "settings": describe_scorer(scorer)}
    if family_of(kind) != "retrieval":  # retrieval methods do not use the language model
        about["scorer"] = describe_model(pruner.language_model)
    return about


def _copy(folder: StudyFolder, name: str, data: str) -> None:
    """Check the rankings in a file that the study names, and copy them into the study's folder."""
    given = Path(str(in_full(folder.study.methods[name], f"method {name}").file).replace("{data}", data))
    if not given.is_file():
        raise DataError(f"method {name}: the file {given} with rankings of {data} does not exist")
    known = read_lines(given, ("id", "ranking"))
    records = {record["id"]: record for record in known.records}
    questions = folder.questions(data)
    for one in questions:
        if one.id not in records:
            raise DataError(f"{given}: there is no ranking of question {one.id!r} of {data}")
        check_ranking(records[one.id], one, given)
    file = folder.rankings_file(name, data)
    done = {record["id"]: record for record in read_lines(file, ("id", "ranking")).records}
    changed = next((one for one in questions if one.id in done and done[one.id] != records[one.id]), None)
    if changed is not None:
        raise InputError(f"{file}: the ranking of question {changed.id!r} differs from {given}; remove {file}")
    about = {"method": "file", "data": data, "file": given.name, "made_with": known.about}
    with adding(file, about, known.where[-1] if known.where else {"device": "unknown"}) as add:
        add(records[one.id] for one in questions if one.id not in done)
