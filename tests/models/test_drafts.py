from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
from tokenizers import AddedToken
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from at2_prune.attention.measures import MEASURES
from at2_prune.attention.rows import RowGroup
from at2_prune.datasets import Question
from at2_prune.errors import ContextTooLongError, EmptyDraftError
from at2_prune.models.drafts import Draft, read_drafts, write_drafts
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.prompts import EncodedPrompt, TextTemplate
from at2_prune.models.readouts import Readout

from .scripted import PASSAGES, scripted

GROUPS = [RowGroup(rows, reduce) for rows in ("draft", "question", "last") for reduce in ("mean", "max")]


@pytest.fixture(scope="module")
def sliding_model(tiny_tokenizer: PreTrainedTokenizerFast) -> Gemma3ForCausalLM:
    """Gemma 3 with windows of 32 tokens in two of three layers: far less than a prompt."""
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        sliding_window=32,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = Gemma3ForCausalLM(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.3)
    return model


@pytest.fixture(params=["tiny", "sliding"])
def lm(request: pytest.FixtureRequest, tiny_tokenizer: PreTrainedTokenizerFast) -> LanguageModel:
    model = request.getfixturevalue(f"{request.param}_model")
    return LanguageModel(model, tiny_tokenizer, TextTemplate(stop=()))


def eager_mass(model: PreTrainedModel, prompt: EncodedPrompt, written: list[int], answer: tuple[int, int]) -> Any:
    """Every group's mass from the full attention matrices of a second model that runs transformers' eager attention."""
    eager = AutoModelForCausalLM.from_config(copy.deepcopy(model.config), attn_implementation="eager").eval()
    eager.load_state_dict(model.state_dict())
    with torch.no_grad():
        attentions = eager(torch.tensor([[*prompt.ids, *written]]), output_attentions=True).attentions
    weights = torch.stack([layer[0] for layer in attentions])  # (layers, heads, rows, keys)
    mass = torch.stack([weights[..., slice(*span)].sum(-1) for span in prompt.sources], dim=-1)
    last = len(prompt) - 1
    rows = {
        "draft": range(last + answer[0], last + answer[1]),
        "question": range(*prompt.question),
        "last": range(last, last + 1),
    }
    result = {}
    for group in GROUPS:
        chosen = mass[:, :, list(rows[group.rows])]
        result[group] = chosen.mean(2) if group.reduce == "mean" else chosen.amax(2)
    return result


def readout(draft: Draft) -> Readout:
    assert draft.readout is not None
    return draft.readout


def assert_close(read: Draft | Readout, expected: Any, tolerance: float = 1e-5) -> None:
    mass = (readout(read) if isinstance(read, Draft) else read).mass
    assert set(mass) == set(expected)
    for group in expected:
        torch.testing.assert_close(mass[group], expected[group], atol=tolerance, rtol=0, msg=group.name)


def test_read_while_drafting_as_in_the_full_attention(lm: LanguageModel, sample_questions: list[Question]) -> None:
    prompts = [lm.encode(q.text, q.passages[: 2 + i]) for i, q in enumerate(sample_questions[:3])]
    generations, _ = lm.generate(prompts, 10)
    drafts = write_drafts(lm, prompts, GROUPS, 10)
    for prompt, generation, draft in zip(prompts, generations, drafts, strict=True):
        assert (draft.text, draft.ids) == (generation.text, generation.answer_ids)
        assert len(draft.ids) > 3
        assert_close(draft, eager_mass(lm.model, prompt, generation.ids, generation.answer))
        assert readout(draft).row_mass is not None
        assert readout(draft).row_mass.shape == (
            *readout(draft).mass[GROUPS[0]].shape[:2],
            len(draft.ids),
            len(prompt.sources),
        )
        assert list(readout(draft).layers) == list(range(lm.model.config.num_hidden_layers))


def test_teacher_forced_as_while_drafting(lm: LanguageModel, sample_questions: list[Question]) -> None:
    compared = 0
    for question in sample_questions[:4]:
        prompt = lm.encode(question.text, question.passages[:4])
        draft = write_drafts(lm, [prompt], GROUPS, 10)[0]
        if lm.generate([prompt], 10)[0][0].answer[0] == 0:  # otherwise blanks stand before the draft
            read = read_drafts(lm, [prompt], [draft.ids], GROUPS)[0]
            assert_close(read, readout(draft).mass)
            assert read.ids == draft.ids
            assert read.text == draft.text
            compared += 1
    assert compared >= 2


