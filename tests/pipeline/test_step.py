from __future__ import annotations

import doctest
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

import at2_prune.pipeline.step
import at2_prune.pruning.selection
from at2_prune import AT2Pruner, Passage, Question
from at2_prune.errors import ContextTooLongError, InputError
from at2_prune.pipeline.config import PruneConfig
from at2_prune.pipeline.pruners import MODEL_SETTINGS
from at2_prune.pipeline.step import PruneStep


@pytest.fixture
def question(sample_questions: list[Question]) -> Question:
    return sample_questions[0]


def tokens(pruner: AT2Pruner, texts: list[str]) -> int:
    return sum(len(pruner.language_model.codec.plain(text)[0]) for text in texts)


def test_examples_in_docstrings() -> None:
    for module in (at2_prune.pipeline.step, at2_prune.pruning.selection):
        assert doctest.testmod(module).failed == 0


def test_keeps_what_the_pruner_keeps(tiny_pruner: AT2Pruner, question: Question) -> None:
    pruned = PruneStep(PruneConfig(top_n=3), tiny_pruner).run(question.text, question.passages)
    result = tiny_pruner.answer(question.text, question.passages, k=3)
    assert [item.index for item in pruned.kept] == result.kept
    assert pruned.scores == pytest.approx(result.scores)
    assert pruned.draft == result.draft
    assert [item.text for item in pruned.kept] == [question.passages[i].text for i in result.kept]
    assert sorted([*result.kept, *(item.index for item in pruned.dropped)]) == list(range(10))
    assert all("the top 3 are kept" in item.reason for item in pruned.dropped)


def test_keeps_the_sentences_the_pruner_keeps(tiny_pruner: AT2Pruner, question: Question) -> None:
    pruned = PruneStep(PruneConfig(top_n=4, granularity="sentence"), tiny_pruner).run(question.text, question.passages)
    by_sentence = AT2Pruner(tiny_pruner.language_model, tiny_pruner.scorer, granularity="sentence", max_new_tokens=8)
    result = by_sentence.answer(question.text, question.passages, k=4)
    shown = by_sentence.shown(list(question.passages), by_sentence.select([s.score for s in result.sources], 4))
    assert [item.text for item in pruned.kept] == [passage.text.strip() for passage in shown]
    assert pruned.scores == pytest.approx(result.scores, abs=1e-7)


def test_order(tiny_pruner: AT2Pruner, question: Question) -> None:
    best_first = PruneStep(PruneConfig(order="score"), tiny_pruner).run(question.text, question.passages).kept
    as_given = PruneStep(PruneConfig(), tiny_pruner).run(question.text, question.passages).kept
    assert [item.score for item in best_first] == sorted((item.score for item in best_first), reverse=True)
    assert sorted(best_first, key=lambda item: item.index) == list(as_given)


def test_a_given_draft_is_what_is_scored(tiny_pruner: AT2Pruner, question: Question) -> None:
    step = PruneStep(PruneConfig(), tiny_pruner)
    elsewhere = step.run(question.text, question.passages, "the river Meuse")
    assert elsewhere.draft == "the river Meuse"
    assert elsewhere.scores == pytest.approx(tiny_pruner.score(question.text, question.passages, "the river Meuse"))
    own = step.draft(question.text, question.passages)
    assert step.run(question.text, question.passages, own) == step.run(question.text, question.passages)


def test_neighbors(tiny_pruner: AT2Pruner, question: Question) -> None:
    config = PruneConfig(granularity="sentence", top_n=1)
    alone = PruneStep(config, tiny_pruner).run(question.text, question.passages).kept
    config = PruneConfig(granularity="sentence", top_n=1, neighbors=1)
    around = PruneStep(config, tiny_pruner).run(question.text, question.passages).kept
    assert len(alone) == len(around) == 1
    sentences = question.passages[alone[0].index].sentences
    assert sentences is not None
    place = [sentence.strip() for sentence in sentences].index(alone[0].text)
    assert around[0].text == "".join(sentences[max(0, place - 1) : place + 2]).strip()


@pytest.mark.parametrize("neighbors", [0, 1])
@pytest.mark.parametrize("budget", [1, 40, 90, 300, 10_000])
def test_token_budget_of_sentences(tiny_pruner: AT2Pruner, question: Question, budget: int, neighbors: int) -> None:
    config = PruneConfig(granularity="sentence", max_tokens=budget, min_documents=0, neighbors=neighbors)
    kept = PruneStep(config, tiny_pruner).run(question.text, question.passages).kept
    assert tokens(tiny_pruner, [item.text for item in kept]) <= budget
    if budget == 10_000:
        assert [item.text for item in kept] == [passage.text for passage in question.passages]


