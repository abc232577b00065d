"""Tiny encoders in ONNX format, and their outputs computed by numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

WIDTH = 6
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def embeddings(tokenizer: PreTrainedTokenizerFast) -> np.ndarray:  # (tokens, WIDTH)
    return np.random.default_rng(0).normal(size=(len(tokenizer), WIDTH)).astype(np.float32)


def write_embedder(folder: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Write a model whose states are a token's embedding plus the mean of all. It has one input, the ids."""
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node
    nodes = [
        node("Gather", ["table", "input_ids"], ["embeddings"]),
        node("ReduceMean", ["embeddings", "axis"], ["mean"], keepdims=1),
        node("Add", ["embeddings", "mean"], ["states"]),
    ]
    return _write(folder, tokenizer, INPUTS[:1], nodes, {}, ["batch", "length", WIDTH])


def write_reranker(folder: Path, tokenizer: PreTrainedTokenizerFast, outputs: int = 1) -> Path:
    """Write a model whose outputs begin the mean embedding, in which tokens of the second text count twice."""
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node
    nodes = [
        node("Gather", ["table", "input_ids"], ["embeddings"]),
        node("Add", ["token_type_ids", "attention_mask"], ["counts"]),
        node("Cast", ["counts"], ["factors"], to=onnx.TensorProto.FLOAT),
        node("Unsqueeze", ["factors", "last"], ["column"]),
        node("Mul", ["embeddings", "column"], ["weighted"]),
        node("ReduceMean", ["weighted", "axis"], ["mean"], keepdims=0),
        node("Slice", ["mean", "start", "end", "axis"], ["states"]),
    ]
    constants = {"last": np.array([2]), "start": np.array([0]), "end": np.array([outputs])}
    return _write(folder, tokenizer, INPUTS, nodes, constants, ["batch", outputs])


def _write(
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    inputs: Sequence[str],
    nodes: Sequence[object],
    constants: Mapping[str, np.ndarray],
    shape: list[str | int],
) -> Path:
    onnx = pytest.importorskip("onnx")
    values = {**constants, "table": embeddings(tokenizer), "axis": np.array([1])}
    graph = onnx.helper.make_graph(
        nodes,
        "tiny",
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["batch", "length"]) for name in inputs],
        [onnx.helper.make_tensor_value_info("states", onnx.TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    folder.mkdir()
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    return folder
