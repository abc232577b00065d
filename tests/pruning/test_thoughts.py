"""Thought attribution: the sources are the sentences of the model's own thoughts, the target is its final answer."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from at2_prune.ablation import ablation_outcomes
from at2_prune.attention.rows import RowGroup
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.datasets import Question
from at2_prune.errors import EmptyDraftError, InputError, ModelNotSupportedError
from at2_prune.models.drafts import Draft
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.statements import read_parts
from at2_prune.models.templates import ChatTemplate, TextTemplate
from at2_prune.models.thoughts import thought_prompt
from at2_prune.pruning.pruner import AT2Pruner
from at2_prune.scorers import make_scorer
from at2_prune.training import CollectSettings, ExampleStore, collect_examples

from .cases import PASSAGES, QUESTION

THOUGHTS = ["Canberra is a city. ", "Dr. Li left Sydney. ", "So it must be Canberra."]
MARKED = replace(TextTemplate(), thoughts_end="Answer:")


@pytest.fixture
def thinking_lm(tiny_model: Any, tiny_tokenizer: PreTrainedTokenizerFast) -> LanguageModel:
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.add_tokens([AddedToken(text, special=False) for text in ("<think>", "</think>")])
    model = copy.deepcopy(tiny_model)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return LanguageModel(model, tokenizer, TextTemplate(), name="tiny-thinking")


def thinking_draft(lm: LanguageModel, before: str, after: str) -> Draft:
    """A draft with these thoughts, as the model would have written it."""
    prompt = lm.encode(QUESTION, PASSAGES)
    generation = lm.generation(lm.codec.control(before + after))
    written = generation.ids[: generation.answer[0]]
    return Draft(generation.text, generation.answer_ids, thought_ids=written, prompt_ids=prompt.ids)


@pytest.mark.parametrize("space", ["", "\n"])
def test_the_sentences_of_the_thoughts_are_the_sources(thinking_lm: LanguageModel, space: str) -> None:
    text = "".join(THOUGHTS)
    draft = thinking_draft(thinking_lm, f"<think>{space}{text}{space}</think>", f"{space}Canberra")
    assert draft.text == "Canberra"
    prompt = thinking_lm.encode(QUESTION, PASSAGES)
    own = thought_prompt(thinking_lm, prompt, draft)
    assert own.ids == [*prompt.ids, *draft.thought_ids]
    assert [one.strip() for one in own.source_texts] == [one.strip() for one in THOUGHTS]
    shown = [thinking_lm.codec.decode(own.ids[slice(*span)]) for span in own.sources]
    assert [one.strip() for one in shown] == [one.strip() for one in THOUGHTS]
    assert own.sources[-1][1] < len(own.ids)  # the closing marker is no source


def test_a_marker_ends_the_thoughts_of_a_model_that_was_asked_to_reason(
    tiny_model: Any, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    lm = LanguageModel(tiny_model, tiny_tokenizer, MARKED)
    draft = thinking_draft(lm, "".join(THOUGHTS) + " Answer:", " Canberra")
    assert draft.text == "Canberra"
    own = thought_prompt(lm, lm.encode(QUESTION, PASSAGES), draft)
    assert [one.strip() for one in own.source_texts] == [one.strip() for one in THOUGHTS]
    unfinished = lm.generation(lm.codec.control("".join(THOUGHTS)))
    assert unfinished.text == ""
    assert unfinished.answer_ids == []


def test_scores_are_the_attention_of_the_answers_rows_to_the_thoughts(thinking_lm: LanguageModel) -> None:
    draft = thinking_draft(thinking_lm, f"<think>{''.join(THOUGHTS)}</think>", "Canberra it is")
    weight = torch.randn(1, 2, 4, generator=torch.Generator().manual_seed(3))
    pruner = AT2Pruner.from_pretrained(thinking_lm, HeadCoefficients(weight, model_type="llama"))
    cited = pruner.attribute_thoughts(QUESTION, PASSAGES, draft)
    assert cited.kind == "thought"
    assert [one.text for one in cited.statements] == ["Canberra it is"]
    own = thought_prompt(thinking_lm, thinking_lm.encode(QUESTION, PASSAGES), draft)
    model: Any = copy.deepcopy(thinking_lm.model)
    model.set_attn_implementation("eager")
    every = model(input_ids=torch.tensor([[*own.ids, *draft.ids]]), output_attentions=True).attentions
    mass = torch.stack([layer[0] for layer in every])[:, :, len(own) - 1 : len(own) + len(draft.ids) - 1].mean(2)
    by_source = torch.stack([mass[:, :, a:b].sum(-1) for a, b in own.sources], dim=-1)
    assert cited.statements[0].scores == pytest.approx(
        torch.einsum("lh,lhs->s", weight[0], by_source).tolist(), abs=1e-5
    )


def test_leaving_a_thought_out_is_an_exact_ablation(thinking_lm: LanguageModel) -> None:
    draft = thinking_draft(thinking_lm, f"<think>{''.join(THOUGHTS)}</think>", "Canberra it is")
    pruner = AT2Pruner(thinking_lm, make_scorer("leave_one_out"))
    scores = pruner.attribute_thoughts(QUESTION, PASSAGES, draft).statements[0].scores
    own = thought_prompt(thinking_lm, thinking_lm.encode(QUESTION, PASSAGES), draft)
    model: Any = thinking_lm.model
    log_odds = []
    for left_out in (None, *own.sources):
        mask = torch.ones(1, len(own) + len(draft.ids), dtype=torch.long)
        if left_out:
            mask[0, slice(*left_out)] = 0
        ids = torch.tensor([[*own.ids, *draft.ids]])
        positions = torch.arange(ids.shape[1])[None]
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits[0]
        rows = logits[len(own) - 1 : -1].double().log_softmax(-1)
        log_p = rows.gather(1, torch.tensor(draft.ids)[:, None]).sum()
        log_odds.append(float(log_p - torch.log(-torch.expm1(log_p))))
    assert scores == pytest.approx([log_odds[0] - other for other in log_odds[1:]], abs=1e-4)


def test_a_chat_model_can_be_asked_to_reason(tiny_model: Any, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    template = ChatTemplate("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n")
    lm = LanguageModel(tiny_model, tiny_tokenizer, template, name="tiny").reasoning()
    assert (lm.name, lm.template.name, lm.template.stop) == ("tiny", "chat-v1-reasoning", ())
    asked = lm.encode(QUESTION, PASSAGES)
    shown = lm.codec.decode(asked.ids)
    assert shown.index(QUESTION) < shown.index("First state the facts") < shown.index("assistant")
    assert shown.endswith("assistant\nFacts:\n1.")
    draft = thinking_draft(lm, "".join(THOUGHTS) + "\n\nAnswer: ", "Canberra")
    assert [one.strip() for one in thought_prompt(lm, asked, draft).source_texts] == [one.strip() for one in THOUGHTS]
    with pytest.raises(ModelNotSupportedError, match="'text-v1' cannot be asked to reason"):
        LanguageModel(tiny_model, tiny_tokenizer, TextTemplate()).reasoning()
    assert tiny_tokenizer.chat_template is None
    with pytest.raises(ModelNotSupportedError, match="tokenizer of tiny has no chat template"):
        LanguageModel(tiny_model, tiny_tokenizer, template, name="tiny").reasoning(own=True)


def test_thoughts_that_cannot_be_used(thinking_lm: LanguageModel, tiny_lm: LanguageModel) -> None:
    pruner = AT2Pruner.from_pretrained(thinking_lm, HeadCoefficients.average(2, 4, "llama"), max_new_tokens=8)
    with pytest.raises(EmptyDraftError, match="wrote no thoughts before its answer"):
        pruner.attribute_thoughts(QUESTION, PASSAGES, thinking_draft(thinking_lm, "", "Canberra"))
    with pytest.raises(EmptyDraftError, match="wrote no thoughts"):
        pruner.attribute_thoughts(QUESTION, PASSAGES, thinking_draft(thinking_lm, "<think>\n</think>", "Canberra"))
    unclosed = thinking_draft(thinking_lm, "<think>Canberra is", "")
    with pytest.raises(EmptyDraftError, match="no answer after its thoughts: raise max_new_tokens, which is 8"):
        pruner.attribute_thoughts(QUESTION, PASSAGES, unclosed)
    elsewhere = Draft("Canberra", [5], thought_ids=[6])
    for draft in (elsewhere, "Canberra"):
        with pytest.raises(InputError, match="must be a Draft that this model wrote"):
            pruner.attribute_thoughts(QUESTION, PASSAGES, draft)  # type: ignore[arg-type]
    two = AT2Pruner(thinking_lm, pruner.scorer, reader=tiny_lm)
    with pytest.raises(InputError, match="without a separate reader"):
        two.attribute_thoughts(QUESTION, PASSAGES)


def test_training_takes_thoughts_as_sources(
    thinking_lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = thinking_draft(thinking_lm, f"<think>{''.join(THOUGHTS)}</think>", "Canberra it is")
    monkeypatch.setattr("at2_prune.training.collect.write_drafts", lambda *arguments, **options: [draft])
    settings = CollectSettings(ablations=4, thoughts=True)
    store = ExampleStore(tmp_path, {})
    assert collect_examples(thinking_lm, [Question("q", QUESTION, PASSAGES)], store, settings) == {}
    (example,) = store.load(["q"])
    own = thought_prompt(thinking_lm, thinking_lm.encode(QUESTION, PASSAGES), draft)
    expected = ablation_outcomes(thinking_lm, own, draft.ids, example.masks)
    assert example.masks.shape == (4, 3)
    assert not example.gold.any()
    assert example.outcomes.tolist() == expected.tolist()
    pruner = AT2Pruner.from_pretrained(thinking_lm, HeadCoefficients.average(2, 4, "llama"))
    scores = pruner.attribute_thoughts(QUESTION, PASSAGES, draft).statements[0].scores
    assert example.mass["draft"][0].mean((0, 1)).tolist() == pytest.approx(scores, abs=1e-6)


@pytest.mark.parametrize("stored", [False, True])
def test_training_reads_further_row_groups_from_the_thoughts(
    stored: bool, thinking_lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafts = [thinking_draft(thinking_lm, f"<think>{''.join(THOUGHTS)}</think>", "Canberra it is")]
    monkeypatch.setattr("at2_prune.training.collect.write_drafts", lambda *arguments, **options: drafts)
    settings = CollectSettings(ablations=4, thoughts=True)
    store = ExampleStore(tmp_path, {})
    asked = [Question("q", QUESTION, PASSAGES)], store, settings
    if stored:
        assert collect_examples(thinking_lm, *asked) == {}
    group = RowGroup("draft", measure="contribution")
    assert collect_examples(thinking_lm, *asked, row_groups=[group]) == {}
    (example,) = store.load(["q"])
    own = thought_prompt(thinking_lm, thinking_lm.encode(QUESTION, PASSAGES), drafts[0])
    expected = read_parts(thinking_lm, own, drafts[0].ids, [(0, len(drafts[0].ids))], [group])[0].mass[group]
    assert torch.allclose(example.mass[group.name][0], expected, atol=1e-6)
    drafts[:] = [thinking_draft(thinking_lm, f"<think>{THOUGHTS[0]}</think>", "Canberra it is")]
    further = RowGroup("draft", measure="effective")
    assert collect_examples(thinking_lm, *asked, row_groups=[further]) == {"the model now writes another draft": 1}


def test_training_leaves_out_answers_without_thoughts(
    thinking_lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = thinking_draft(thinking_lm, "<think>\n</think>", "Canberra")
    monkeypatch.setattr("at2_prune.training.collect.write_drafts", lambda *arguments, **options: [draft])
    asked = [Question("q", QUESTION, PASSAGES)], ExampleStore(tmp_path, {}), CollectSettings(ablations=4, thoughts=True)
    assert collect_examples(thinking_lm, *asked) == {"no thoughts before the answer": 1}