def test_token_budget_takes_the_best_that_fit(tiny_pruner: AT2Pruner, question: Question) -> None:
    sizes = [tokens(tiny_pruner, [passage.text]) for passage in question.passages]
    config = PruneConfig(max_tokens=400, order="score", top_n=1)
    pruned = PruneStep(config, tiny_pruner).run(question.text, question.passages)
    expected, left = [], 400
    for index in sorted(range(10), key=lambda i: -pruned.scores[i]):
        if sizes[index] <= left:
            expected.append(index)
            left -= sizes[index]
    assert [item.index for item in pruned.kept] == expected
    assert len(expected) > 1
    assert "too few of the 400 tokens are left for this source" in pruned.dropped[0].reason
    assert len(PruneStep(config, tiny_pruner).run(question.text, question.passages, k=2).kept) == 2


def test_min_documents(tiny_pruner: AT2Pruner, question: Question) -> None:
    tight = PruneStep(PruneConfig(max_tokens=1), tiny_pruner).run(question.text, question.passages)
    assert [item.index for item in tight.kept] == [max(range(10), key=lambda i: tight.scores[i])]
    config = PruneConfig(granularity="sentence", top_n=1, min_documents=4, order="score")
    assert len(PruneStep(config, tiny_pruner).run(question.text, question.passages).kept) == 4
    config = PruneConfig(min_documents=99)
    assert PruneStep(config, tiny_pruner).run(question.text, question.passages).unchanged


def test_duplicates_are_dropped_before_anything_is_read(tiny_pruner: AT2Pruner, question: Question) -> None:
    first, second, *rest = question.passages
    passages = [first, second, Passage(f" {first.text}\n", title=first.title), second, *rest]
    step = PruneStep(PruneConfig(), tiny_pruner)
    pruned = step.run(question.text, passages)
    alone = step.run(question.text, question.passages)
    reasons = {item.index: item.reason for item in pruned.dropped}
    assert (reasons[2], reasons[3]) == ("repeats passage 0", "repeats passage 1")
    assert [item.text for item in pruned.kept] == [item.text for item in alone.kept]
    assert pruned.scores[2] is None
    assert step.to_draft(passages) == [0, 1, *range(4, 12)]
    keeps = PruneStep(PruneConfig(drop_duplicates=False, top_n=12), tiny_pruner)
    assert keeps.run(question.text, passages).unchanged


@pytest.mark.parametrize("passages", [[], ["one"], ["one", "one ", "one"]])
def test_nothing_to_choose_takes_no_model(passages: list[str]) -> None:
    step = PruneStep(PruneConfig(model="no/such-model"))
    pruned = step.run("Which?", [Passage(text) for text in passages])
    assert [item.text for item in pruned.kept] == passages[:1]
    assert pruned.draft is None
    assert step.to_draft([Passage(text) for text in passages]) == []
    assert step.draft("Which?", [Passage(text) for text in passages]) is None


