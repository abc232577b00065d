"""Loading a model from a folder: options, damaged files, code of its own, devices and precisions."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModel,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from at2_prune.encoders.encoder import Encoder
from at2_prune.errors import AT2PruneError, InputError
from at2_prune.models.compatibility import loading_options
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.prompts import ChatTemplate, TextTemplate
from at2_prune.pruning.pruner import AT2Pruner

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from exactness import eager_copy
from families import build

from .scripted import PASSAGES

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


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
