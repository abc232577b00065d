from __future__ import annotations

from typing import Any

import pytest

from at2_prune.attention.rows import DRAFT_ROWS, RowGroup
from at2_prune.errors import EmptyDraftError, InputError
from at2_prune.models.drafts import Draft, read_drafts
from at2_prune.passages import Passage
from at2_prune.pruning.pruner import AT2Pruner

from .cases import PASSAGES, QUESTION, small, with_options


@pytest.mark.parametrize("overflow", ["error", "windows"])
def test_a_draft_from_elsewhere(tiny_pruner: AT2Pruner, calls: dict[str, int], overflow: str) -> None:
    pruner = with_options(tiny_pruner, overflow=overflow)
    lm = pruner.language_model
    prompt = lm.encode(QUESTION, PASSAGES)
    mass = read_drafts(lm, [prompt], ["It is Canberra."], [DRAFT_ROWS])[0].readout.mass
    expected = tiny_pruner.scorer.coefficients.score(mass).tolist()  # type: ignore[attr-defined]
    calls.update(generate=0, read=0)
    assert pruner.score(QUESTION, PASSAGES, "It is Canberra.") == expected
    assert calls == {"generate": 0, "read": 1}
    result = pruner.answer(QUESTION, PASSAGES, 2, draft=" It is Canberra. ")
    assert (result.draft, result.scores) == ("It is Canberra.", expected)
    assert result.answer == pruner.answer_from(QUESTION, PASSAGES, result.kept)
    assert expected != tiny_pruner.score(QUESTION, PASSAGES, "Sydney, no doubt")


@pytest.mark.parametrize("overflow", ["error", "windows"])
@pytest.mark.parametrize("draft", ["", "  \n"])
def test_an_empty_draft_from_elsewhere(tiny_pruner: AT2Pruner, overflow: str, draft: str) -> None:
    for pruner in (with_options(tiny_pruner, overflow=overflow), small(tiny_pruner, 450, overflow=overflow)):
        passages = PASSAGES if pruner.language_model.context_length == 4096 else PASSAGES * 9
        if overflow == "error" and len(passages) > 4:
            continue
        for ask in (pruner.score, lambda q, p, d, ask=pruner.answer: ask(q, p, 2, d)):
            with pytest.raises(EmptyDraftError, match="the draft is empty"):
                ask(QUESTION, passages, draft)
        with pytest.raises(EmptyDraftError, match="the draft is empty"):
            pruner.token_scores(QUESTION, PASSAGES[:1], draft)


@pytest.mark.parametrize("draft", [5, ["Canberra"], b"Canberra"])
def test_a_draft_of_a_wrong_type(tiny_pruner: AT2Pruner, draft: Any) -> None:
    with pytest.raises(InputError, match=f"a draft must be a text or a Draft, got {type(draft).__name__}"):
        tiny_pruner.score(QUESTION, PASSAGES, draft)


def test_a_draft_of_other_passages_is_refused(tiny_pruner: AT2Pruner) -> None:
    draft = tiny_pruner.draft(QUESTION, PASSAGES)
    changed = [*PASSAGES[:3], Passage("Something else.")]
    for question, passages in (
        (QUESTION, PASSAGES[:3]),
        (QUESTION, changed),
        (QUESTION, PASSAGES[::-1]),
        ("Another question?", PASSAGES),
    ):
        with pytest.raises(InputError, match="written for another question or for other passages"):
            tiny_pruner.score(question, passages, draft)
    with pytest.raises(InputError, match="for other passages"):
        with_options(tiny_pruner, granularity="sentence").score(QUESTION, PASSAGES, draft)


def test_a_draft_without_the_attention_that_is_needed(tiny_pruner: AT2Pruner) -> None:
    lm = tiny_pruner.language_model
    for draft in (
        Draft("Canberra", lm.encode_draft("Canberra")),
        read_drafts(lm, [lm.encode(QUESTION, PASSAGES)], ["Canberra"], [RowGroup("question")])[0],
    ):
        with pytest.raises(InputError, match="this draft lacks attention that the method at2 reads: pass its text"):
            tiny_pruner.score(QUESTION, PASSAGES, draft)


def test_token_scores(tiny_pruner: AT2Pruner) -> None:
    draft = tiny_pruner.draft(QUESTION, PASSAGES)
    passages = [*PASSAGES, Passage("🏳️‍🌈 <bos> 日本", title="T")]
    for given, some in ((draft, PASSAGES), ("It is Canberra.", passages)):
        tokens = tiny_pruner.token_scores(QUESTION, some, given)
        shown = [(f"{p.title}: " if p.title else "") + p.text + "\n" for p in some]
        assert ["".join(text for text, _ in passage) for passage in tokens] == shown
        sums = [sum(score for _, score in passage) for passage in tokens]
        assert sums == pytest.approx(tiny_pruner.score(QUESTION, some, given), abs=1e-5)