def test_off_takes_no_model_and_no_torch() -> None:
    code = (
        "import sys; from at2_prune.pipeline.step import PruneStep; from at2_prune.pipeline.config import PruneConfig;"
        "from at2_prune.passages import Passage; passages = [Passage('a'), Passage('b'), Passage('a')];"
        "print(PruneStep(PruneConfig(enabled=False, model='no/such')).run('?', passages).unchanged, "
        "'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "True False\n"


@pytest.mark.parametrize("granularity", ["passage", "sentence"])
def test_an_empty_draft_keeps_the_first(
    tiny_pruner: AT2Pruner, question: Question, granularity: str, caplog: pytest.LogCaptureFixture
) -> None:
    step = PruneStep(PruneConfig(granularity=granularity), tiny_pruner)
    pruned = step.run(question.text, question.passages, " ")
    assert [(item.index, item.text, item.score) for item in pruned.kept] == [
        (index, question.passages[index].text, None) for index in range(3)
    ]
    assert pruned.fallback is not None
    assert pruned.fallback in caplog.text
    assert pruned.fallback in pruned.explain()


@pytest.mark.parametrize("granularity", ["passage", "sentence"])
def test_passages_without_text_are_handed_on_in_their_place(
    tiny_pruner: AT2Pruner, question: Question, granularity: str
) -> None:
    blank = [Passage(""), Passage(""), Passage(" \n", title="a title")]
    first, *rest = question.passages[:5]
    passages = [blank[0], first, blank[1], *rest, blank[2]]
    at = {1: 0, 3: 1, 4: 2, 5: 3, 6: 4}  # the passages with text
    for k in (1, 3):
        step = PruneStep(PruneConfig(granularity=granularity, top_n=k), tiny_pruner)
        pruned, alone = step.run(question.text, passages), step.run(question.text, [first, *rest])
        kept = [item.index for item in pruned.kept]
        assert [at[i] for i in kept if i in at] == [item.index for item in alone.kept]
        assert kept == sorted(kept)
        assert {0, 2, 7} <= {*kept}
        assert [pruned.scores[i] for i in (0, 2, 7)] == [None] * 3
        assert [pruned.scores[i] for i in at] == alone.scores
        assert step.to_draft(passages) == list(range(8))
        own = step.draft(question.text, passages)
        assert step.run(question.text, passages, own) == pruned
        silent = step.run(question.text, passages, " ")  # nothing is scored: the first with text are kept
        assert [item.index for item in silent.kept] == ([0, 1, 2, 7] if k == 1 else [0, 1, 2, 3, 4, 7])
    best_first = PruneStep(PruneConfig(granularity=granularity, top_n=2, order="score"), tiny_pruner)
    assert [item.index for item in best_first.run(question.text, passages).kept][-3:] == [0, 2, 7]
    budget = PruneStep(PruneConfig(granularity=granularity, max_tokens=1, min_documents=1), tiny_pruner)
    assert len(budget.run(question.text, passages).kept) == 4


def test_passages_without_text_take_no_model() -> None:
    step = PruneStep(PruneConfig(model="no/such-model"))
    passages = [Passage(""), Passage("one"), Passage("", title="t"), Passage(" one"), Passage("")]
    pruned = step.run("Which?", passages)
    assert [item.index for item in pruned.kept] == [0, 1, 2, 4]
    assert [item.reason for item in pruned.dropped] == ["repeats passage 1"]
    assert step.run("Which?", [Passage(""), Passage("", title="t")]).unchanged
    assert step.to_draft(passages) == []


def test_overflow(tiny_pruner: AT2Pruner, question: Question) -> None:
    passages = [Passage(f"{n} {passage.text}", passage.title) for n in range(4) for passage in question.passages]
    pruned = PruneStep(PruneConfig(), tiny_pruner).run(question.text, passages, "the river Meuse")
    assert len(pruned.kept) == 3
    assert None not in pruned.scores
    step = PruneStep(PruneConfig(overflow="error"), tiny_pruner)
    with pytest.raises(ContextTooLongError):
        step.run(question.text, passages)
    with pytest.raises(ContextTooLongError):
        step.draft(question.text, passages)
    assert PruneStep(PruneConfig(), tiny_pruner).draft(question.text, passages) is None


def test_strings_and_mappings_are_passages_too(tiny_pruner: AT2Pruner, question: Question) -> None:
    step = PruneStep(PruneConfig(), tiny_pruner)
    mappings = [{"title": p.title, "text": p.text} for p in question.passages]
    found, expected = step.run(question.text, iter(mappings)), step.run(question.text, question.passages)
    assert (found.kept, found.dropped) == (expected.kept, expected.dropped)
    assert step.to_draft(["one", "two", "one"]) == [0, 1]
    with pytest.raises(InputError, match="passage 1 must be a string or an object with a 'text'"):
        step.run(question.text, ["one", None])


def test_mistakes(tiny_pruner: AT2Pruner, question: Question) -> None:
    step = PruneStep(PruneConfig(), tiny_pruner)
    with pytest.raises(InputError, match="at least 1, got 0"):
        step.run(question.text, question.passages, k=0)
    with pytest.raises(InputError, match="question must be a text"):
        step.run("", question.passages)


def test_explain_and_log(tiny_pruner: AT2Pruner, question: Question, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "at2_prune.pipeline.step"):
        pruned = PruneStep(PruneConfig(), tiny_pruner).run(question.text, question.passages)
    assert pruned.explain() in caplog.text
    lines = pruned.explain().splitlines()
    assert len(lines) == 11
    assert sum(line.startswith("  dropped") for line in lines) == 7
    assert "Theobald Boehm: Theobald Boehm was" in lines[1]


def test_the_model_is_loaded_once(
    monkeypatch: pytest.MonkeyPatch, tiny_pruner: AT2Pruner, sample_questions: list[Question]
) -> None:
    loads = []

    def load(*args: object, **options: object) -> AT2Pruner:
        loads.append((args, options))
        return tiny_pruner

    monkeypatch.setattr(AT2Pruner, "from_pretrained", load)
    step = PruneStep(PruneConfig(model="some/model", method="average_attention", dtype="bfloat16", max_new_tokens=5))
    assert step.model_name == "some/model"
    assert not loads
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda q: step.run(q.text, q.passages[:2]), sample_questions[:8]))
    given = {"model": "some/model", "method": "average_attention", "dtype": "bfloat16", "max_new_tokens": 5}
    given["calibrate"] = True
    assert loads == [((), dict.fromkeys(MODEL_SETTINGS) | given)]
