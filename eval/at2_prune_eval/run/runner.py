"""Methods x k over questions, on one process or many; an interrupted run goes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from at2_prune.datasets import Question
from at2_prune.errors import ContextTooLongError, DataError
from at2_prune.models.language_model import LanguageModel
from at2_prune.pruning.selection import K
from at2_prune.scorers import Scorer

from ..loop.cached_loop import CachedLoop
from ..results.summary import summarize
from ..tables.overview import markdown_table, reading
from .config import prompt_text, run_config
from .methods import as_methods, check_ks
from .processes import Processes
from .question import answer_question
from .store import Record, RunStore, with_text

__all__ = ["evaluate", "too_long"]


def evaluate(
    loop: CachedLoop,
    scorers: Sequence[Scorer],
    questions: Sequence[Question],
    ks: Sequence[K],
    out: str | os.PathLike[str],
    *,
    data: Mapping[str, Any],
    skipped: Mapping[str, int] | None = None,
    processes: Processes | None = None,
    progress: Callable[[Record, bool], None] = lambda record, resumed: None,
) -> dict[str, Any]:
    """Answer questions without pruning, pruned by each scorer at each k, and from the gold passages only.

    Writes a line to `out/questions.jsonl` as each question is done, and `out/results.json` and `out/table.md` at the
    end. Called again with the same arguments it goes on where it stopped. Of several processes (`torchrun`) each
    answers its share and the first writes the results, which are those of a single process.

    Args:
        loop: the pruning loop, with its memory.
        scorers: methods that score; their names must differ.
        questions: with answers and gold passages.
        ks: how many passages to keep; duplicates count once, and k of at least a question's passages keeps all. `auto`
            answers from the best 1, 2, 3 and 5 and takes the answer the model is most confident of.
        out: a folder, the same for all processes; one that holds a run with another config is refused.
        data: where the questions come from; recorded, and part of the config.
        skipped: rows of the data that were left out, counted by reason; recorded.
        processes: by default those that `torchrun` started.
        progress: called with each of this process's records, and whether an earlier run had made it.

    Returns:
        The results (see `at2_prune_eval.summarize`); the same in every process.

    Raises:
        InputError: a bad k, two methods of one name, another run's folder.
        DataError: a question without answer or gold passages, ids that repeat, a damaged folder.
        ContextTooLongError: a question that does not fit the model's context. All of these before the first draft.
        CacheError: the folder cannot be written to.
    """
    processes = processes or Processes()
    ks = check_ks(ks)
    methods = as_methods(scorers)
    name = str(data.get("name", "the data"))
    _check_questions(questions, name)
    for question in questions:  # hours into a run is late to learn that one does not fit
        if fault := too_long(loop.language_model, question, loop.max_new_tokens):
            raise ContextTooLongError(fault)
    for scorer in scorers:  # so that no question's seconds include it
        scorer.prepare(loop.language_model.device)
    config = run_config(loop, scorers, questions, ks, data)
    with processes.first_then_others():
        store = RunStore(out, config, part=processes.rank)
    with store.writing():
        done = store.load()
        processes.wait()  # nobody adds a line before all have seen which questions are done
        waiting = [question for question in questions if question.id not in done]
        for question in processes.share([question for question in questions if question.id in done]):
            progress(done[question.id], True)
        for question in processes.share(waiting):
            record = answer_question(loop, methods, question, ks)
            store.add(record)
            progress(record, False)
        processes.wait()
        results = summarize(store.records([question.id for question in questions]), config, skipped or {})
        results["prompt"] = prompt_text(loop.language_model.template)
        processes.wait()
        if processes.rank == 0:
            asked = {question.id: question for question in questions}
            store.merge(
                [*asked], lambda record: with_text(record, asked[record["id"]]) if record["id"] in asked else record
            )
            store.write_results(results)
            store.write("table.md", f"{markdown_table(results)}\n\n{reading(results)}\n")
        processes.wait()
        return results


def _check_questions(questions: Sequence[Question], data_name: str) -> None:
    if not questions:
        raise DataError(f"{data_name}: there is no question to evaluate on")
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise DataError(f"{data_name}: question id {question.id!r} repeats")
        seen.add(question.id)
        if question.answer is None:
            raise DataError(f"{data_name}: question {question.id!r} has no answer, so F1 and EM cannot be computed")
        if not question.gold:
            raise DataError(
                f"{data_name}: question {question.id!r} names no gold passages (supporting_facts), so recall and the "
                "oracle cannot be computed"
            )


def too_long(language_model: LanguageModel, question: Question, max_new_tokens: int = 48) -> str | None:
    """Why a question with its passages does not fit the model's context; None if it does."""
    tokens = len(language_model.encode(question.text, question.passages))
    try:
        language_model.check_length(tokens, max_new_tokens)
    except ContextTooLongError:  # its advice is for pipelines
        return (
            f"question {question.id!r} and its passages take {tokens} tokens and the answer up to {max_new_tokens}, "
            f"but {language_model.name} takes {language_model.context_length} in all: leave it out (--skip-invalid), "
            "or take a model with a longer context"
        )
    return None
