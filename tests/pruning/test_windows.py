from __future__ import annotations

import pytest
import torch

from at2_prune.errors import ContextTooLongError
from at2_prune.models.language_model import LanguageModel
from at2_prune.passages import Passage
from at2_prune.pruning.pruner import AT2Pruner
from at2_prune.pruning.room import Room
from at2_prune.scorers import make_scorer

from .cases import PASSAGES, QUESTION, small, with_options


def window_runs(pruner: AT2Pruner, passages: list[Passage], room: int) -> list[list[int]]:
    """Runs of passages that fit, taken greedily."""
    lm, runs = pruner.language_model, [[0]]
    for i in range(1, len(passages)):
        length = len(lm.encode(QUESTION, [passages[j] for j in [*runs[-1], i]]))
        assert lm.context_length is not None
        if length + room <= lm.context_length:
            runs[-1].append(i)
        else:
            runs.append([i])
    return runs


@pytest.mark.parametrize("granularity", ["passage", "sentence"])
def test_windows(tiny_pruner: AT2Pruner, granularity: str) -> None:
    pruner = small(tiny_pruner, 450, overflow="windows", granularity=granularity)
    passages = [Passage(f"{passage.text} It is number {i}.", passage.title) for i in range(5) for passage in PASSAGES]
    runs = window_runs(pruner, passages, 8)
    assert 2 < len(runs) < len(passages)
    drafts = [pruner.draft(QUESTION, [passages[i] for i in run]) for run in runs]
    sureness = []
    for draft in drafts:  # a window's prompt and draft in one forward pass
        ids = torch.tensor([[*draft.prompt_ids, *draft.ids]])
        with torch.no_grad():
            log_p = pruner.language_model.model(ids).logits[0, -len(draft.ids) - 1 : -1].log_softmax(-1)
        sureness.append(float(log_p[range(len(draft.ids)), draft.ids].sum()) if draft.ids else -1e9)
    result = pruner.answer(QUESTION, passages, 2)
    assert result.seconds["draft"] > 0
    assert result.draft == drafts[max(range(len(runs)), key=sureness.__getitem__)].text
    expected: list[float] = []
    for run in runs:
        expected += pruner.score(QUESTION, [passages[i] for i in run], result.draft)
    assert [source.score for source in result.sources] == expected
    assert len(result.scores) == 20
    chosen = sorted(sorted(range(len(expected)), key=lambda i: -expected[i])[:2])
    assert [i for i, source in enumerate(result.sources) if source.kept] == chosen
    assert result.answer == pruner.answer_from(QUESTION, passages, chosen)
    given = pruner.answer(QUESTION, passages, 2, draft="It is Canberra.")
    assert given.draft == "It is Canberra."
    assert pruner.score(QUESTION, passages, pruner.draft(QUESTION, passages[:2]))  # its text is what counts
    with pytest.raises(ContextTooLongError, match="but tiny has a context of 450 tokens"):
        pruner.answer(QUESTION, passages, 40)  # keeping all does not fit, draft or no draft


def test_windows_where_everything_fits_change_nothing(tiny_pruner: AT2Pruner, calls: dict[str, int]) -> None:
    result = with_options(tiny_pruner, overflow="windows").answer(QUESTION, PASSAGES, 2)
    assert calls == {"generate": 2, "read": 0}
    expected = tiny_pruner.answer(QUESTION, PASSAGES, 2)
    assert (result.scores, result.kept, result.answer) == (expected.scores, expected.kept, expected.answer)
    assert with_options(tiny_pruner, overflow="windows").answer(QUESTION, PASSAGES, 9).answer == expected.draft


def test_windows_leave_room_for_a_long_draft(tiny_pruner: AT2Pruner) -> None:
    pruner = small(tiny_pruner, 520, overflow="windows")
    draft = "It is Canberra, the capital of Australia, which lies between Sydney and Melbourne, and not Perth. " * 2
    tokens = len(pruner.language_model.encode_draft(draft))
    passages = PASSAGES * 4
    runs, usual = (window_runs(pruner, passages, room) for room in (tokens, 8))
    assert len(runs) > len(usual)
    expected: list[float] = []
    for run in runs:
        expected += pruner.score(QUESTION, [passages[i] for i in run], draft)
    assert pruner.score(QUESTION, passages, draft) == expected


def test_windows_of_a_batch(tiny_pruner: AT2Pruner) -> None:
    pruner = small(tiny_pruner, 450, overflow="windows")
    results = pruner.answer_batch([QUESTION, QUESTION], [PASSAGES[:2], PASSAGES * 5], 1)
    for result, passages in zip(results, (PASSAGES[:2], PASSAGES * 5), strict=True):
        alone = pruner.answer(QUESTION, passages, 1)
        assert (result.kept, result.answer, result.draft) == (alone.kept, alone.answer, alone.draft)
        assert len(result.scores) == len(passages)


WORDS = "Wagga Wagga is a city. Not one word of this says more. "


