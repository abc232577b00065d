"""Settings that cannot be used are refused before the model is loaded: by the library, the adapters and the commands.

The model of these tests has a config and a tokenizer, but no weights that can be read. An error about a setting shows
that the setting was checked first.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, LlamaForCausalLM, PreTrainedTokenizerFast

from at2_prune.attention.rows import RowGroup
from at2_prune.cli import main
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients
from at2_prune.errors import AT2PruneError, InputError
from at2_prune.models.language_model import LanguageModel
from at2_prune.pipeline.config import PruneConfig
from at2_prune.pipeline.step import PruneStep
from at2_prune.pruning.pruner import AT2Pruner
from at2_prune.scorers.scout import ScoutScorer

QUESTION = "Which river?"
TEXTS = ["Dinant lies on the Meuse.", "Ghent is a city."]
REMOVED = "the method prompt_scout, an earlier form of scout, was removed in 0.2: use scout"


def scout(layers: tuple[int, ...], heads: int = 4, model_type: str = "llama") -> ScoutCoefficients:
    first, following = torch.zeros(2, 6, len(layers), heads)
    return ScoutCoefficients(first, following, torch.zeros(6, 1, heads), layers, layers[-1:], "tiny", model_type, 2)


@pytest.fixture(scope="module")
def made(
    tiny_model: LlamaForCausalLM,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tiny_reranker: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with a model whose weights are damaged, and with coefficients, indexes and encoders."""
    place, before = tmp_path_factory.mktemp("settings"), Path.cwd()
    os.chdir(place)
    _make(tiny_model, tiny_tokenizer, tiny_reranker)
    os.chdir(before)
    return place


