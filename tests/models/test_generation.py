"""The answer among the tokens that a model wrote: where it begins, where it ends, and what are thoughts."""

from __future__ import annotations

import copy
import random

import pytest
from tokenizers import AddedToken
from transformers import (
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from at2_prune.models.drafts import write_drafts
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.prompts import ChatTemplate, TextTemplate

from .scripted import scripted


@pytest.fixture
def marked_tokenizer(tiny_tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """With thought markers, gpt-oss's channels and tokens that hold a line break among other characters."""
    tokenizer = copy.deepcopy(tiny_tokenizer)
    texts = ["<think>", "</think>", "Paris.\nQuestion", ".\n", "\n\nRome", "\n \n"]
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in texts])
    channels = ["<|channel|>", "<|message|>", "<|end|>", "<|start|>", "[THINK]", "[/THINK]"]
    tokenizer.add_tokens([AddedToken(text, special=True) for text in channels], special_tokens=True)
    return tokenizer


def ids_of(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False).input_ids


@pytest.mark.parametrize(
    ("written", "text", "answer"),
    [
        (["Par", "is"], "Paris", (0, 2)),
        ([" Par", "is", "\n", "more"], "Paris", (0, 2)),
        (["\n", " Par", "is"], "Paris", (1, 3)),
        (["\t", "\n", " Par", "is", " "], "Paris", (2, 4)),
        (["\n"], "", (1, 1)),
        ([], "", (0, 0)),
        (["Paris.\nQuestion", "x"], "Paris.", (0, 1)),
        (["Yes", ".\n", "x"], "Yes.", (0, 2)),
        (["\n\nRome", "\n", "x"], "Rome", (0, 1)),
        (["Par", "is", "\n \n"], "Paris", (0, 2)),
    ],
)
def test_what_counts_as_the_answer(
    marked_tokenizer: PreTrainedTokenizerFast, written: list[str], text: str, answer: tuple[int, int]
) -> None:
    tokens = []
    for part in written:
        ids = ids_of(marked_tokenizer, part)
        if len(ids) > 1:  # not a token by itself: let its last part stand for it
            marked_tokenizer.add_tokens([AddedToken(part, special=False, normalized=False)])
            ids = ids_of(marked_tokenizer, part)
        tokens += ids
    assert len(tokens) == len(written)
    lm, prompt = scripted(marked_tokenizer, tokens)
    generation = lm.generate([prompt], max_new_tokens=12)[0][0]
    assert (generation.text, generation.answer) == (text, answer)
    stopped = next((i + 1 for i in range(len(written)) if "\n" in "".join(written[: i + 1]).lstrip()), len(written))
    assert generation.ids == tokens[:stopped]
    assert generation.answer_ids == tokens[slice(*answer)]


