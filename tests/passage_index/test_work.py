"""The work of a question on a warm index, in tokens that run: its own, and those of the answer's prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from haystack import Document as HaystackDocument
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from at2_prune import AT2Pruner
from at2_prune.models.language_model import LanguageModel
from at2_prune.passage_index.layout import encode_head, encode_question
from at2_prune.passage_index.stores import shared_memory
from at2_prune.scorers.scout import ScoutScorer
from haystack_at2_prune import AT2DocumentPruner
from langchain_at2_prune import AT2DocumentCompressor
from llama_index.postprocessor.at2_prune import AT2Postprocessor

from .cases import PASSAGES, QUESTION, tiny_coefficients

OTHER = "Who was born in Dinant?"
TEXTS = [passage.text for passage in PASSAGES]
Ask = Callable[[str], Any]


@pytest.fixture(autouse=True)
def _cold() -> Iterator[None]:
    """No test finds what another one kept in memory."""
    shared_memory.clear()
    yield
    shared_memory.clear()


@pytest.fixture
def passes(tiny_lm: LanguageModel) -> Iterator[list[int]]:
    """The number of tokens of every pass."""
    tokens: list[int] = []
    embeddings = tiny_lm.model.get_input_embeddings()
    hook = embeddings.register_forward_hook(lambda _, args, out: tokens.append(args[0].numel()))
    yield tokens
    hook.remove()


def pruner(lm: LanguageModel, folder: Path | None = None, **options: Any) -> AT2Pruner:
    return AT2Pruner(lm, ScoutScorer(tiny_coefficients(), folder), max_new_tokens=4, **options)


def asked(lm: LanguageModel, question: str) -> int:
    return len(encode_head(lm.codec)) + len(encode_question(lm.codec, question)[0])


def langchain(of: AT2Pruner) -> Ask:
    compressor = AT2DocumentCompressor(pruner=of, top_n=2)
    return lambda question: compressor.compress_documents([Document(text) for text in TEXTS], question)


def llama_index(of: AT2Pruner) -> Ask:
    processor = AT2Postprocessor(pruner=of, top_n=2)
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
    return lambda question: processor.postprocess_nodes(nodes, QueryBundle(question))


def haystack(of: AT2Pruner) -> Ask:
    component = AT2DocumentPruner(pruner=of, top_n=2)
    return lambda question: component.run(question, [HaystackDocument(content=text) for text in TEXTS])


def library(of: AT2Pruner) -> Ask:
    return lambda question: of.score(question, TEXTS)


@pytest.mark.parametrize("where", ["memory", "disk"])
@pytest.mark.parametrize("adapter", [library, langchain, llama_index, haystack])
def test_a_question_runs_its_own_tokens_only(
    adapter: Callable[[AT2Pruner], Ask], where: str, tiny_lm: LanguageModel, passes: list[int], tmp_path: Path
) -> None:
    ask = adapter(pruner(tiny_lm, tmp_path if where == "disk" else None))
    ask(QUESTION)
    assert sum(passes) > asked(tiny_lm, QUESTION)  # the passages, once
    passes.clear()
    ask(OTHER)
    ask(QUESTION)
    assert passes == [asked(tiny_lm, OTHER), asked(tiny_lm, QUESTION)]


def test_an_index_on_disk_is_warm_in_a_new_process(tiny_lm: LanguageModel, passes: list[int], tmp_path: Path) -> None:
    pruner(tiny_lm, tmp_path).score(QUESTION, PASSAGES)
    shared_memory.clear()  # as in a new process
    passes.clear()
    pruner(tiny_lm, tmp_path, granularity="sentence").score(OTHER, PASSAGES)
    assert passes == [asked(tiny_lm, OTHER)]


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_an_answer_reads_the_kept_passages_once(
    where: str, tiny_lm: LanguageModel, passes: list[int], tmp_path: Path
) -> None:
    made = pruner(tiny_lm, tmp_path if where == "disk" else None)
    made.score(QUESTION, PASSAGES)
    passes.clear()
    result = made.answer(QUESTION, PASSAGES, 2)
    prompt = len(tiny_lm.encode(QUESTION, [PASSAGES[i] for i in result.kept]))
    steps = [tokens for tokens in passes if tokens == 1]
    assert sum(passes) - len(steps) == asked(tiny_lm, QUESTION) + prompt
    assert len(steps) < 4