def test_an_unrelated_draft_as_in_the_full_attention(lm: LanguageModel) -> None:
    prompt = lm.encode("Which city?", PASSAGES)
    ids = lm.encode_draft("It is Canberra, of course.")
    expected = eager_mass(lm.model, prompt, ids, (0, len(ids)))
    for draft in ("It is Canberra, of course.", " \nIt is Canberra, of course.\n", ids, tuple(ids)):
        read = read_drafts(lm, [prompt], [draft], GROUPS)[0]
        assert_close(read, expected)
        assert (read.text, read.ids) == ("It is Canberra, of course.", ids)
        assert list(read.prompt_ids) == prompt.ids


def test_a_batch_is_read_as_each_alone(lm: LanguageModel, sample_questions: list[Question]) -> None:
    prompts = [lm.encode(q.text, q.passages[: 1 + 2 * i]) for i, q in enumerate(sample_questions[:3])]
    texts = ["the river Meuse, in the south", "Canberra", "It is Dinant."]
    for text, prompt, read in zip(texts, prompts, read_drafts(lm, prompts, texts, GROUPS), strict=True):
        alone = read_drafts(lm, [prompt], [text], GROUPS)[0]
        assert_close(read, readout(alone).mass)
        assert (read.text, read.ids, read.prompt_ids) == (alone.text, alone.ids, alone.prompt_ids)
    for prompt, text, read in zip(prompts, texts, read_drafts(lm, prompts, texts, GROUPS, [0]), strict=True):
        assert_close(read, readout(read_drafts(lm, [prompt], [text], GROUPS, [0])[0]).mass)
        assert list(readout(read).layers) == [0]
    with pytest.raises(EmptyDraftError, match="nothing to attribute"):
        read_drafts(lm, prompts, [texts[0], " ", texts[2]], GROUPS)


def test_other_measures_written_and_read_alike(lm: LanguageModel, sample_questions: list[Question]) -> None:
    """Their numbers are checked in test_attention_measures; here, that each lands in its own group's place."""
    groups = [RowGroup(rows, by, m) for rows in ("draft", "question") for by in ("mean", "max") for m in MEASURES]
    prompt = lm.encode(sample_questions[0].text, sample_questions[0].passages[:3])
    draft = write_drafts(lm, [prompt], groups, 10)[0]
    assert lm.generate([prompt], 10)[0][0].answer[0] == 0  # no blanks before the draft, so it can be read again
    assert_close(read_drafts(lm, [prompt], [draft.ids], groups)[0], readout(draft).mass, 1e-4)
    assert readout(draft).row_mass is not None
    torch.testing.assert_close(readout(draft).mass[RowGroup("draft")], readout(draft).row_mass.mean(2))
    for group in groups:
        alone = write_drafts(lm, [prompt], [group], 10)[0]
        assert_close(
            alone, {group: readout(draft).mass[group]}, 1e-6
        )  # alone, attention is computed many steps at a time
        if group.rows == "draft":
            torch.testing.assert_close(readout(alone).row_mass, readout(draft).row_mass, atol=1e-6, rtol=0)
    different = [readout(draft).mass[group] for group in groups]
    assert all((one - other).abs().max() > 1e-3 for one, other in pairwise(different))


@pytest.mark.parametrize("groups", [[group] for group in GROUPS] + [GROUPS[1:4], []])
def test_any_choice_of_groups_gives_the_same_numbers(tiny_lm: LanguageModel, groups: list[RowGroup]) -> None:
    prompt = tiny_lm.encode("Which city?", PASSAGES)
    everything = write_drafts(tiny_lm, [prompt], GROUPS, 6)[0]
    chosen = write_drafts(tiny_lm, [prompt], groups, 6)[0]
    assert chosen.ids == everything.ids
    if not groups:
        assert chosen.readout is None
    else:
        assert_close(chosen, {group: readout(everything).mass[group] for group in groups}, 0)
    read = read_drafts(tiny_lm, [prompt], ["Canberra"], groups)[0]
    whole = read_drafts(tiny_lm, [prompt], ["Canberra"], GROUPS)[0]
    assert_close(read, {group: readout(whole).mass[group] for group in groups}, 0)
    assert readout(read).row_mass is None  # rows are reduced as they come: rows x tokens are never kept


