from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from at2_prune.attention.rows import DRAFT_ROWS
from at2_prune.datasets import Question
from at2_prune.errors import EmptyDraftError, InputError
from at2_prune.models.drafts import write_drafts
from at2_prune.passages import Passage
from at2_prune.pruning.pruner import AT2Pruner
from at2_prune.pruning.results import PruneResult
from at2_prune.scorers import LearnedScorer

from .cases import PASSAGES, QUESTION, small, with_options


def by_hand(
    pruner: AT2Pruner, question: str, passages: list[Passage], k: int
) -> tuple[str, list[float], list[int], str]:
    """The four steps, one after the other, from the rooms below."""
    lm, scorer = pruner.language_model, pruner.scorer
    assert isinstance(scorer, LearnedScorer)
    prompt = lm.encode(question, passages)
    generation = lm.generate([prompt], pruner.max_new_tokens)[0][0]
    mass = write_drafts(lm, [prompt], [DRAFT_ROWS], pruner.max_new_tokens)[0].readout.mass[DRAFT_ROWS]
    scores = [float((scorer.coefficients.weight[0] * mass[..., i]).sum()) for i in range(len(passages))]
    kept = sorted(sorted(range(len(passages)), key=lambda i: -scores[i])[:k])
    again = lm.generate([lm.encode(question, [passages[i] for i in kept])], pruner.max_new_tokens)[0][0]
    return generation.text, scores, kept, again.text


@pytest.mark.parametrize("k", [1, 2, 3])
def test_answer_is_draft_score_select_regenerate(
    tiny_pruner: AT2Pruner, sample_questions: list[Question], calls: dict[str, int], k: int
) -> None:
    question = sample_questions[k]
    passages = list(question.passages[:6])
    draft, scores, kept, answer = by_hand(tiny_pruner, question.text, passages, k)
    calls.update(generate=0, read=0)
    result = tiny_pruner.answer(question.text, passages, k)
    assert calls == {"generate": 2, "read": 0}  # no extra pass for attention
    assert (result.draft, result.kept, result.answer, result.k) == (draft, kept, answer, k)
    assert result.scores == pytest.approx(scores, abs=1e-6)
    assert result.question == question.text
    assert result.passages == passages
    assert result.fallback is None
    assert [source.score for source in result.sources] == result.scores
    assert [source.passage for source in result.sources] == list(range(6))
    assert [source.text for source in result.sources] == [passage.text for passage in passages]
    assert [source.kept for source in result.sources] == [i in kept for i in range(6)]
    best = sorted(result.sources, key=lambda source: source.rank)
    assert [source.rank for source in best] == [1, 2, 3, 4, 5, 6]
    assert [source.score for source in best] == sorted(scores, reverse=True) or scores == pytest.approx(scores)
    assert set(result.seconds) == {"draft", "score", "answer"}
    assert all(seconds >= 0 for seconds in result.seconds.values())
    assert result.seconds["draft"] > 0 < result.seconds["answer"]


def test_each_step_alone(tiny_pruner: AT2Pruner, calls: dict[str, int]) -> None:
    result = tiny_pruner.answer(QUESTION, PASSAGES, 2)
    draft = tiny_pruner.draft(QUESTION, PASSAGES)
    assert draft.text == result.draft
    calls.update(generate=0, read=0)
    assert tiny_pruner.score(QUESTION, PASSAGES, draft) == pytest.approx(result.scores, abs=1e-6)
    assert calls == {"generate": 0, "read": 0}
    assert tiny_pruner.score(QUESTION, PASSAGES) == pytest.approx(result.scores, abs=1e-6)
    assert calls == {"generate": 1, "read": 0}
    kept = tiny_pruner.select(result.scores, 2)
    assert kept == result.kept
    assert tiny_pruner.answer_from(QUESTION, PASSAGES, kept) == result.answer
    assert tiny_pruner.answer_from(QUESTION, PASSAGES) == result.draft
    assert tiny_pruner.answer_from(QUESTION, PASSAGES, []) == (
        tiny_pruner.language_model.generate([tiny_pruner.language_model.encode(QUESTION, [])], 8)[0][0].text
    )
    attributed = tiny_pruner.attribute(QUESTION, PASSAGES, draft)
    assert [source.score for source in attributed] == pytest.approx(result.scores, abs=1e-6)
    assert not any(source.kept for source in attributed)