@pytest.mark.parametrize("granularity", ["passage", "sentence"])
@pytest.mark.parametrize("draft", [None, "Canberra"])
def test_a_passage_that_does_not_fit_is_scored_in_parts(
    tiny_pruner: AT2Pruner, draft: str | None, granularity: str
) -> None:
    pruner = small(tiny_pruner, 450, overflow="windows", granularity=granularity)
    long = Passage(WORDS * 40 + "Canberra is the capital. " + WORDS * 40, title="Cities")
    result = pruner.answer(QUESTION, [PASSAGES[0], long, *PASSAGES[1:]], 2, draft)
    assert result.answer
    assert len(result.scores) == 5
    assert len(result.sources) == (
        5 if granularity == "passage" else len(pruner.encode(QUESTION, [long, *PASSAGES]).sources)
    )
    assert all(source.score != 0 for source in result.sources)
    assert result.seconds["draft"] > 0
    assert pruner.score(QUESTION, [long])  # alone
    assert pruner.answer_batch([QUESTION] * 2, [[long, *PASSAGES], PASSAGES], 2)[0].answer


def test_the_score_of_a_passage_in_parts_is_that_of_its_best_part(tiny_pruner: AT2Pruner) -> None:
    pruner = small(tiny_pruner, 450, overflow="windows")
    passages = [PASSAGES[0], Passage(WORDS * 60, title="Cities"), *PASSAGES[1:]]
    room = Room(pruner.language_model, "passage", pruner.max_new_tokens)
    parts = room.parts(QUESTION, passages, pruner.encode(QUESTION, passages), "Canberra")
    assert "".join(part.passage.text for part in parts if part.is_cut) == passages[1].text
    assert {part.passage.title for part in parts if part.is_cut} == {"Cities"}
    assert all(part.passage.text.endswith(". ") for part in parts if part.is_cut)
    alone = pruner.score(QUESTION, [part.passage for part in parts], "Canberra")  # the same windows
    expected = [max(s for s, p in zip(alone, parts, strict=True) if p.sources == (i,)) for i in range(len(passages))]
    assert pruner.score(QUESTION, passages, "Canberra") == expected
    best = max((s, p.passage.text) for s, p in zip(alone, parts, strict=True) if p.is_cut)[1]
    kept = pruner.answer(QUESTION, passages, 5, "Canberra")
    assert kept.answer == pruner.answer_from(QUESTION, [PASSAGES[0], Passage(best, "Cities"), *PASSAGES[1:]])
    assert kept.passages == passages


def test_text_without_a_place_to_cut(tiny_pruner: AT2Pruner) -> None:
    pruner = small(tiny_pruner, 450, overflow="windows")
    for text in ("x" * 3000, "\u4eac\u0301" * 900, " " * 3000):
        assert len(pruner.score(QUESTION, [text, *PASSAGES], "Canberra")) == 5


def test_a_question_that_does_not_fit_is_refused(tiny_pruner: AT2Pruner) -> None:
    pruner = small(tiny_pruner, 450, overflow="windows")
    with pytest.raises(ContextTooLongError, match="tiny has a context of 450 tokens") as raised:
        pruner.score("Which city? " * 200, PASSAGES)
    assert "windows" not in str(raised.value)  # which it is told already


def test_a_model_that_writes_nothing_in_windows_still_tells_its_seconds(silent_lm: LanguageModel) -> None:
    silent_lm.model.config.max_position_embeddings = 450
    pruner = AT2Pruner.from_pretrained(silent_lm, method="average_attention", max_new_tokens=8, overflow="windows")
    result = pruner.answer(QUESTION, PASSAGES * 6, 2)
    assert result.kept == [0, 1]
    assert "every window" in (result.fallback or "")
    assert set(result.seconds) == {"draft", "score", "answer"}
    assert result.seconds["draft"] > 0


def test_methods_that_read_no_prompt_compare_all_passages_at_once(tiny_pruner: AT2Pruner) -> None:
    model = small(tiny_pruner, 450).language_model
    pruner = AT2Pruner(model, make_scorer("bm25"), max_new_tokens=8)
    large = AT2Pruner(tiny_pruner.language_model, make_scorer("bm25"))
    many = [Passage(f"{passage.text} It is number {i}.", passage.title) for i in range(8) for passage in PASSAGES]
    assert not pruner.fits(QUESTION, many)
    assert pruner.score(QUESTION, many) == large.score(QUESTION, many)


def test_they_cut_a_passage_that_does_not_fit(tiny_pruner: AT2Pruner) -> None:
    model = small(tiny_pruner, 450).language_model
    long = Passage("The capital of France is Paris. " * 60)
    for granularity in ("passage", "sentence"):
        pruner = AT2Pruner(model, make_scorer("bm25"), max_new_tokens=8, granularity=granularity)  # type: ignore[arg-type]
        assert not pruner.fits(QUESTION, [long])
        result = pruner.answer("What is the capital of France?", [Passage("Ghent is a city."), long], k=1)
        assert result.kept == [1]
