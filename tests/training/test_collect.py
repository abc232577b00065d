from __future__ import annotations

import copy
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from at2_prune.ablation import ablation_outcomes
from at2_prune.datasets import Question
from at2_prune.models.drafts import write_drafts
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.statements import draft_parts
from at2_prune.passages import Passage
from at2_prune.training import CollectSettings, Example, ExampleStore, collect_examples
from at2_prune.training.collect import ROW_GROUPS

SETTINGS = CollectSettings(ablations=4, max_new_tokens=8)


@pytest.fixture(scope="module")
def questions(sample_questions: list[Question]) -> list[Question]:
    return [replace(q, passages=q.passages[:5], gold=tuple(g for g in q.gold if g < 5)) for q in sample_questions[:4]]


def collect(
    lm: LanguageModel, questions: list[Question], folder: Path, settings: CollectSettings = SETTINGS
) -> tuple[list[Example], dict[str, int]]:
    store = ExampleStore(folder, {})
    skipped = collect_examples(lm, questions, store, settings)
    return list(store.load([question.id for question in questions])), skipped


def assert_same(one: Example, other: Example) -> None:
    assert (one.question_id, one.draft, one.layers) == (other.question_id, other.draft, other.layers)
    for name in one.mass:
        assert torch.equal(one.mass[name], other.mass[name])
    for name in ("masks", "outcomes", "gold"):
        assert torch.equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("granularity", ["passage", "sentence", "token"])
@pytest.mark.parametrize("positions", ["kept", "closed"])
def test_an_example(
    tiny_lm: LanguageModel, questions: list[Question], tmp_path: Path, granularity: Any, positions: Any
) -> None:
    settings = replace(SETTINGS, granularity=granularity, positions=positions)
    (example,), skipped = collect(tiny_lm, questions[:1], tmp_path, settings)
    question = questions[0]
    prompt = tiny_lm.encode(question.text, question.passages, granularity)
    draft = write_drafts(tiny_lm, [prompt], ROW_GROUPS, 8)[0]
    assert skipped == {}
    assert (example.question_id, example.draft, example.layers) == (question.id, draft.text, [0, 1])
    assert set(example.mass) == {"draft", "draft-max", "question", "question-max", "last"}
    for group in ROW_GROUPS:
        torch.testing.assert_close(example.mass[group.name], draft.readout.mass[group][None], atol=1e-5, rtol=0)
    assert example.masks.shape == (4, len(prompt.sources))
    assert example.outcomes.shape == (4, 1)
    expected = ablation_outcomes(tiny_lm, prompt, draft.ids, example.masks, positions=positions)
    torch.testing.assert_close(example.outcomes, expected, atol=1e-6, rtol=0)
    owners = prompt.source_passage
    assert example.gold.tolist() == [owner in question.gold for owner in owners]
    assert 0 < int(example.gold.sum()) < len(owners)


def test_masks_do_not_depend_on_what_runs_before(
    tiny_lm: LanguageModel, questions: list[Question], tmp_path: Path
) -> None:
    forward, _ = collect(tiny_lm, questions, tmp_path / "forward")
    torch.manual_seed(1234)
    backward, _ = collect(tiny_lm, questions[::-1], tmp_path / "backward")
    for one, other in zip(forward, backward[::-1], strict=True):
        assert_same(one, other)
    alone, _ = collect(tiny_lm, questions[2:3], tmp_path / "alone")
    assert_same(alone[0], forward[2])
    assert len({tuple(example.masks.flatten().tolist()) for example in forward}) == 4
    other_seed, _ = collect(tiny_lm, questions[:1], tmp_path / "seed", replace(SETTINGS, seed=1))
    assert not torch.equal(other_seed[0].masks, forward[0].masks)


