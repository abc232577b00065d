"""Compare the cost of scout, which keeps the keys of passages, with a plain pass and with other rankings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from measuring import Measurement, exponent, median, paired
from performance_figure import COST
from workload import Case, asked, described, device_of, untouched

from at2_prune import AT2Pruner, LanguageModel, Passage
from at2_prune.coefficients.loading import load_coefficients
from at2_prune.coefficients.scout_coefficients import CosineFeature, ScoutCoefficients
from at2_prune.encoders.embedder import Embedder
from at2_prune.errors import CoefficientsError
from at2_prune.passage_index.encoder import Encoder
from at2_prune.passage_index.features import LINKS, QUESTION
from at2_prune.passage_index.stores import shared_memory
from at2_prune.scorers import CrossEncoderScorer, Scorer
from at2_prune.scorers.scout import ScoutScorer
from at2_prune.training.scout_fit import ScoutSettings

__all__ = ["BYTES", "index_cost", "kept_passages", "scout_coefficients_of"]

BYTES = "scout: bytes kept for each token"
Way = Callable[[], Any]


def scout_coefficients_of(lm: LanguageModel) -> tuple[ScoutCoefficients, str]:
    """Return scout's coefficients that come with at2-prune, else random ones; and a word that says which they are."""
    try:
        shipped = load_coefficients(lm, method="scout")
        assert isinstance(shipped, ScoutCoefficients)
        return shipped, "shipped"
    except CoefficientsError:
        config = lm.model.config.get_text_config()
        chosen = ScoutSettings().resolved(config.num_hidden_layers)
        heads, drawn = config.num_attention_heads, torch.Generator().manual_seed(0)
        own = torch.randn(2, len(QUESTION), len(chosen.layers), heads, generator=drawn)
        links = torch.randn(len(LINKS), len(chosen.link_layers), heads, generator=drawn)
        made = ScoutCoefficients(
            own[0],
            own[1],
            links,
            chosen.layers,
            chosen.link_layers,
            model_type=config.model_type,
            model_layers=config.num_hidden_layers,
        )
        return made, "random"