@pytest.fixture
def folder(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder as the working folder, so that settings can be relative paths."""
    monkeypatch.chdir(made)
    return made


def _make(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tiny_reranker: Path) -> None:
    tiny_model.save_pretrained("whole")
    tiny_tokenizer.save_pretrained("whole")
    shutil.copytree("whole", "model")
    Path("model/model.safetensors").write_bytes(b"no weights")
    HeadCoefficients.average(2, 4, "llama").save_pretrained("at2")
    HeadCoefficients.average(2, 4, "gemma").save_pretrained("gemma")
    measured = [RowGroup("draft", measure="contribution")]
    HeadCoefficients(torch.ones(1, 2, 4), measured, model_type="llama").save_pretrained("measured")
    shutil.copytree("at2", "prompt")
    config = json.loads(Path("prompt/config.json").read_text(encoding="utf-8"))
    config["row_groups"][0]["rows"] = "question"
    Path("prompt/config.json").write_text(json.dumps(config), encoding="utf-8")
    scout((0, 1)).save_pretrained("scout")
    shutil.copytree("at2", "damaged")
    Path("damaged/head_coefficients.safetensors").write_bytes(b"no coefficients")
    shutil.copytree("scout", "damaged_scout")
    Path("damaged_scout/scout_coefficients.safetensors").write_bytes(b"no coefficients")
    Path("estimator.pt").write_bytes(b"no estimator")
    shutil.copytree(tiny_reranker, "reranker")
    shutil.copytree("reranker", "no_tokenizer")
    for file in Path("no_tokenizer").glob("*token*"):
        file.unlink()
    labels = BertConfig(hidden_size=16, intermediate_size=16, num_attention_heads=2, num_hidden_layers=1, num_labels=3)
    BertForSequenceClassification(labels).save_pretrained("labels")
    tiny_tokenizer.save_pretrained("labels")
    lm = LanguageModel(tiny_model, tiny_tokenizer, name="whole")
    ScoutScorer(scout((1,)), "index_of_layer_1").index(lm)
    Path("damaged_index").mkdir()
    Path("damaged_index/passages.sqlite").write_bytes(b"no database" * 99)
    Path("file").touch()
    Path("empty").mkdir()
    Path("passages.json").write_text(json.dumps(TEXTS))


WRONG: list[tuple[dict[str, str], str]] = [
    ({"coefficients": "missing"}, "'missing' is neither a folder with head coefficients"),
    ({"coefficients": "empty"}, "empty: no head coefficients that can be read (it has no config.json)"),
    ({"coefficients": "damaged"}, "damaged: no head coefficients that can be read"),
    ({"coefficients": "damaged_scout"}, "damaged_scout: no coefficients of scout that can be read"),
    ({"coefficients": "estimator.pt"}, "estimator.pt: not a published AT2 estimator"),
    ({"coefficients": "gemma"}, "were made for another model (type gemma, 2 layers x 4 heads); this model is of type"),
    ({"coefficients": "measured", "method": "at2"}, "the method at2 needs coefficients of at2"),
    ({"coefficients": "prompt"}, f"coefficients of the method prompt_scout cannot be used, because {REMOVED}"),
    ({"coefficients": "at2", "method": "bm25"}, "the method bm25 "),
    (
        {"coefficients": "at2", "cross_encoder": "reranker"},
        "coefficients and cross_encoder belong to different methods",
    ),
    ({"embedder": "reranker", "cross_encoder": "reranker"}, "cross_encoder and embedder belong to different methods"),
    ({"method": "at2"}, "no coefficients of the method at2 come with at2-prune for model: train them"),
    ({"cross_encoder": "missing"}, "cannot load the encoder 'missing'"),
    ({"cross_encoder": "no_tokenizer"}, "cannot load the encoder 'no_tokenizer': ValueError: it has no tokenizer"),
    ({"cross_encoder": "labels"}, "'labels' classifies into 3 labels; a reranker must have one output"),
    ({"embedder": "missing"}, "cannot load the encoder 'missing'"),
    ({"embedder": "no_tokenizer", "method": "dense"}, "cannot load the encoder 'no_tokenizer'"),
    ({"coefficients": "scout", "index": "index_of_layer_1"}, "index of another model or of other settings (layers"),
    ({"coefficients": "scout", "index": "index_of_layer_1"}, "model_name: 'whole' there, 'model' now"),
    ({"coefficients": "scout", "index": "damaged_index"}, "passages.sqlite cannot be read or written"),
    ({"coefficients": "scout", "index": "file"}, "file is a file; name a folder"),
]
ways = pytest.mark.parametrize(("settings", "says"), WRONG, ids=lambda value: str(value)[:60])


def library(settings: dict[str, str]) -> None:
    AT2Pruner.from_pretrained("model", **settings)  # type: ignore[arg-type]


def step(settings: dict[str, str]) -> None:
    PruneStep(PruneConfig(model="model", **settings)).run(QUESTION, TEXTS)  # type: ignore[arg-type]


def langchain(settings: dict[str, str]) -> None:
    documents = pytest.importorskip("langchain_core.documents")
    from langchain_at2_prune import AT2DocumentCompressor

    compressor = AT2DocumentCompressor(model="model", **settings)
    compressor.compress_documents([documents.Document(text) for text in TEXTS], QUESTION)


def llama_index(settings: dict[str, str]) -> None:
    schema = pytest.importorskip("llama_index.core.schema")
    from llama_index.postprocessor.at2_prune import AT2Postprocessor

    nodes = [schema.NodeWithScore(node=schema.TextNode(text=text)) for text in TEXTS]
    AT2Postprocessor(model="model", **settings).postprocess_nodes(nodes, query_str=QUESTION)


def haystack(settings: dict[str, str]) -> None:
    haystack = pytest.importorskip("haystack")
    from haystack_at2_prune import AT2DocumentPruner

    AT2DocumentPruner(model="model", **settings).run(QUESTION, [haystack.Document(content=text) for text in TEXTS])


def serve(settings: dict[str, str]) -> None:
    pytest.importorskip("fastapi")
    from at2_prune.server.app import create_app
    from at2_prune.server.limits import Limits

    create_app(PruneStep(PruneConfig(model="model", **settings)), Limits())  # type: ignore[arg-type]


@ways
@pytest.mark.parametrize("use", [library, step, langchain, llama_index, haystack, serve])
def test_settings_of_a_pipeline(
    use: Callable[[dict[str, str]], None], settings: dict[str, str], says: str, folder: Path
) -> None:
    with pytest.raises(AT2PruneError) as refused:
        use(settings)
    assert says in str(refused.value)


@ways
@pytest.mark.parametrize("command", ["answer", "score"])
def test_options_of_a_command(
    command: str, settings: dict[str, str], says: str, folder: Path, capsys: pytest.CaptureFixture[str], caplog
) -> None:
    options = [word for name, value in settings.items() for word in ("--" + name.replace("_", "-"), value)]
    assert main([command, QUESTION, "--passages", "passages.json", "--model", "model", *options]) == 2
    out, line = capsys.readouterr()
    assert (out, line.count("\n"), caplog.text) == ("", 1, "")
    assert says in line


@pytest.mark.parametrize(
    ("options", "says"),
    [
        *((["--coefficients", one["coefficients"]], says) for one, says in WRONG[:6]),
        (["--coefficients", "prompt"], f"coefficients of the method prompt_scout cannot be used, because {REMOVED}"),
        (["--coefficients", "at2=measured"], "measured belongs to the method contribution_learned, not to at2: give"),
        (["--coefficients", "at2", "gemma"], "another method has the name at2 already"),
        (["--methods", "guess", "--coefficients", "at2"], "no method 'guess'"),
        (["--methods", "at2"], "no coefficients of the method at2 come with at2-prune for model"),
        ([], "no coefficients of the method scout come with at2-prune for model"),
        (["--methods", "all", "--coefficients", "damaged"], "damaged: no head coefficients that can be read"),
        (["--methods", "cross_encoder", "--cross-encoder", "no_tokenizer"], "cannot load the encoder 'no_tokenizer'"),
        (["--methods", "dense", "--embedder", "no_tokenizer"], "cannot load the encoder 'no_tokenizer'"),
        (["--methods", "dense", "--embedder", "missing"], "cannot load the encoder 'missing'"),
        (["--methods", "random", "--faithfulness", "3", "--coefficients", "damaged"], "damaged: no head coefficients"),
    ],
)
def test_options_of_eval(options: list[str], says: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--model", "model", "--out", "out", *options]) == 2
    assert says in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--coefficients", "damaged_scout"], "damaged_scout: no coefficients of scout that can be read"),
        (["--coefficients", "at2"], "the method scout needs coefficients of scout"),
        (["--coefficients", "scout", "--out", "index_of_layer_1"], "index of another model or of other settings"),
    ],
)
def test_options_of_index(options: list[str], says: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "--model", "model", "--passages", "passages.json", "--out", "out", *options]) == 2
    assert says in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize("model", ["model", "missing"])
@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["train", "--learn-from", "answer"], "bare.jsonl: no question has an answer to learn from"),
        (["train-scout", "--layers", "0", "2"], "layers must be at least 0 and below 2, and every link layer"),
        (["train-scout"], "bare.jsonl: no question names its supporting passages"),
    ],
)
def test_options_of_training(
    command: list[str], model: str, says: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = {"question": QUESTION, "passages": TEXTS}
    Path("bare.jsonl").write_text("\n".join(json.dumps({"id": str(i), **bare}) for i in range(3)))
    assert main([*command, "--model", model, "--data", "bare.jsonl", "--out", "out"]) == 2
    assert (says if model == "model" else "cannot load model 'missing'") in capsys.readouterr().err
    assert not Path("out").exists()


def test_an_index_of_another_model_is_found_before_the_first_question(folder: Path, tiny_lm: LanguageModel) -> None:
    AT2Pruner.from_pretrained("whole", "scout", index="index")
    tiny_lm.model.lm_head.weight.data[0, 0] += 1
    with pytest.raises(InputError, match="is the passage index of another model or of other settings"):
        AT2Pruner.from_pretrained(tiny_lm, "scout", index="index")
    tiny_lm.model.lm_head.weight.data[0, 0] -= 1
