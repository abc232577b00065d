"""Runs passages and questions through the first layers of a model, each text alone. Queries and keys are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..attention.hooks import enable_attention_reading, listening
from ..attention.reader import EnoughRead
from ..attention.weights import scaled_logits
from ..errors import ContextTooLongError, ModelNotSupportedError
from ..models.language_model import LanguageModel
from .layout import Piece, encode_head, encode_question
from .records import DEFAULT_PRECISION, Bits, PieceRecord, Precision, Vectors

__all__ = ["Encoder", "LayerRows"]

TOKENS_AT_ONCE = 4096
"""The maximum number of tokens in a batch of pieces, padding included."""
_BITS: dict[Precision, Bits] = {"int4": 4, "int8": 8, "float32": 32}


@dataclass(frozen=True)
class LayerRows:
    """The queries of a text in one layer, and for each query a log-sum-exp of attention logits; see `own`."""

    rows: torch.Tensor
    """The queries, `(heads, rows, width)` float32, multiplied by the layer's scaling."""
    own: torch.Tensor
    """For each row, the log-sum-exp of its attention logits, `(heads, rows)`. The sum is over the opening text
    `layout.HEAD`, the tokens of the text up to the row, and the attention sink if the layer has one."""
    softcap: float | None = None


class Encoder:
    """Runs texts through the first layers of a model.

    A question attends to all kept keys, even in layers with sliding-window or chunked attention. Such a window limits
    the distance between tokens of one text. A question and a passage are two texts, which start at the same position.
    No window is applied between them.

    Args:
        language_model: a model whose attention can be read.
        layers: the layers whose keys are kept. Layers after the last of these layers do not run.
        link_layers: the layers whose queries are kept too. They are a subset of `layers`.
        precision: the precision of the kept vectors.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        layers: Sequence[int],
        link_layers: Sequence[int] = (),
        precision: Precision = DEFAULT_PRECISION,
    ) -> None:
        enable_attention_reading(language_model.model)
        self.language_model = language_model
        self.layers = tuple(sorted(layers))
        self.link_layers = tuple(sorted(link_layers))
        self.precision = precision
        self.head = encode_head(language_model.codec)

    def question(self, text: str) -> dict[int, LayerRows]:
        """Return the rows of a question in each layer.

        Raises:
            InputError: the question is empty.
            ContextTooLongError: the question does not fit into the model's context.
            ModelNotSupportedError: the keys of a layer cannot be kept, or the rows are not finite.
        """
        ids, (start, stop) = encode_question(self.language_model.codec, text)
        self._check_length(ids)
        read = self._run([ids])
        first = len(self.head)
        rows = {layer: _rows(inputs, 0, slice(first + start, first + stop)) for layer, inputs in read.items()}
        if not all(bool(one.isfinite().all()) for found in rows.values() for one in (found.rows, found.own)):
            raise self.language_model.not_finite()
        return rows

    def pieces(self, pieces: Sequence[Piece]) -> list[PieceRecord]:
        """Return the record of every piece. Pieces of similar length run as one batch.

        A model that does not pad exactly (see `Compatibility.pads_exactly`) reads the pieces one by one.

        Raises:
            ContextTooLongError: a piece does not fit into the model's context.
            ModelNotSupportedError: the keys of a layer cannot be kept, or a vector of a record is not finite.
        """
        for piece in pieces:
            self._check_length(piece.ids)
        together = len(pieces) < 2 or self.language_model.compatibility.pads_exactly
        found: dict[int, PieceRecord] = {}
        waiting = sorted(range(len(pieces)), key=lambda i: len(pieces[i].ids))
        while waiting:
            longest = len(self.head) + len(pieces[waiting[-1]].ids)
            batch = waiting[-max(1, TOKENS_AT_ONCE // longest if together else 1) :]
            waiting = waiting[: len(waiting) - len(batch)]
            read = self._run([pieces[i].ids for i in batch])
            for item, i in enumerate(batch):
                found[i] = self._record(read, item, pieces[i])
        return [found[i] for i in range(len(pieces))]

    def _check_length(self, ids: Sequence[int]) -> None:
        limit = self.language_model.context_length
        if limit is not None and len(self.head) + len(ids) > limit:
            raise ContextTooLongError(
                f"a question or a part of a passage takes {len(self.head) + len(ids)} tokens, but "
                f"{self.language_model.name} has a context of {limit} tokens: use a model with a longer context"
            )

    def _record(self, read: dict[int, _Inputs], item: int, piece: Piece) -> PieceRecord:
        span = slice(len(self.head), len(self.head) + len(piece.ids))
        keys = {layer: Vectors.keep(inputs.key[item, :, span], self._bits(layer)) for layer, inputs in read.items()}
        linked = {layer: _rows(read[layer], item, span) for layer in self.link_layers}
        bits = _BITS[self.precision]
        rows = {layer: Vectors.keep(found.rows, bits) for layer, found in linked.items()}
        record = PieceRecord(
            piece.title, keys, rows, {layer: found.own.cpu().contiguous() for layer, found in linked.items()}
        )
        if not record.is_finite:
            raise self.language_model.not_finite()
        return record

    def _bits(self, layer: int) -> Bits:
        """Return the number of bits of a layer's keys.

        The keys of a link layer have at least 8 bits. With fewer bits, recall falls.
        """
        return max(_BITS[self.precision], 8 if layer in self.link_layers else 4)  # type: ignore[return-value]

    @torch.inference_mode()
    def _run(self, texts: Sequence[Sequence[int]]) -> dict[int, _Inputs]:
        """Run several texts as one batch, each after the opening text.

        The texts are padded on the right. In causal attention, no token attends to this padding.
        """
        model = self.language_model.model
        length = len(self.head) + max(map(len, texts))
        ids = torch.zeros(len(texts), length, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, text in enumerate(texts):
            tokens = [*self.head, *text]
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        options: dict[str, Any] = {"attention_mask": mask.to(model.device), "use_cache": False}
        if self.language_model.compatibility.takes_positions:
            options["position_ids"] = torch.arange(length, device=model.device).expand(len(texts), -1)
        if self.language_model.compatibility.keeps_logits:
            options["logits_to_keep"] = 1
        listener = _Listener(self.layers)
        try:
            with listening(listener):
                model(input_ids=ids.to(model.device), **options)
        except EnoughRead:
            pass
        missing = [layer for layer in self.layers if layer not in listener.inputs]
        if missing:
            raise ModelNotSupportedError(
                f"{self.language_model.name} has no attention that can be read in layers {missing}: choose other layers"
            )
        return listener.inputs


@dataclass(frozen=True)
class _Inputs:
    query: torch.Tensor  # (texts, heads, tokens, width)
    key: torch.Tensor  # (texts, key/value heads, tokens, width)
    scaling: float
    softcap: float | None
    sinks: torch.Tensor | None


class _Listener:
    """Keeps queries and keys of some layers, and ends the pass after the last of these layers."""

    def __init__(self, layers: Sequence[int]) -> None:
        self.layers = layers
        self.inputs: dict[int, _Inputs] = {}

    def __call__(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        kernel: str,
        options: dict[str, Any],
    ) -> None:
        layer: Any = getattr(module, "layer_idx", None)
        if layer not in self.layers:
            return
        if options.get("position_bias") is not None or key.shape[2] != query.shape[2]:
            raise ModelNotSupportedError(
                f"layer {layer} uses a position bias or the keys of another layer, so its keys cannot be kept and used "
                "with other questions: use another method, such as at2"
            )
        scaling = options.get("scaling")
        capped = None if kernel == "sdpa" else options.get("softcap")
        sinks = None if kernel == "sdpa" else options.get("s_aux")
        self.inputs[layer] = _Inputs(query, key, query.shape[-1] ** -0.5 if scaling is None else scaling, capped, sinks)
        if layer == self.layers[-1]:
            raise EnoughRead


def _rows(inputs: _Inputs, item: int, span: slice) -> LayerRows:
    """Return the rows of one text in one layer; see `LayerRows`."""
    rows = inputs.query[item, :, span].float() * inputs.scaling
    logits = scaled_logits(rows, inputs.key[item].float(), inputs.softcap)
    tokens = torch.arange(logits.shape[-1], device=rows.device)
    logits = logits.masked_fill(tokens > tokens[span, None], -torch.inf)
    own = logits.logsumexp(-1)
    if inputs.sinks is not None:
        own = torch.logaddexp(own, inputs.sinks.float().reshape(-1, 1))
    return LayerRows(rows.cpu(), own.cpu(), inputs.softcap)
