from __future__ import annotations

import copy
import json
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken
from transformers import (
    AutoModel,
    BloomConfig,
    BloomForCausalLM,
    ByT5Tokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from at2_prune.datasets import Question
from at2_prune.errors import AT2PruneError, ContextTooLongError, InputError, ModelNotSupportedError
from at2_prune.models.compatibility import loading_options
from at2_prune.models.drafts import write_drafts
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.prompts import ChatTemplate, TextTemplate
from at2_prune.passages import Passage
from at2_prune.pruning.pruner import AT2Pruner
from at2_prune.scorers.encoder import Encoder

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from exactness import eager_copy
from families import build

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PASSAGES = [Passage("Canberra is the capital of Australia.", title="Canberra"), Passage("Sydney is larger.")]


def scripted(
    tokenizer: PreTrainedTokenizerFast, written: Sequence[int], template: Any = None
) -> tuple[LanguageModel, Any]:
    """A real Llama whose weights say which token follows which, and a prompt after which it writes `written`.

    Embeddings are one-hot, attention and MLP add nothing, and the output layer holds the successors; so no token may
    occur twice.
    """
    size = len(tokenizer)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=size,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=8,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    language_model = LanguageModel(model, tokenizer, template)
    prompt = language_model.encode("Which city?", PASSAGES)
    chain = [prompt.ids[-1], *written]
    assert len(set(chain)) == len(chain)
    successor = dict(zip(chain, [*written, config.eos_token_id], strict=True))
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            parameter.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        model.lm_head.weight.zero_()
        for token in range(size):
            model.lm_head.weight[successor.get(token, config.eos_token_id), token] = 1
    return language_model, prompt


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


def language_model(tiny_model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, template: Any) -> LanguageModel:
    return LanguageModel(tiny_model, tokenizer, template)


def test_a_batch_writes_what_each_prompt_alone_does(tiny_lm: LanguageModel, sample_questions: list[Question]) -> None:
    prompts = [tiny_lm.encode(q.text, q.passages[: 1 + 2 * i]) for i, q in enumerate(sample_questions[:5])]
    assert len({len(prompt) for prompt in prompts}) == 5
    together, reader = tiny_lm.generate(prompts, max_new_tokens=12)
    assert reader is None
    alone = [tiny_lm.generate([prompt], max_new_tokens=12)[0][0] for prompt in prompts]
    assert [g.ids for g in together] == [g.ids for g in alone]
    assert [g.answer for g in together] == [g.answer for g in alone]
    assert [g.text for g in together] == [g.text for g in alone]
    assert len({generation.text for generation in together}) > 1


def test_generate_is_an_argmax_loop(tiny_lm: LanguageModel, sample_questions: list[Question]) -> None:
    prompt = tiny_lm.encode(sample_questions[0].text, sample_questions[0].passages[:3])
    ids = list(prompt.ids)
    with torch.inference_mode():
        for _ in range(10):
            ids.append(int(tiny_lm.model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert tiny_lm.generate([prompt], max_new_tokens=10)[0][0].ids == ids[len(prompt) :]


@pytest.mark.parametrize(
    "settings",
    [
        {"do_sample": True, "temperature": 5.0, "top_k": 50},
        {"num_beams": 3},
        {"num_return_sequences": 2, "do_sample": True},
        {"repetition_penalty": 3.0},
        {"return_dict_in_generate": True},
        {"use_cache": False},
        {"cache_implementation": "static"},
        {"max_length": 5},
        {"max_new_tokens": 3},
        {"no_repeat_ngram_size": 1},
        {"suppress_tokens": list(range(5, 700))},
        {"begin_suppress_tokens": list(range(5, 700))},
        {"bad_words_ids": [[token] for token in range(5, 700)]},
        {"forced_eos_token_id": 7},
        {"sequence_bias": [[[token], -50.0] for token in range(5, 700)]},
        {"exponential_decay_length_penalty": (0, 5.0)},
        {"min_new_tokens": 12},
        {"stop_strings": ["a", "e"]},
        {"prefill_chunk_size": 7},
        {"guidance_scale": 3.0},
        {"prompt_lookup_num_tokens": 3},
    ],
)
def test_a_models_generation_config_does_not_change_the_answer(
    tiny_model: LlamaForCausalLM,
    tiny_tokenizer: PreTrainedTokenizerFast,
    sample_questions: list[Question],
    settings: dict[str, Any],
) -> None:
    changed = copy.deepcopy(tiny_model)
    for name, value in settings.items():
        setattr(changed.generation_config, name, value)
    answers = []
    for model in (tiny_model, changed):
        lm = LanguageModel(model, tiny_tokenizer)
        prompt = lm.encode(sample_questions[0].text, sample_questions[0].passages[:2])
        answers.append(lm.generate([prompt], max_new_tokens=12)[0])
    assert answers[0] == answers[1]


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
    lm = language_model(tiny_model, marked_tokenizer, TextTemplate(stop=("\n", "#@ stop", "é🙂")))
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
    lm = language_model(tiny_model, marked_tokenizer, ChatTemplate("<|im_start|>user\n", tail, stop=stop))
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


def test_max_new_tokens(tiny_lm: LanguageModel) -> None:
    prompt = tiny_lm.encode("Which city?", PASSAGES)
    longest = tiny_lm.generate([prompt], max_new_tokens=9)[0][0].ids
    assert len(longest) == 9
    assert tiny_lm.generate([prompt], max_new_tokens=4)[0][0].ids == longest[:4]


def test_context_length(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    model = copy.deepcopy(tiny_model)
    lm = LanguageModel(model, tiny_tokenizer, name="small")
    prompt = lm.encode("Which city?", PASSAGES)
    model.config.max_position_embeddings = len(prompt) + 7
    assert lm.context_length == len(prompt) + 7
    assert len(lm.generate([prompt], max_new_tokens=7)[0][0].ids) == 7
    says = f"take {len(prompt)} tokens and the answer up to 8, but small takes {len(prompt) + 7} in all"
    with pytest.raises(ContextTooLongError, match=says):
        lm.generate([prompt], max_new_tokens=8)
    short = lm.encode("Which city?", PASSAGES[:1])
    with pytest.raises(ContextTooLongError, match=says):
        lm.generate([short, prompt], max_new_tokens=8)
    unlimited = LanguageModel(
        BloomForCausalLM(BloomConfig(vocab_size=801, hidden_size=8, n_layer=1, n_head=1)), tiny_tokenizer
    )
    assert unlimited.context_length is None
    unlimited.check_length(10**9, 1)


@pytest.mark.parametrize("chat", [False, True])
def test_a_draft_given_as_text_is_tokenised_as_an_answer(
    tiny_lm: LanguageModel, tiny_tokenizer: PreTrainedTokenizerFast, chat: bool
) -> None:
    lm = tiny_lm
    if chat:
        tokenizer = copy.deepcopy(tiny_tokenizer)
        tokenizer.chat_template = CHATML
        lm = LanguageModel(lm.model, tokenizer)
    for text in ("Canberra", "the <bos> of <|im_end|>", "a  b\n\nc", "🏳️‍🌈"):
        ids = lm.encode_draft(f"  {text}\n")
        assert lm.codec.decode(ids) == ("" if chat else " ") + text
        assert not set(ids) & set(range(5))
    assert lm.encode_draft("") == lm.encode_draft(" \n") == []


def test_sets_evaluation_mode_and_a_name(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    model = copy.deepcopy(tiny_model).train()
    lm = LanguageModel(model, tiny_tokenizer)
    assert not model.training
    assert lm.name == "LlamaForCausalLM"
    assert LanguageModel(model, tiny_tokenizer, name="mine").name == "mine"


def test_slow_tokenizers_are_refused(tiny_model: LlamaForCausalLM) -> None:
    with pytest.raises(ModelNotSupportedError, match="ByT5Tokenizer is not a fast tokenizer"):
        LanguageModel(tiny_model, ByT5Tokenizer())


@pytest.fixture(scope="module")
def saved(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


def test_load_a_folder(saved: Path, tiny_lm: LanguageModel) -> None:
    loaded = LanguageModel.load(saved)
    assert loaded.name == str(saved)
    assert loaded.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    loaded = LanguageModel.load(str(saved), device="cpu")
    assert loaded.model.dtype == torch.float32
    assert loaded.template == TextTemplate()
    prompt = tiny_lm.encode("Which city?", PASSAGES)
    assert loaded.encode("Which city?", PASSAGES) == prompt
    assert loaded.generate([prompt], 8)[0] == tiny_lm.generate([prompt], 8)[0]


def test_load_with_dtype_and_template(saved: Path) -> None:
    template = TextTemplate(name="mine")
    for dtype in ("bfloat16", torch.bfloat16):
        loaded = LanguageModel.load(saved, device="cpu", dtype=dtype, template=template)
        assert loaded.model.dtype == torch.bfloat16
        assert loaded.template is template
        assert loaded.generate([loaded.encode("Which city?", PASSAGES)], 4)[0][0].ids


def test_a_chat_model_is_prompted_by_its_chat_template(
    saved: Path, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    folder = shutil.copytree(saved, tmp_path / "chat")
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    template = LanguageModel.load(folder, device="cpu").template
    assert isinstance(template, ChatTemplate)
    assert template.head == "<|im_start|>user\n"


@pytest.mark.parametrize("name", ["no/such/folder", "/no/such/folder", "nobody/no-such-model", "no-such-model", ""])
def test_no_such_model(name: str) -> None:
    says = f"^cannot load model '{name}': it is neither a folder with a model nor a model that the Hub gives access to"
    with pytest.raises(InputError, match=says) as caught:
        LanguageModel.load(name)
    assert "\n" not in str(caught.value)


def edit_config(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit


def truncate(name: str, size: int) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size]) and None  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (truncate("config.json", 20), "not a valid JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "model_type"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "nope"}'), "nope"),
        (lambda folder: (folder / "config.json").unlink(), "neither a folder with a model"),
        (truncate("model.safetensors", 1000), "SafetensorError"),
        (truncate("model.safetensors", 0), "SafetensorError"),
        (truncate("model.safetensors", 90_000), "SafetensorError"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no file named model.safetensors"),
        (truncate("tokenizer.json", 1000), "JSONDecodeError"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "tokenizer cannot be read"),
        (edit_config(hidden_size=64), "RuntimeError"),
        (
            edit_config(num_hidden_layers=3),
            r"its weights lack 9 tensors \(model.layers.2.input_layernorm.weight, ...\)",
        ),
    ],
)
def test_damaged_folders(saved: Path, tmp_path: Path, damage: Callable[[Path], Any], says: str) -> None:
    folder = shutil.copytree(saved, tmp_path / "model")
    damage(folder)
    with pytest.raises(InputError, match=rf"^cannot load model '{folder}': .*{says}"):
        LanguageModel.load(folder, device="cpu")


OWN_CODE = """
from transformers import LlamaConfig, LlamaForCausalLM

class OwnConfig(LlamaConfig):
    model_type = "own-llama"

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def with_own_code(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model whose configuration and class come with it, of a type that transformers does not know."""
    folder = shutil.copytree(saved, tmp_path / "own")
    (folder / "own.py").write_text(OWN_CODE)
    auto_map = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    edit_config(model_type="own-llama", architectures=["OwnForCausalLM"], auto_map=auto_map)(folder)
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])  # to which transformers adds that folder
    return folder


def test_code_of_a_models_own_runs_only_if_asked_for(
    with_own_code: Path, tmp_path: Path, tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("builtins.input", lambda *words: asked.append(words) or "y")
    says = rf"^cannot load model '{with_own_code}': it comes with Python code .* pass trust_remote_code=True to run it"
    for options in ({}, {"trust_remote_code": False}):
        with pytest.raises(InputError, match=says):
            LanguageModel.load(with_own_code, device="cpu", **options)
    with pytest.raises(InputError, match=says):
        AT2Pruner.from_pretrained(with_own_code, method="bm25")
    with pytest.raises(InputError, match=r"cannot load the encoder '.*': it comes with Python code of its own"):
        Encoder(AutoModel, with_own_code, torch.device("cpu"))
    assert not asked
    assert not (tmp_path / "modules").exists()
    loaded = LanguageModel.load(with_own_code, device="cpu", trust_remote_code=True)
    assert type(loaded.model).__name__ == "OwnForCausalLM"
    prompt = tiny_lm.encode("Which city?", PASSAGES)
    assert loaded.generate([prompt], 8)[0] == tiny_lm.generate([prompt], 8)[0]


def test_code_that_only_the_weights_or_the_tokenizer_need(saved: Path, tmp_path: Path) -> None:
    weights = shutil.copytree(saved, tmp_path / "weights")
    edit_config(model_type="t5", auto_map={"AutoModelForCausalLM": "own.OwnForCausalLM"})(weights)
    tokenizer = shutil.copytree(saved, tmp_path / "tokenizer")
    path = tokenizer / "tokenizer_config.json"
    own = {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": ["own.OwnTokenizer", None]}}
    path.write_text(json.dumps({**json.loads(path.read_text()), **own}))
    for folder in (weights, tokenizer):
        with pytest.raises(InputError, match="it comes with Python code of its own"):
            LanguageModel.load(folder, device="cpu")


def test_gemma_2_runs_with_its_soft_cap(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """Whatever kernel transformers chooses by default, which may leave the soft-cap out."""
    model = build("gemma2")
    model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    loaded = LanguageModel.load(tmp_path, device="cpu").model
    ids = torch.arange(2, 42)[None]
    with torch.no_grad():
        logits = loaded(ids).logits
        torch.testing.assert_close(logits, eager_copy(model)(ids).logits, atol=1e-5, rtol=0)
    uncapped = build("gemma2", attn_logit_softcapping=None).config
    assert loading_options(uncapped) == loading_options(build("gemma3").config) == {}
    asked_for = LanguageModel.load(tmp_path, device="cpu", attn_implementation="flex_attention")
    assert asked_for.model.config._attn_implementation == "flex_attention"


@pytest.mark.parametrize("device", ["nope", "cpu:x", "mps", "cuda:99"])
def test_devices_that_are_not_there(saved: Path, device: str) -> None:
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(InputError, match=f"^device '{device}' cannot be used here: ."):
        LanguageModel.load(saved, device=device)


@pytest.mark.parametrize("dtype", ["nope", "int8", "auto", "nn", torch.int8])
def test_dtypes_that_are_none(saved: Path, dtype: Any) -> None:
    with pytest.raises(AT2PruneError, match=f"dtype {dtype!r} is unknown; use float32, bfloat16 or float16"):
        LanguageModel.load(saved, dtype=dtype)