def test_an_interrupted_run_goes_on_where_it_stopped(
    tiny_lm: LanguageModel, questions: list[Question], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = collect(tiny_lm, questions, tmp_path / "whole")
    asked: list[int] = []
    generate = tiny_lm.generate
    monkeypatch.setattr(tiny_lm, "generate", lambda *a, **k: asked.append(1) or generate(*a, **k))
    calls: list[int] = []

    def stop_after_two() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect_examples(tiny_lm, questions, ExampleStore(tmp_path / "cut", {}), SETTINGS, stop_after_two)
    assert len(asked) == 2
    store = ExampleStore(tmp_path / "cut", {})
    assert [store.has(question.id) for question in questions] == [True, True, False, False]
    again, _ = collect(tiny_lm, questions, tmp_path / "cut")
    assert len(asked) == 4
    for one, other in zip(whole, again, strict=True):
        assert_same(one, other)


def test_a_damaged_example_is_made_anew(tiny_lm: LanguageModel, questions: list[Question], tmp_path: Path) -> None:
    whole, _ = collect(tiny_lm, questions, tmp_path)
    victim = ExampleStore(tmp_path, {})._path(questions[1].id)
    damaged = victim.read_bytes()[:-10]
    victim.unlink()  # what was loaded is mapped to the old file
    victim.write_bytes(damaged)
    again, _ = collect(tiny_lm, questions, tmp_path)
    assert len(again) == 4
    assert_same(again[1], whole[1])


def test_progress_is_called_once_a_question(tiny_lm: LanguageModel, questions: list[Question], tmp_path: Path) -> None:
    calls: list[int] = []
    store = ExampleStore(tmp_path, {})
    few = [*questions[:2], Question("one", "Who?", questions[0].passages[:1])]
    for count in (3, 6):
        collect_examples(tiny_lm, few, store, SETTINGS, lambda: calls.append(1))
        assert len(calls) == count


def test_questions_that_give_no_example(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, questions: list[Question], tmp_path: Path
) -> None:
    model = copy.deepcopy(tiny_model)
    lm = LanguageModel(model, tiny_tokenizer)
    model.config.max_position_embeddings = len(lm.encode(questions[0].text, questions[0].passages)) + 8
    odd = [
        questions[0],
        Question("none", "Who?", ()),
        Question("one", "Who?", (Passage("Only one."),)),
        Question("long", "Who?", (Passage("a"), Passage("word " * 900))),
        Question("longer", "Who?", (Passage("a"), Passage("word " * 999))),
    ]
    examples, skipped = collect(lm, odd, tmp_path)
    assert [example.question_id for example in examples] == [questions[0].id]
    assert skipped == {"fewer than two sources": 2, "longer than the model's context": 2}
    assert collect(lm, odd, tmp_path)[1] == skipped


def test_empty_drafts_give_no_example(silent_lm: LanguageModel, questions: list[Question], tmp_path: Path) -> None:
    examples, skipped = collect(silent_lm, questions, tmp_path)
    assert (examples, skipped) == ([], {"empty draft": 4})


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        (" Paris is big. It is old. Dr. Li left.", [" Paris is big.", " It is old.", " Dr. Li left."]),
        ("One sentence", ["One sentence"]),
        ("One.\n\nTwo.", ["One.\n\n", "Two."]),
        (" Ends in space.  Next! ", [" Ends in space. ", " Next!", " "]),
        ("これは文です。次の文。", ["これは文です。", "次の文。"]),
        ("🏳️‍🌈 flag. e\u0301a.", ["🏳️‍🌈 flag.", " e\u0301a."]),
    ],
)
def test_parts_of_a_draft_are_its_sentences(tiny_lm: LanguageModel, text: str, sentences: list[str]) -> None:
    ids, _ = tiny_lm.codec.plain(text)
    parts = draft_parts(tiny_lm, ids)
    found = [tiny_lm.codec.decode(ids[start:stop]) for start, stop in parts]
    assert "".join(found) == text
    assert [part.strip() for part in found] == [part.strip() for part in sentences if part.strip()]


def test_parts_cover_any_draft_without_overlap(tiny_lm: LanguageModel, sample_questions: list[Question]) -> None:
    rng = random.Random(0)
    pool, _ = tiny_lm.codec.plain("Paris. Is it? Dr. Li! 日本。🏳️‍🌈 e\u0301.\n\n a b. 3.5 ... \x00")
    counts = set()
    for _ in range(200):
        ids = rng.choices([*pool, 1, 2], k=rng.randint(1, 25))
        parts = draft_parts(tiny_lm, ids)
        assert [i for start, stop in parts for i in range(start, stop)] == list(range(len(ids)))
        assert all(stop > start for start, stop in parts)
        counts.add(len(parts))
    assert len(counts) > 2
    assert draft_parts(tiny_lm, []) == []


def test_sentences_as_targets(
    tiny_lm: LanguageModel, questions: list[Question], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiny model writes no sentences, so those of its vocabulary's full stops are made the splitter's."""
    settings = replace(SETTINGS, targets="sentence", max_new_tokens=12)
    question = questions[0]
    prompt = tiny_lm.encode(question.text, question.passages)
    draft = write_drafts(tiny_lm, [prompt], ROW_GROUPS, 12)[0]
    text = tiny_lm.codec.decode(draft.ids)
    cuts = [len(tiny_lm.codec.decode(draft.ids[:i])) for i in (3, 7)]
    sentences = (text[: cuts[0]], text[cuts[0] : cuts[1]], text[cuts[1] :])
    monkeypatch.setattr("at2_prune.models.statements.split_sentences", lambda passage: sentences)
    (example,), _ = collect(tiny_lm, [question], tmp_path, settings)
    spans = [(0, 3), (3, 7), (7, len(draft.ids))]
    assert draft.readout.row_mass is not None
    for part, (start, stop) in enumerate(spans):
        rows = draft.readout.row_mass[:, :, start:stop]
        torch.testing.assert_close(example.mass["draft"][part], rows.mean(2), atol=1e-6, rtol=0)
        torch.testing.assert_close(example.mass["draft-max"][part], rows.amax(2), atol=1e-6, rtol=0)
    assert example.mass["question"].shape[0] == 1
    expected = ablation_outcomes(tiny_lm, prompt, draft.ids, example.masks, spans)
    assert expected.shape == (4, 3)
    torch.testing.assert_close(example.outcomes, expected, atol=1e-6, rtol=0)