@pytest.mark.parametrize("draft", ["", "  \n", [], ()])
def test_no_draft_to_read(tiny_lm: LanguageModel, draft: Any) -> None:
    prompt = tiny_lm.encode("Which city?", PASSAGES)
    with pytest.raises(EmptyDraftError, match=r"the draft is empty \(.*nothing to attribute"):
        read_drafts(tiny_lm, [prompt], [draft], [RowGroup("question"), RowGroup("draft")])[0]
    groups = [RowGroup("question"), RowGroup("last")]
    read = read_drafts(tiny_lm, [prompt], [draft], groups)[0]
    whole = read_drafts(tiny_lm, [prompt], ["Canberra"], groups)[0]
    assert_close(read, readout(whole).mass)  # the prompt's rows do not see the draft


def test_a_draft_that_does_not_fit(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    model = copy.deepcopy(tiny_model)
    lm = LanguageModel(model, tiny_tokenizer)
    prompt = lm.encode("Which city?", PASSAGES)
    model.config.max_position_embeddings = len(prompt) + 3
    ids = lm.encode_draft("It is Canberra, of course.")
    with pytest.raises(ContextTooLongError, match=f"take {len(prompt)} tokens and the answer may take {len(ids)}, "):
        read_drafts(lm, [prompt], [ids], GROUPS)[0]
    assert read_drafts(lm, [prompt], [ids[:3]], GROUPS)[0].ids == ids[:3]


def test_a_model_that_writes_nothing(silent_lm: LanguageModel) -> None:
    """Its prompt rows are read, its draft rows are missing."""
    prompt = silent_lm.encode("Which city?", PASSAGES)
    draft = write_drafts(silent_lm, [prompt], GROUPS, 6)[0]
    assert (draft.text, draft.ids, readout(draft).row_mass, draft.thoughts) == ("", [], None, "")
    assert {group.rows for group in readout(draft).mass} == {"question", "last"}


def test_rows_of_thoughts_are_not_the_drafts(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """Attention of zero queries is uniform, so a row's mass on a source can be counted: tokens by tokens seen."""
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.add_tokens([AddedToken(text, special=False) for text in ("<think>", "</think>")])
    written = tokenizer("<think>Hm, Rome?</think>Paris", add_special_tokens=False).input_ids
    answer = tokenizer("Paris", add_special_tokens=False).input_ids
    lm, prompt = scripted(tokenizer, written, layers=2)
    draft = write_drafts(lm, [prompt], [RowGroup("draft")], 40)[0]
    assert (draft.text, draft.ids, draft.thoughts) == ("Paris", answer, "<think>Hm, Rome?</think>")
    start = len(written) - len(answer)
    seen = torch.tensor([len(prompt) + start + i for i in range(len(answer))])
    lengths = torch.tensor([stop - first for first, stop in prompt.sources])
    expected = (lengths[None] / seen[:, None]).expand(2, 2, -1, -1)
    torch.testing.assert_close(readout(draft).row_mass, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(readout(draft).mass[RowGroup("draft")], expected.mean(2), atol=1e-6, rtol=0)


def test_drafts_of_a_batch_keep_their_places(tiny_lm: LanguageModel, sample_questions: list[Question]) -> None:
    prompts = [tiny_lm.encode(q.text, q.passages[: 1 + i]) for i, q in enumerate(sample_questions[:4])]
    together = write_drafts(tiny_lm, prompts, GROUPS, 7)
    for prompt, draft in zip(prompts, together, strict=True):
        alone = write_drafts(tiny_lm, [prompt], GROUPS, 7)[0]
        assert (draft.text, draft.ids, list(draft.prompt_ids)) == (alone.text, alone.ids, prompt.ids)
        assert_close(draft, readout(alone).mass)