def test_a_stop_of_several_tokens_is_no_part_of_the_answer(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = ids_of(tiny_tokenizer, "Rome #@ stop")
    before = ids_of(tiny_tokenizer, "Rome")
    assert tokens[: len(before)] == before
    assert len(tokens) - len(before) >= 3
    after = next(i for i in ids_of(tiny_tokenizer, " zoo") if i not in tokens)
    lm, prompt = scripted(tiny_tokenizer, [*tokens, after], TextTemplate(stop=("never", "#@ stop")))
    generation = lm.generate([prompt], max_new_tokens=20)[0][0]
    assert generation.ids == tokens
    assert generation.text == "Rome"
    assert generation.answer_ids == before
    lm, prompt = scripted(tiny_tokenizer, tokens[len(before) :], TextTemplate(stop=("#@ stop",)))
    generation = lm.generate([prompt], max_new_tokens=20)[0][0]
    assert (generation.text, generation.answer_ids) == ("", [])


def test_answers_of_random_tokens(tiny_model: LlamaForCausalLM, marked_tokenizer: PreTrainedTokenizerFast) -> None:
    """The answer's text is its tokens' text: nothing more, and not one token more than it takes."""
    lm = LanguageModel(tiny_model, marked_tokenizer, TextTemplate(stop=("\n", "#@ stop", "é🙂")))
    pool = ids_of(marked_tokenizer, "a b\n\n \té🙂日本 #@ stop #.\n Paris.\nQuestion\n\nRome\n \n Yes, zoo")
    decode = lm.codec.decode
    rng, texts = random.Random(0), set()
    for _ in range(1500):
        ids = rng.choices(pool, k=rng.randint(0, 12))
        generation = lm.generation(ids)
        expected = decode(ids).lstrip()
        for stop in lm.template.stop:
            expected = expected.split(stop)[0]
        texts.add(generation.text)
        assert generation.ids == ids
        assert generation.text == expected.strip()
        start, stop_at = generation.answer
        if not generation.text:
            assert generation.answer_ids == []
            continue
        assert decode(ids[start:stop_at]).strip().startswith(generation.text)
        if not generation.text.endswith("\ufffd"):  # half a character: its bytes cannot be counted in the text
            assert generation.text not in decode(ids[start : stop_at - 1])
        assert decode(ids[:start]).strip() == ""
        assert decode(ids[start : start + 1]).strip() != ""
    assert len(texts) > 100


CLOSED = "<think>Hm, Rome?\nNo.</think>\n\nParis"
PROMPTED = "Hm, Rome?\nNo.</think>\n\nParis"


@pytest.mark.parametrize(
    ("tail", "written", "text", "thoughts"),
    [
        ("", CLOSED, "Paris", "<think>Hm, Rome?\nNo.</think>"),
        ("", "<think>Hm, Rome?\nNo.", "", "<think>Hm, Rome?\nNo."),
        ("", "Paris", "Paris", ""),
        ("<think>\n", PROMPTED, "Paris", "Hm, Rome?\nNo.</think>"),
        ("<think>\n", "Hm, Rome?\nNo.", "", "Hm, Rome?\nNo."),
        ("<think>\n\n</think>\n\n", "Paris", "Paris", ""),
        ("", "[THINK]Hm.[/THINK]Paris", "Paris", "Hm."),
        ("", "[THINK]Hm.", "", "Hm."),
        (
            "<|start|>assistant",
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Paris",
            "Paris",
            "analysisHm.assistantfinal",
        ),
        ("<|start|>assistant", "<|channel|>analysis<|message|>Hm.", "", "analysisHm."),
        ("", "<think></think>", "", "<think></think>"),
    ],
)
@pytest.mark.parametrize("stop", [(), ("\n",)])
def test_the_answer_is_what_follows_the_thoughts(
    tiny_model: LlamaForCausalLM,
    marked_tokenizer: PreTrainedTokenizerFast,
    tail: str,
    written: str,
    text: str,
    thoughts: str,
    stop: tuple[str, ...],
) -> None:
    lm = LanguageModel(tiny_model, marked_tokenizer, ChatTemplate("<|im_start|>user\n", tail, stop=stop))
    ids = ids_of(marked_tokenizer, written)
    generation = lm.generation([*ids, 2, 0, 0])
    assert generation.ids == ids
    assert generation.text == text
    assert lm.codec.decode(generation.answer_ids).strip() == text
    start = generation.answer[0]
    assert lm.codec.decode(ids[:start]).strip() == thoughts
    assert (generation.answer_ids == []) is (text == "")


def test_thoughts_end_to_end(marked_tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = ids_of(marked_tokenizer, "<think>Hm, Rome?\n No</think>Paris")
    lm, prompt = scripted(marked_tokenizer, tokens)  # a stop inside the thoughts does not end them
    draft = write_drafts(lm, [prompt], max_new_tokens=40)[0]
    assert (draft.text, draft.thoughts) == ("Paris", "<think>Hm, Rome?\n No</think>")
    assert draft.ids == ids_of(marked_tokenizer, "Paris")
    cut = write_drafts(lm, [prompt], max_new_tokens=len(tokens) - 4)[0]
    assert (cut.text, cut.ids) == ("", [])
    assert cut.thoughts.startswith("<think>Hm")
