"""A run with two models: one scores, and another one drafts and answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from at2_prune.datasets import Question
from at2_prune.errors import ContextTooLongError, InputError
from at2_prune.models.language_model import LanguageModel
from at2_prune.pruning.pruner import AT2Pruner
from at2_prune.scorers import Scorer, make_scorer
from at2_prune_eval import (
    CachedLoop,
    Experiment,
    ModelCache,
    answer_question,
    evaluate,
    measure_faithfulness,
    text_table,
)
from at2_prune_eval.document.page import results_document
from at2_prune_eval.report.page import report_page
from at2_prune_eval.run.methods import as_methods
from at2_prune_eval.tables.cost import cost_rows
from at2_prune_eval.tables.overview import about_costs
from at2_prune_eval.tables.settings import run_command, run_facts

MAX_NEW_TOKENS = 6
METHODS = ("average_attention", "contribution", "leave_one_out", "bm25")


@pytest.fixture
def scorers() -> list[Scorer]:
    return [make_scorer(name) for name in METHODS]


@pytest.fixture
def both(scorer_lm: LanguageModel, tiny_lm: LanguageModel) -> CachedLoop:
    return CachedLoop(scorer_lm, max_new_tokens=MAX_NEW_TOKENS, reader=tiny_lm)


def test_a_run_keeps_and_answers_as_a_pruner_with_this_reader(
    both: CachedLoop, scorers: list[Scorer], sample_questions: list[Question]
) -> None:
    for question in sample_questions[:2]:
        record = answer_question(both, as_methods(scorers), question, [1, 3, "auto"])
        for scorer in scorers:
            pruner = AT2Pruner(both.language_model, scorer, reader=both.reader, max_new_tokens=MAX_NEW_TOKENS)
            entry = record["methods"][scorer.name]
            for k in (1, 3, "auto"):
                result = pruner.answer(question.text, question.passages, k)  # type: ignore[arg-type]
                found = entry["at"][str(k)]
                assert (found["kept"], found["answer"]) == (result.kept, result.answer)
                assert entry["scores"] == pytest.approx(result.scores, abs=1e-5)
        alone = AT2Pruner(both.reader, scorers[-1], max_new_tokens=MAX_NEW_TOKENS)
        assert record["draft"] == alone.answer_from(question.text, question.passages)
        gold = record["methods"]["oracle"]["at"]["gold"]
        assert gold["answer"] == alone.answer_from(question.text, question.passages, question.gold)
        kept = [question.passages[i] for i in question.gold]
        assert gold["prompt_tokens"] == len(both.reader.encode(question.text, kept))


def test_costs_of_two_models(both: CachedLoop, scorers: list[Scorer], sample_questions: list[Question]) -> None:
    question = sample_questions[0]
    record = answer_question(both, as_methods(scorers), question, [3])
    whole = len(both.reader.encode(question.text, question.passages))
    scoring = len(both.language_model.encode(question.text, question.passages))
    assert (record["prompt_tokens"], record["scoring_prompt_tokens"]) == (whole, scoring)
    drafted = len(both.reader.encode_draft(record["draft"]))
    assert whole <= record["draft_cost"]["tokens"] <= whole + max(drafted, MAX_NEW_TOKENS)
    target = len(both.language_model.encode_draft(record["draft"]))
    for name in ("average_attention", "contribution"):  # the scoring model reads the finished draft in one pass
        assert record["methods"][name]["cost"]["tokens"] == scoring + target - 1
    assert record["methods"]["leave_one_out"]["cost"]["tokens"] > scoring
    assert record["methods"]["bm25"]["cost"]["tokens"] == 0


def test_what_is_kept_of_one_reader_is_not_taken_for_another(
    both: CachedLoop, scorers: list[Scorer], sample_questions: list[Question], silent_lm: LanguageModel
) -> None:
    question, methods = sample_questions[0], as_methods(scorers)
    first = answer_question(both, methods, question, [2])
    again = CachedLoop(both.language_model, both.cache, MAX_NEW_TOKENS, both.reader)
    assert answer_question(again, methods, question, [2]) == first
    itself = CachedLoop(both.reader, both.cache, MAX_NEW_TOKENS)  # finds the reader's answers, and drafts anew
    alone = answer_question(itself, methods, question, [2])
    fresh = answer_question(CachedLoop(both.reader, None, MAX_NEW_TOKENS), methods, question, [2])
    assert alone["methods"]["average_attention"]["scores"] == fresh["methods"]["average_attention"]["scores"]
    assert "scoring_prompt_tokens" not in alone
    silent = answer_question(
        CachedLoop(both.language_model, both.cache, MAX_NEW_TOKENS, silent_lm), methods, question, [2]
    )
    assert (silent["draft"], silent["methods"]["average_attention"]["fell_back"]) == ("", True)
    assert silent["methods"]["bm25"]["at"]["2"]["kept"] == first["methods"]["bm25"]["at"]["2"]["kept"]


def test_results_name_the_reader(
    both: CachedLoop, scorers: list[Scorer], sample_questions: list[Question], tmp_path: Path
) -> None:
    experiment = Experiment(scorers, sample_questions[:3], [1, 3], {"name": "sample"})
    results = evaluate(both, experiment, tmp_path / "run")
    reader = results["config"]["reader"]
    assert (results["config"]["model"], reader["model"]) == (both.language_model.name, both.reader.name)
    assert reader["weights"] != results["config"]["weights"]
    assert results["prompt"].startswith(both.reader.template.around("?")[0][0].text)
    facts = dict(run_facts(results))
    assert (facts["Scoring model"], facts["Reader"]) == (both.language_model.name, both.reader.name)
    assert f"--reader {both.reader.name}" in run_command(results)
    assert "passes of the reader" in cost_rows(results)[0]
    assert "reader tokens" in text_table(results)
    assert f"The reader is {both.reader.name}, and {both.language_model.name} scores." in about_costs(results)
    assert about_costs(results) in (tmp_path / "run" / "table.md").read_text()
    page = results_document(results)
    assert f"reader is {both.reader.name}, which writes drafts" in page
    records = [json.loads(line) for line in (tmp_path / "run" / "questions.jsonl").read_text().splitlines()]
    assert f'<h1 class="input" dir="auto" lang="">{both.reader.name}, with passages' in report_page(results, records)
    columns = {row[0]: dict(zip(cost_rows(results)[0], row, strict=True)) for row in cost_rows(results)}
    assert columns["Average attention"]["passes of the scorer"].startswith("1.0")
    assert columns["Average attention"]["passes of the reader"] == "1.00"
    assert columns["BM25"]["passes of the reader"] == "0.00"


def test_another_reader_is_refused(
    both: CachedLoop, scorers: list[Scorer], sample_questions: list[Question], tmp_path: Path
) -> None:
    experiment = Experiment(scorers[-1:], sample_questions[:2], [1], {"name": "sample"})
    evaluate(both, experiment, tmp_path)
    evaluate(both, experiment, tmp_path)  # the same one goes on
    one = CachedLoop(both.language_model, both.cache, MAX_NEW_TOKENS)
    with pytest.raises(InputError, match=r"reader\.model: 'tiny-random-llama' there, None now"):
        evaluate(one, experiment, tmp_path)
    renamed = LanguageModel(both.reader.model, both.reader.tokenizer, name="another")  # type: ignore[arg-type]
    other = CachedLoop(both.language_model, both.cache, MAX_NEW_TOKENS, renamed)
    with pytest.raises(InputError, match=r"reader\.model: 'tiny-random-llama' there, 'another' now"):
        evaluate(other, experiment, tmp_path)


def test_questions_must_fit_the_models_that_read_them(
    both: CachedLoop, scorers: list[Scorer], sample_questions: list[Question], tmp_path: Path, monkeypatch: Any
) -> None:
    experiment = Experiment(scorers[-1:], sample_questions[:1], [1], {"name": "sample"})
    monkeypatch.setattr(both.language_model.model.config, "max_position_embeddings", 100)
    evaluate(both, experiment, tmp_path / "bm25")  # no method reads the scoring model's prompt
    with pytest.raises(ContextTooLongError, match="tiny-random-gemma has a context of 100 tokens: leave out"):
        evaluate(both, replace(experiment, scorers=scorers), tmp_path / "all")
    monkeypatch.setattr(both.reader.model.config, "max_position_embeddings", 90)
    with pytest.raises(ContextTooLongError, match="tiny-random-llama has a context of 90 tokens: leave out"):
        evaluate(both, experiment, tmp_path / "reader")


def test_faithfulness_is_of_one_model(
    both: CachedLoop, scorers: list[Scorer], sample_questions: list[Question]
) -> None:
    with pytest.raises(InputError, match="measure it with one model, without a reader"):
        measure_faithfulness(both, scorers, sample_questions[0])


def test_the_cache_file_is_shared(both: CachedLoop, sample_questions: list[Question], tmp_path: Path) -> None:
    cache = ModelCache(tmp_path / "cache.sqlite")
    loop = CachedLoop(both.language_model, cache, MAX_NEW_TOKENS, both.reader)
    prompt = loop.reader.encode(sample_questions[0].text, sample_questions[0].passages)
    written = loop.write_drafts([prompt])[0]
    again = CachedLoop(both.language_model, ModelCache(tmp_path / "cache.sqlite"), MAX_NEW_TOKENS, both.reader)
    assert again.write_drafts([prompt])[0] == written