@pytest.mark.parametrize("k", [4, 5, 10**9])
def test_keeping_everything_returns_the_draft(tiny_pruner: AT2Pruner, calls: dict[str, int], k: int) -> None:
    result = tiny_pruner.answer(QUESTION, PASSAGES, k)
    assert calls == {"generate": 1, "read": 0}
    assert result.answer == result.draft
    assert (result.kept, result.k) == ([0, 1, 2, 3], k)
    assert result.seconds["answer"] == 0.0
    draft = tiny_pruner.draft(QUESTION, PASSAGES)
    calls.update(generate=0, read=0)
    again = tiny_pruner.answer(QUESTION, PASSAGES, k, draft)
    assert calls == {"generate": 0, "read": 0}
    assert again.answer == result.answer
    assert again.scores == pytest.approx(result.scores, abs=1e-6)


def test_one_passage(tiny_pruner: AT2Pruner, calls: dict[str, int]) -> None:
    result = tiny_pruner.answer(QUESTION, PASSAGES[:1], 3)
    assert calls == {"generate": 1, "read": 0}
    assert (result.kept, len(result.scores), result.answer) == ([0], 1, result.draft)


def test_passages_of_any_kind(tiny_pruner: AT2Pruner) -> None:
    mixed = [PASSAGES[0].text, {"text": PASSAGES[1].text, "title": "Sydney", "id": 3, "score": 1}, PASSAGES[2]]
    plain = [Passage(PASSAGES[0].text), PASSAGES[1], PASSAGES[2]]
    result = tiny_pruner.answer(QUESTION, mixed, 1)
    expected = tiny_pruner.answer(QUESTION, plain, 1)
    from_generator = tiny_pruner.answer(QUESTION, (passage for passage in mixed), 1)
    assert (result.scores, result.kept, result.answer) == (expected.scores, expected.kept, expected.answer)
    assert from_generator.scores == pytest.approx(expected.scores, abs=1e-6)
    assert result.passages[1].id == "3"


@pytest.mark.parametrize("overflow", ["error", "windows"])
@pytest.mark.parametrize("k", [2, 9])
def test_a_model_that_writes_nothing(silent_pruner: AT2Pruner, overflow: str, k: int) -> None:
    for pruner, passages in (
        (with_options(silent_pruner, overflow=overflow), PASSAGES),
        (small(silent_pruner, 450, overflow=overflow), PASSAGES * 5),
    ):
        if overflow == "error" and len(passages) > 4:
            continue
        result = pruner.answer(QUESTION, passages, k if len(passages) == 4 else 2)
        assert (result.draft, result.answer) == ("", "")
        assert result.scores == [0.0] * len(passages)
        assert result.kept == list(range(len(passages)))[: result.k]
        assert result.fallback is not None
        assert result.fallback.endswith(f"; the first {result.k} sources were kept")
        assert "fallback" in result.to_dict()
        with pytest.raises(EmptyDraftError):
            pruner.score(QUESTION, passages)


def test_order_by_score(tiny_pruner: AT2Pruner, calls: dict[str, int]) -> None:
    pruner = with_options(tiny_pruner, order="score")
    original = tiny_pruner.answer(QUESTION, PASSAGES, 3)
    result = pruner.answer(QUESTION, PASSAGES, 3)
    assert result.scores == pytest.approx(original.scores, abs=1e-6)
    assert result.kept == sorted(range(4), key=lambda i: -result.scores[i])[:3]
    assert result.kept != sorted(result.kept)
    lm = pruner.language_model
    shown = lm.encode(QUESTION, [PASSAGES[i] for i in result.kept])
    assert result.answer == lm.generate([shown], 8)[0][0].text
    calls.update(generate=0)
    everything = pruner.answer(QUESTION, PASSAGES, 4)
    assert everything.kept == sorted(range(4), key=lambda i: -result.scores[i])
    assert calls["generate"] == 2  # another prompt than the draft's


