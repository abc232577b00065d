"""Adapters and GGUF files that are named by their id on the Hub, read from the Hub's cache on disk."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from at2_prune.errors import InputError, MissingExtraError
from at2_prune.models.language_model import LanguageModel
from at2_prune.passages import Passage
from at2_prune.pruning.pruner import AT2Pruner

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PASSAGES = [Passage("Dinant lies on the Meuse.", title="Dinant"), Passage("Ghent is a city.")]


def publish(folder: Path, name: str, cache: Path) -> None:
    """Put the files of a folder into a cache of the Hub, as a download of the repository `name` leaves them."""
    repository = cache / ("models--" + name.replace("/", "--"))
    shutil.copytree(folder, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)


def logits(lm: LanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return lm.model(torch.tensor([lm.encode("Which river?", PASSAGES).ids])).logits


@pytest.fixture
def cache(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    """A cache of the Hub that holds the model `user/base`."""
    tiny_model.save_pretrained(tmp_path / "base")
    tiny_tokenizer.save_pretrained(tmp_path / "base")
    publish(tmp_path / "base", "user/base", tmp_path / "hub")
    return tmp_path / "hub"


@pytest.fixture
def adapter(tiny_model: LlamaForCausalLM, cache: Path) -> Path:
    """The folder of a LoRA adapter for `user/base`, which the cache holds too, as `user/adapter`."""
    peft: Any = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    base = LlamaForCausalLM(tiny_model.config)
    base.name_or_path = "user/base"
    base.load_state_dict(tiny_model.state_dict())
    folder = cache.parent / "lora"
    peft.get_peft_model(base, config).save_pretrained(folder)
    publish(folder, "user/adapter", cache)
    return folder


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft's own use of transformers
def test_an_adapter_of_the_hub_is_merged_as_one_in_a_folder(adapter: Path, cache: Path) -> None:
    from_folder = LanguageModel.load(adapter, device="cpu", cache_dir=cache)
    from_hub = LanguageModel.load("user/adapter", device="cpu", cache_dir=cache)
    assert from_hub.name == "user/adapter"
    assert torch.equal(logits(from_hub), logits(from_folder))
    assert (logits(from_hub) - logits(LanguageModel.load("user/base", device="cpu", cache_dir=cache))).abs().max() > 0.1


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_adapter_beside_a_models_config_is_not_left_out(adapter: Path, cache: Path) -> None:
    shutil.copytree(cache.parent / "base", cache.parent / "both")
    shutil.copytree(adapter, cache.parent / "both", dirs_exist_ok=True)
    publish(cache.parent / "both", "user/both", cache)
    both = LanguageModel.load("user/both", device="cpu", cache_dir=cache)
    assert torch.equal(logits(both), logits(LanguageModel.load(adapter, device="cpu", cache_dir=cache)))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_revision_and_subfolder_are_those_of_the_adapter(adapter: Path, cache: Path) -> None:
    shutil.copytree(adapter, cache.parent / "runs" / "last")
    publish(cache.parent / "runs", "user/runs", cache)
    lm = LanguageModel.load("user/runs", device="cpu", cache_dir=cache, subfolder="last", revision=COMMIT)
    assert torch.equal(logits(lm), logits(LanguageModel.load(adapter, device="cpu", cache_dir=cache)))


def test_an_adapter_of_the_hub_needs_peft(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bare").mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": "user/base"}
    (tmp_path / "bare" / "adapter_config.json").write_text(json.dumps(config))
    publish(tmp_path / "bare", "user/bare", cache)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"'user/bare' is a PEFT adapter. Loading it needs peft, .*pip install"):
        LanguageModel.load("user/bare", device="cpu", cache_dir=cache)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_reader_may_be_an_adapter_of_the_hub(
    adapter: Path, cache: Path, tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(
        json.dumps({**config, "base_model_name_or_path": str(cache.parent / "base")})
    )
    publish(adapter, "user/reader", cache)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    pruner = AT2Pruner.from_pretrained(tiny_lm, method="average_attention", reader="user/reader", device="cpu")
    assert pruner.reader.name == "user/reader"
    assert torch.equal(logits(pruner.reader), logits(LanguageModel.load(adapter, device="cpu")))


def test_a_reader_that_needs_peft_is_found_before_the_scoring_model_is_loaded(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "adapter_config.json").write_text("{}")
    publish(tmp_path / "bare", "user/bare", cache)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.setattr(LanguageModel, "load", lambda *given, **options: pytest.fail("a model is loaded"))
    with pytest.raises(MissingExtraError, match=r"'user/bare' is a PEFT adapter. Loading it needs peft"):
        AT2Pruner.from_pretrained(reader="user/bare")


@pytest.mark.parametrize("base", ["user/own", "", None])
def test_an_adapter_of_the_hub_without_a_base_model(base: str | None, cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    publish(tmp_path / "own", "user/own", cache)
    with pytest.raises(InputError, match=r"'user/own' is a PEFT adapter, but base_model_name_or_path in .* is"):
        LanguageModel.load("user/own", device="cpu", cache_dir=cache)


@pytest.fixture
def gguf_folder(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    """A folder with the tiny model and its tokenizer as a GGUF file."""
    gguf: Any = pytest.importorskip("gguf")
    folder = tmp_path / "gguf"
    folder.mkdir()
    config, state = tiny_model.config, tiny_model.state_dict()
    writer = gguf.GGUFWriter(folder / "tiny.f32.gguf", "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    parts = json.loads(tiny_tokenizer.backend_tokenizer.to_str())["model"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tiny_tokenizer.convert_ids_to_tokens(list(range(config.vocab_size))))
    writer.add_token_merges([" ".join(pair) for pair in parts["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in state.items():
        writer.add_tensor(names.get_name(name, (".weight",)), tensor.float().numpy().astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder


def test_a_gguf_file_of_the_hub(gguf_folder: Path, cache: Path) -> None:
    publish(gguf_folder, "user/gguf", cache)
    options: dict[str, Any] = {"device": "cpu", "gguf_file": "tiny.f32.gguf"}
    from_hub = LanguageModel.load("user/gguf", **options, cache_dir=cache)
    assert torch.equal(logits(from_hub), logits(LanguageModel.load(gguf_folder, **options)))


def test_a_gguf_file_of_the_hub_that_is_not_named(gguf_folder: Path, cache: Path) -> None:
    publish(gguf_folder, "user/gguf", cache)
    with pytest.raises(InputError, match=r"load 'user/gguf' with gguf_file='tiny\.f32\.gguf', which needs pip install"):
        LanguageModel.load("user/gguf", device="cpu", cache_dir=cache)


CACHED = """
import sys
from at2_prune.errors import AT2PruneError
from at2_prune.models.hub import check_reachable
for name, files in (("user/gguf", ["model.gguf"]), ("user/adapter", ["config.json", "adapter_config.json"])):
    check_reachable(name, files, {"cache_dir": sys.argv[1]})
try:
    check_reachable("user/adapter", ["config.json"], {"cache_dir": sys.argv[1]})
except AT2PruneError as error:
    print(error)
"""


def test_without_a_connection_the_cache_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, file in (("gguf", "model.gguf"), ("adapter", "adapter_config.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
        publish(tmp_path / name, f"user/{name}", tmp_path / "hub")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-c", CACHED, str(tmp_path / "hub")], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("cannot load 'user/adapter': it is neither a folder nor in the Hub's cache, and http")
