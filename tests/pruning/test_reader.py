"""Two models: a small one scores, and a reader of another kind writes drafts and answers."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM, LlamaForCausalLM, PreTrainedTokenizerFast

from at2_prune.errors import AT2PruneError, ContextTooLongError, EmptyDraftError, InputError, ModelNotSupportedError
from at2_prune.models import language_model
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.shared_models import forget_models, shared_model
from at2_prune.pipeline.config import PruneConfig
from at2_prune.pipeline.step import PruneStep
from at2_prune.pruning.pruner import AT2Pruner

from .cases import PASSAGES, QUESTION


def pruner_of(scorer: LanguageModel, reader: LanguageModel | None = None, **options: object) -> AT2Pruner:
    options = {"method": "average_attention", "max_new_tokens": 8, **options}
    return AT2Pruner.from_pretrained(scorer, reader=reader, **options)  # type: ignore[arg-type]


def short(lm: LanguageModel, positions: int) -> LanguageModel:
    """The same model with a context of so many tokens."""
    model = copy.deepcopy(lm.model)
    model.config.max_position_embeddings = positions
    return LanguageModel(model, lm.tokenizer, name=f"short-{lm.name}")  # type: ignore[arg-type]


def test_the_reader_drafts_and_answers_and_the_other_model_scores(scorer_lm: LanguageModel, tiny_lm: LanguageModel):
    both = pruner_of(scorer_lm, tiny_lm)
    alone = pruner_of(tiny_lm)
    written = alone.draft(QUESTION, PASSAGES).text
    result = both.answer(QUESTION, PASSAGES, 2)
    assert result.draft == written
    assert result.scores == pruner_of(scorer_lm).score(QUESTION, PASSAGES, draft=written)
    assert result.answer == alone.answer_from(QUESTION, PASSAGES, sorted(result.kept))
    assert result.answer == both.answer_from(QUESTION, PASSAGES, sorted(result.kept))
    assert result.fallback is None
    assert (both.language_model, both.reader) == (scorer_lm, tiny_lm)


def test_a_draft_from_all_passages_is_the_answer_from_all(scorer_lm: LanguageModel, tiny_lm: LanguageModel) -> None:
    both = pruner_of(scorer_lm, tiny_lm)
    result = both.answer(QUESTION, PASSAGES, len(PASSAGES))
    assert result.answer == result.draft
    assert result.seconds["answer"] == 0
    auto = both.answer(QUESTION, PASSAGES, "auto")
    alone = {one.k: pruner_of(tiny_lm).answer_from(QUESTION, PASSAGES, one.kept) for one in auto.candidates}
    assert {one.k: one.answer for one in auto.candidates} == alone
    assert all(one.log_probability > float("-inf") for one in auto.candidates)


def test_a_written_draft_may_be_given_back(scorer_lm: LanguageModel, tiny_lm: LanguageModel) -> None:
    both = pruner_of(scorer_lm, tiny_lm)
    draft = both.draft(QUESTION, PASSAGES)
    assert draft.ids == scorer_lm.encode_draft(draft.text)
    assert draft.log_probability == pruner_of(tiny_lm).draft(QUESTION, PASSAGES).log_probability
    assert both.score(QUESTION, PASSAGES, draft) == both.score(QUESTION, PASSAGES)
    given = both.answer(QUESTION, PASSAGES, 2, draft=draft)
    assert given.answer == both.answer(QUESTION, PASSAGES, 2).answer


@pytest.mark.parametrize("method", ["bm25", "random", "average_attention", "gradient_x_input", "leave_one_out"])
def test_a_batch_is_each_alone(scorer_lm: LanguageModel, tiny_lm: LanguageModel, method: str) -> None:
    both = pruner_of(scorer_lm, tiny_lm, method=method)
    questions = [QUESTION, "Where was Adolphe Sax born?"]
    together = both.answer_batch(questions, [PASSAGES, PASSAGES[:3]], 2)
    for question, some, found in zip(questions, [PASSAGES, PASSAGES[:3]], together, strict=True):
        alone = both.answer(question, some, 2)
        assert (found.answer, found.draft, found.kept) == (alone.answer, alone.draft, alone.kept)
        assert found.scores == pytest.approx(alone.scores, abs=1e-5)


def test_one_model_under_two_names_is_one(tiny_lm: LanguageModel) -> None:
    same = AT2Pruner.from_pretrained(tiny_lm, method="average_attention", reader=tiny_lm.name, max_new_tokens=8)
    assert same.reader is tiny_lm
    assert not same.loop.two_models
    assert same.answer(QUESTION, PASSAGES, 2).answer == pruner_of(tiny_lm).answer(QUESTION, PASSAGES, 2).answer


def test_passages_that_only_the_reader_has_room_for(scorer_lm: LanguageModel, tiny_lm: LanguageModel) -> None:
    """The scoring model reads in windows; the reader drafts from all passages, and reads kept passages whole."""
    small = short(scorer_lm, len(scorer_lm.encode(QUESTION, [])) + 60)
    long = [*PASSAGES, " ".join(["A long passage of many words goes on and on."] * 20)]
    both = pruner_of(small, tiny_lm)
    result = both.answer(QUESTION, long, len(long))
    assert result.draft == pruner_of(tiny_lm).draft(QUESTION, both._passages(long)).text
    assert result.answer == result.draft
    kept = both.answer(QUESTION, long, 2)
    assert kept.answer == pruner_of(tiny_lm).answer_from(QUESTION, long, sorted(kept.kept))


def test_passages_that_only_the_scoring_model_has_room_for(scorer_lm: LanguageModel, tiny_lm: LanguageModel) -> None:
    room = max(len(tiny_lm.encode(QUESTION, [p])) for p in pruner_of(tiny_lm)._passages(PASSAGES)) + 8
    reader = short(tiny_lm, room)
    both = pruner_of(scorer_lm, reader)
    assert both.answer(QUESTION, PASSAGES, 1).draft  # drafted from windows
    message = (
        f"the context of the reader short-tiny-random-llama holds {room} tokens, but .* take [0-9]+ tokens and the "
        "answer may take 8 more: "
    )
    with pytest.raises(ContextTooLongError, match=f"{message}keep fewer or shorter passages, or use a reader with"):
        both.answer(QUESTION, PASSAGES, len(PASSAGES))
    with pytest.raises(ContextTooLongError, match=message):
        pruner_of(scorer_lm, reader, method="bm25").answer(QUESTION, PASSAGES, len(PASSAGES))
    with pytest.raises(ContextTooLongError, match=f"{message}.*, or use overflow='windows'"):
        pruner_of(scorer_lm, reader, overflow="error").answer(QUESTION, PASSAGES, 1)


def test_a_method_that_reads_no_prompt_cuts_for_the_reader(scorer_lm: LanguageModel, tiny_lm: LanguageModel) -> None:
    reader = short(tiny_lm, len(tiny_lm.encode(QUESTION, [])) + 80)
    long = [*PASSAGES[:2], " ".join(["Adolphe Sax was born on a river and invented the saxophone."] * 20)]
    both = pruner_of(scorer_lm, reader, method="bm25")
    result = both.answer("Who invented the saxophone?", long, 1)
    assert (result.kept, bool(result.answer)) == ([2], True)
    with pytest.raises(ContextTooLongError, match="the context of the reader short-tiny-random-llama holds"):
        both.answer_from(QUESTION, long, [2])


def test_a_budget_counts_the_tokens_of_the_reader(scorer_lm: LanguageModel, tiny_lm: LanguageModel) -> None:
    counts = [len(tiny_lm.codec.plain(passage.text)[0]) for passage in PASSAGES]
    assert counts != [len(scorer_lm.codec.plain(passage.text)[0]) for passage in PASSAGES]
    step = PruneStep(PruneConfig(max_tokens=sum(counts)), pruner_of(scorer_lm, tiny_lm))
    assert step.run(QUESTION, PASSAGES).unchanged
    step = PruneStep(PruneConfig(max_tokens=sum(counts) - 1), pruner_of(scorer_lm, tiny_lm))
    assert not step.run(QUESTION, PASSAGES).unchanged


def test_a_reader_that_writes_nothing(scorer_lm: LanguageModel, silent_lm: LanguageModel, caplog) -> None:
    silent_lm.name = "silent-model"
    both = pruner_of(scorer_lm, silent_lm)
    with pytest.raises(EmptyDraftError, match="the reader silent-model wrote an empty draft"):
        both.score(QUESTION, PASSAGES)
    result = both.answer(QUESTION, PASSAGES, 2)
    assert result.kept == [0, 1]
    assert result.fallback is not None
    assert "the reader silent-model wrote an empty draft" in result.fallback
    assert "silent-model wrote an empty answer from 2 sources" in caplog.text
    assert both.draft(QUESTION, PASSAGES).text == ""


def test_a_reader_whose_attention_cannot_be_read(scorer_lm: LanguageModel, tiny_lm: LanguageModel) -> None:
    torch.manual_seed(0)
    config = BloomConfig(
        vocab_size=len(tiny_lm.tokenizer), hidden_size=16, n_layer=2, n_head=2, eos_token_id=2, pad_token_id=0
    )
    bloom = LanguageModel(BloomForCausalLM(config).eval(), tiny_lm.tokenizer, name="bloom")
    with pytest.raises(ModelNotSupportedError):
        pruner_of(bloom).answer(QUESTION, PASSAGES, 2)
    both = pruner_of(scorer_lm, bloom)
    assert both.answer(QUESTION, PASSAGES, 2).answer == both.answer_batch([QUESTION] * 2, [PASSAGES] * 2, 2)[1].answer
    assert len(both.answer(QUESTION, PASSAGES, "auto").candidates) > 1


@pytest.fixture
def reader_folder(tiny_lm: LanguageModel, tmp_path: Path) -> Path:
    tiny_lm.model.save_pretrained(tmp_path / "reader")
    tiny_lm.tokenizer.save_pretrained(tmp_path / "reader")
    return tmp_path / "reader"


def test_a_reader_by_name_is_loaded_once(scorer_lm: LanguageModel, reader_folder: Path) -> None:
    first = AT2Pruner.from_pretrained(
        scorer_lm, method="bm25", reader=reader_folder, dtype="bfloat16", device="cpu", max_new_tokens=8
    )
    assert (first.reader.name, first.reader.model.dtype) == (str(reader_folder), torch.bfloat16)
    second = AT2Pruner.from_pretrained(scorer_lm, method="random", reader=str(reader_folder), dtype="bfloat16")
    assert second.reader is first.reader
    assert shared_model(reader_folder, dtype="bfloat16") is first.reader
    other = AT2Pruner.from_pretrained(scorer_lm, method="random", reader=reader_folder)
    assert other.reader.model.dtype == torch.float32
    itself = AT2Pruner.from_pretrained(reader_folder, method="bm25", reader=reader_folder)
    assert itself.reader is itself.language_model is other.reader
    forget_models()
    assert shared_model(reader_folder) is not other.reader


@pytest.mark.parametrize(
    ("reader", "error", "message"),
    [
        ("no/such/reader", InputError, "the reader cannot be used: cannot load model 'no/such/reader': it is neither"),
        ("  ", InputError, "reader must be a model's id or path, or a LanguageModel, got '  '"),
        (3, InputError, "reader must be a model's id or path, or a LanguageModel, got 3"),
        ("broken", ModelNotSupportedError, "the reader cannot be used: .*chat template cannot show a question"),
        ("untokenized", InputError, "the reader cannot be used: .*: its tokenizer cannot be read"),
    ],
)
def test_a_reader_that_cannot_be_used_is_found_before_the_scoring_model_is_loaded(
    reader: object,
    error: type[AT2PruneError],
    message: str,
    tiny_model: LlamaForCausalLM,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(*_: object) -> None:
        raise AssertionError("the model is loaded")

    if reader in ("broken", "untokenized"):
        tiny_model.config.save_pretrained(tmp_path)
        if reader == "broken":
            tokenizer = copy.deepcopy(tiny_tokenizer)
            tokenizer.chat_template = "{{ raise_exception('no') }}"
            tokenizer.save_pretrained(tmp_path)
        reader = tmp_path
    monkeypatch.setattr(language_model, "load_weights", load)
    monkeypatch.setattr(language_model, "embedded_model_path", load)
    with pytest.raises(error, match=message):
        AT2Pruner.from_pretrained(reader=reader)  # type: ignore[arg-type]