def test_sentences(tiny_pruner: AT2Pruner) -> None:
    pruner = with_options(tiny_pruner, granularity="sentence")
    result = pruner.answer(QUESTION, PASSAGES, 3)
    texts = [
        "Canberra is the capital of Australia. ",
        "It is a city.",
        "Sydney is larger than Canberra.",
        "Perth lies in the west.",
        "Dr. Li left. ",
        "She did not say why. ",
        "Nobody asked.",
    ]
    owners = [0, 0, 1, 2, 3, 3, 3]
    assert [source.text for source in result.sources] == texts
    assert [source.passage for source in result.sources] == owners
    assert sum(source.kept for source in result.sources) == 3
    assert result.scores == pytest.approx(
        [sum(s.score for s in result.sources if s.passage == i) for i in range(4)], abs=1e-6
    )
    assert result.kept == sorted({s.passage for s in result.sources if s.kept})
    shown = [
        Passage("".join(s.text for s in result.sources if s.passage == i and s.kept), title=PASSAGES[i].title)
        for i in result.kept
    ]
    lm = pruner.language_model
    assert result.answer == lm.generate([lm.encode(QUESTION, shown)], 8)[0][0].text
    assert pruner.answer_from(QUESTION, PASSAGES, [0, 5, 6]) == (
        lm.generate([lm.encode(QUESTION, [Passage(texts[0], "Canberra"), Passage(texts[5] + texts[6])])], 8)[0][0].text
    )
    reordered = [
        Passage(texts[5] + texts[6]),
        Passage(texts[0], "Canberra"),
    ]  # passages by their first, sentences as written
    assert pruner.answer_from(QUESTION, PASSAGES, [6, 0, 5]) == (
        lm.generate([lm.encode(QUESTION, reordered)], 8)[0][0].text
    )
    whole = pruner.answer(QUESTION, PASSAGES, 7)
    assert whole.answer == whole.draft == tiny_pruner.answer(QUESTION, PASSAGES, 4).draft
    by_score = with_options(tiny_pruner, granularity="sentence", order="score").answer(QUESTION, PASSAGES, 4)
    best = sorted(range(7), key=lambda i: -by_score.sources[i].score)[:4]
    assert by_score.kept == list(dict.fromkeys(owners[i] for i in best))
    with pytest.raises(InputError, match="kept must be different indices below 7"):
        pruner.answer_from(QUESTION, PASSAGES, [7])


def test_sentences_of_passages_of_nothing(tiny_pruner: AT2Pruner) -> None:
    pruner = with_options(tiny_pruner, granularity="sentence")
    result = pruner.answer(QUESTION, ["", PASSAGES[0], ""], 1)
    assert len(result.sources) == 2
    assert (result.kept, result.scores[0], result.scores[2]) == ([1], 0.0, 0.0)
    with pytest.raises(InputError, match="all of the 2 passages are blank: give at least one with text"):
        pruner.answer(QUESTION, ["", ""], 1)


def test_duplicate_passages(tiny_pruner: AT2Pruner) -> None:
    result = tiny_pruner.answer(QUESTION, [PASSAGES[0]] * 3 + [PASSAGES[1]], 2)
    assert len(result.scores) == 4
    assert len(set(result.kept)) == 2
    assert len({source.rank for source in result.sources}) == 4


def test_eight_threads_are_serial(tiny_pruner: AT2Pruner, sample_questions: list[Question]) -> None:
    tasks = [(q.text, list(q.passages[: 3 + i % 3])) for i, q in enumerate(sample_questions[:8])]
    drafts = [None, "Canberra", None, "It is not known.", None, None, "Dr. Li", None]

    def work(pruner: AT2Pruner, i: int) -> tuple[Any, ...]:
        result = pruner.answer(*tasks[i], 2, drafts[i])
        return result.draft, result.scores, result.kept, result.answer

    expected = [work(tiny_pruner, i) for i in range(8)]
    for _ in range(2):
        shared = small(tiny_pruner, 4096)  # its attention is not read yet: the threads race for the first time
        shared.language_model.model.set_attn_implementation("sdpa")
        found: list[Any] = [None] * 8
        barrier = threading.Barrier(8)

        def run(i: int, pruner: AT2Pruner = shared, found: Any = found, barrier: Any = barrier) -> None:
            barrier.wait()
            found[i] = work(pruner, i)

        threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == expected


def test_to_dict_is_json(tiny_pruner: AT2Pruner) -> None:
    result = tiny_pruner.answer(QUESTION, PASSAGES, 2)
    data = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert set(data) == {"question", "draft", "answer", "k", "kept", "scores", "seconds"}
    assert data["seconds"].pop("regenerate") == data["seconds"]["answer"]  # the old name, until 0.3
    for name, value in data.items():
        assert value == getattr(result, name)
    assert isinstance(result, PruneResult)