def index_cost(
    lm: LanguageModel, some: Case, pairs: int, cross_encoder: str | None, embedder: str | None
) -> Iterator[Measurement]:
    """Time scout on kept and on new passages, divided by a forward pass, a generation or a cross-encoder."""
    coefficients, origin = scout_coefficients_of(lm)
    pruner = AT2Pruner(lm, ScoutScorer(coefficients))
    ids = torch.tensor([some.prompt.ids], device=lm.device)
    options: dict[str, Any] = {"logits_to_keep": 1} if lm.compatibility.keeps_logits else {}
    bare = partial(untouched, lm)
    inputs = described(lm, some, coefficients=origin)
    kept = partial(pruner.score, some.question, some.passages)
    question, many = asked(100 * len(some.passages))
    kept_many = partial(pruner.score, question, many)

    def new() -> None:
        shared_memory.clear()
        kept()

    def forward() -> Any:
        return lm.model(input_ids=ids, use_cache=False, **options)

    yield paired("scout: kept passages / forward pass", inputs, kept, forward, pairs, 0.05, bare)
    yield paired("scout: new passages / forward pass", inputs, new, forward, pairs, 0.40, bare)
    yield paired("indexing / forward pass of as many layers", *_indexing(lm, coefficients, some, inputs, pairs))
    answer = partial(pruner.answer, some.question, some.passages, 3)
    short = lm.encode(some.question, [some.passages[i] for i in sorted(answer().kept)])
    plain = partial(lm.generate, [some.prompt], pruner.max_new_tokens)
    described_answer = {**inputs, "k": 3, "short": len(short)}
    yield paired("scout: answer, passages kept / generate", described_answer, answer, plain, pairs, 0.40, bare)
    more = {**inputs, "kept": len(many)}
    few = max(1, pairs // 3)
    yield paired("scout: 100 times as many kept passages / forward pass", more, kept_many, forward, few, 1.0, bare)
    if cross_encoder:
        reranker = _ranking(lm, CrossEncoderScorer(cross_encoder), some.question, some.passages)
        named = {**inputs, "cross-encoder": cross_encoder.rstrip("/").rsplit("/", 1)[-1]}
        yield paired("scout: kept passages / cross-encoder", named, kept, reranker, pairs, 0.1)
    if embedder:
        yield from _with_embedder(lm, coefficients, embedder, some, {"forward": forward, "scout": kept}, pairs)
    records = [record for records in pruner_index(pruner).records(some.passages) for record in records]
    size = sum(record.nbytes for record in records) / sum(record.tokens for record in records)
    yield Measurement(BYTES, {"model": lm.name, "device": device_of(lm)}, size, size, size, 1024)


def _with_embedder(
    lm: LanguageModel, coefficients: ScoutCoefficients, name: str, some: Case, others: dict[str, Way], pairs: int
) -> Iterator[Measurement]:
    """Time scout_dense on kept and on new passages. The weights of the cosine do not change the time."""
    embedder = Embedder(name)
    embedder.load(lm.device)
    weights = CosineFeature(1.0, 1.0, name, embedder.probe())
    pruner = AT2Pruner(lm, ScoutScorer(replace(coefficients, cosine=weights)))
    kept = partial(pruner.score, some.question, some.passages)
    inputs = {**described(lm, some), "embedder": name.rstrip("/").rsplit("/", 1)[-1]}
    forward = others["forward"]
    yield paired("scout_dense: kept passages / forward pass", inputs, kept, forward, pairs, 0.05)
    yield paired(
        "scout_dense: new passages / forward pass", inputs, partial(_after_clearing, kept), forward, pairs, 0.40
    )
    yield paired("scout_dense: kept passages / scout", inputs, kept, others["scout"], pairs, None)


def kept_passages(
    lm: LanguageModel, sizes: Sequence[int], times: int, cross_encoder: str | None
) -> Iterator[Measurement]:
    """Time the ways to score a number of passages, and generation from all passages. Yield medians.

    Args:
        lm: the model.
        sizes: the numbers of passages, ascending. Generation stops at 50 passages, and ways that read every passage
            anew at 200.
        times: the number of runs for at most 100 passages. More passages are scored once.
        cross_encoder: a reranker, or None.
    """
    coefficients, _ = scout_coefficients_of(lm)
    pruner = AT2Pruner(lm, ScoutScorer(coefficients))
    warm: list[float] = []
    for size in sizes:
        question, passages = asked(size)
        kept = partial(pruner.score, question, passages)
        ways: dict[str, Way] = {"scout, kept passages": kept}
        if size <= 200:
            ways["scout, new passages"] = partial(_after_clearing, kept)
        if cross_encoder and size <= 200:
            ways["cross-encoder"] = _ranking(lm, CrossEncoderScorer(cross_encoder), question, passages)
        if size <= 50:
            whole = lm.encode(question, passages)
            ways["generation from all passages"] = partial(lm.generate, [whole], pruner.max_new_tokens)
        for name, way in ways.items():
            way()
            taken = [_seconds(way) for _ in range(times if size <= 100 else 1)]
            inputs = {"model": lm.name, "device": device_of(lm), "passages": size, "way": name, "times": len(taken)}
            yield Measurement(COST, inputs, median(taken), min(taken), max(taken))
            if name == "scout, kept passages":
                warm.append(median(taken))
    slope = exponent(sizes[-2:], warm[-2:])
    inputs = {"model": lm.name, "device": device_of(lm), "passages": list(sizes[-2:])}
    yield Measurement("scout: exponent against kept passages", inputs, slope, slope, slope)


def pruner_index(pruner: AT2Pruner) -> Any:
    scorer = pruner.scorer
    assert isinstance(scorer, ScoutScorer)
    return scorer.index(pruner.language_model)


def _ranking(lm: LanguageModel, scorer: Scorer, question: str, passages: Sequence[Passage]) -> Way:
    return partial(AT2Pruner(lm, scorer).score, question, passages)


def _after_clearing(way: Way) -> None:
    shared_memory.clear()
    way()


def _seconds(way: Way) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


def _indexing(
    lm: LanguageModel, coefficients: ScoutCoefficients, some: Case, inputs: dict[str, Any], pairs: int
) -> tuple[Any, ...]:
    """Return the arguments of `paired` for reading passages, and for plain passes over the same batches."""
    encoder = Encoder(lm, coefficients.layers, coefficients.link_layers)
    index = pruner_index(AT2Pruner(lm, ScoutScorer(coefficients)))
    pieces = [piece for passage in some.passages for piece in index.pieces(passage)]
    texts = [torch.tensor([*encoder.head, *piece.ids]) for piece in pieces]
    batch = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True).to(lm.device)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(text) for text in texts], batch_first=True).to(lm.device)
    options: dict[str, Any] = {"logits_to_keep": 1} if lm.compatibility.keeps_logits else {}

    def forward() -> Any:
        return lm.model(input_ids=batch, attention_mask=mask, use_cache=False, **options)

    limit = 1 / 0.9
    return (
        inputs,
        partial(encoder.pieces, pieces),
        forward,
        pairs,
        limit,
        partial(_shallow, lm, coefficients.layers[-1]),
    )


@contextmanager
def _shallow(lm: LanguageModel, last: int) -> Iterator[None]:
    """Run the model without the layers after `last`, and without the reading of attention."""
    base: Any = lm.model.base_model
    layers = base.layers
    with untouched(lm):
        base.layers = layers[: last + 1]
        try:
            yield
        finally:
            base.layers = layers
