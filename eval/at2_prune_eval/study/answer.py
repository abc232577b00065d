"""Run the stage `answer`: a reader answers from every different set of kept passages, in batches."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from at2_prune.errors import AT2PruneError, ContextTooLongError, InputError

from .folder import Kept, StudyFolder, chosen, load_data
from .lines import adding, read_lines

if TYPE_CHECKING:
    from at2_prune.datasets import Question
    from at2_prune.models.language_model import LanguageModel
    from at2_prune.models.prompts import EncodedPrompt
    from at2_prune.pruning.loop import PruningLoop

__all__ = ["NEEDED", "answer"]

logger = logging.getLogger(__name__)

NEEDED = ("id", "kept", "answer", "prompt_tokens", "seconds")
"""The keys that the record of an answer must have. `seconds` is the time of the batch, divided by the number of
prompts in the batch."""
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class _Prompt:
    """One prompt to answer."""

    id: str
    """The question's id."""
    kept: Kept
    prompt: EncodedPrompt


def answer(folder: StudyFolder, only: Sequence[str], batch_size: int | None, progress: Progress) -> None:
    """Let the readers answer from every set of passages that a method keeps at a k.

    If several methods keep the same set, the reader answers once. The prompts, the generation settings, and the rules
    that end an answer are the same as in `AT2Pruner.answer_batch`.

    Args:
        folder: the study's folder, which must have the rankings.
        only: patterns `READER/DATA` that choose readers and data sets. Without patterns, all readers and data sets are
            chosen. Several processes may run different parts at the same time.
        batch_size: the largest number of prompts in a batch. A batch that does not fit the GPU's memory is made
            smaller. With None, the number is the study's `batch_size` on a GPU, and 1 on a CPU, because on a CPU
            padding costs more time than a batch saves.
        progress: a function that is called after every batch.

    Raises:
        InputError: a reader or a data set cannot be used.
        DataError: a ranking is missing, or a file is damaged.
    """
    from .models import load_language_model

    pairs = chosen(folder.study.readers, folder.study.data, only)
    waiting = {pair: _waiting(folder, pair) for pair in pairs}
    for reader in dict.fromkeys(reader for reader, _ in pairs):
        mine = {data: waiting[reader, data] for name, data in pairs if name == reader and waiting[reader, data]}
        if not mine:
            continue
        language_model = load_language_model(folder.study.readers[reader], f"reader {reader}")
        prompts = {data: _encoded(folder, language_model, (reader, data), some) for data, some in mine.items()}
        size = batch_size or (folder.study.batch_size if language_model.batching_pays else 1)
        for data, some in prompts.items():
            _answer(folder, language_model, (reader, data), some, size, progress)


def _waiting(folder: StudyFolder, pair: tuple[str, str]) -> dict[str, list[Kept]]:
    """Return the sets of passages from which the reader has not answered yet, by question id."""
    reader, data = pair
    questions = folder.questions(data)
    records = read_lines(folder.answers_file(reader, data), NEEDED).records
    done = {(record["id"], tuple(record["kept"])) for record in records}
    wanted = folder.kept(data, questions, reader)
    missing = {
        name: [some for some in dict.fromkeys(sets.values()) if (name, some) not in done]
        for name, sets in wanted.items()
    }
    return {name: sets for name, sets in missing.items() if sets}


def _encoded(
    folder: StudyFolder, language_model: LanguageModel, pair: tuple[str, str], waiting: Mapping[str, Sequence[Kept]]
) -> list[_Prompt]:
    """Return the prompts, the longest first. If batches are too large for the memory, the first batch already fails.

    Raises:
        InputError: a prompt does not fit the reader's context, or the reader's template cannot show a question.
    """
    from at2_prune.passages import only_kept

    reader, data = pair
    questions = {question.id: question for question in load_data(folder.study, data)}
    _check_same(folder, data, questions)
    prompts = []
    for name, sets in waiting.items():
        question = questions[name]
        for kept in sets:
            try:
                shown = only_kept(question.passages, kept, "passage")
                prompt = language_model.encode(question.text, shown)
                language_model.check_length(len(prompt), folder.study.max_new_tokens)
            except ContextTooLongError as error:
                raise InputError(
                    f"reader {reader}, data {data}, question {name}, {len(kept)} passages: {error}; no question of "
                    f"{data} was answered; leave out {reader} or {data} in the study"
                ) from None
            except AT2PruneError as error:
                raise InputError(f"reader {reader}, data {data}, question {name}: {error}") from error
            prompts.append(_Prompt(name, kept, prompt))
    return sorted(prompts, key=lambda one: -len(one.prompt))


def _check_same(folder: StudyFolder, data: str, questions: Mapping[str, Question]) -> None:
    """Raise `InputError` unless the questions include all questions that were ranked, with the same text."""
    if missing := next((one.id for one in folder.questions(data) if one.id not in questions), None):
        raise InputError(f"data {data}: question {missing!r} was ranked, but {folder.study.data[data].path} lacks it")
    folder.keep_questions(data, [questions[one.id] for one in folder.questions(data)])


def _answer(
    folder: StudyFolder,
    language_model: LanguageModel,
    pair: tuple[str, str],
    prompts: Sequence[_Prompt],
    batch_size: int,
    progress: Progress,
) -> None:
    from at2_prune.pruning.loop import PruningLoop

    from .models import describe_device, describe_model

    reader, data = pair
    loop = PruningLoop(language_model, folder.study.max_new_tokens)
    about = {"reader": reader, "data": data, **describe_model(language_model), "max_new_tokens": loop.max_new_tokens}
    where = {"device": describe_device(language_model.device), "batch_size": batch_size}
    empty = done = 0
    with adding(folder.answers_file(reader, data), about, where) as add:
        for records in _batches(loop, reader, prompts, batch_size):
            add(records)
            done += len(records)
            empty += sum(not record["answer"] for record in records)
            progress(f"answer {reader}/{data}", done, len(prompts))
    if empty:
        logger.warning("reader %s wrote nothing for %d of %d prompts of %s", reader, empty, len(prompts), data)


def _batches(
    loop: PruningLoop, reader: str, prompts: Sequence[_Prompt], batch_size: int
) -> Iterator[list[dict[str, Any]]]:
    """Answer the prompts in batches, and yield the records of each batch.

    If a batch does not fit the GPU's memory, it is tried again with at most half of its tokens. Later batches have no
    more tokens than that.

    Raises:
        InputError: a batch of one prompt does not fit the GPU's memory.
    """
    import torch

    start, most = 0, math.inf
    while start < len(prompts):
        longest = len(prompts[start].prompt)  # the prompts are sorted, the longest first
        batch = prompts[start : start + int(max(1, min(batch_size, most // longest)))]
        started = time.perf_counter()
        drafts = None
        try:
            drafts = loop.write_drafts([one.prompt for one in batch])
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise InputError(
                    f"reader {reader}: a prompt of {longest} tokens does not fit the GPU's memory; use a smaller model"
                ) from error
        if drafts is None:  # this is not inside `except`, because there the error object keeps the memory in use
            torch.cuda.empty_cache()
            most = longest * len(batch) // 2
            continue
        seconds = round((time.perf_counter() - started) / len(batch), 4)
        yield [
            {
                "reader": reader,
                "id": one.id,
                "kept": list(one.kept),
                "answer": draft.text,
                "prompt_tokens": len(one.prompt),
                "seconds": seconds,
            }
            for one, draft in zip(batch, drafts, strict=True)
        ]
        start += len(batch)
