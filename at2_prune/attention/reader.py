"""Reads the attention mass per head, from chosen rows to every source, while the model runs.

A row is a query position (see `at2_prune.attention.rows`), and a source is a token span that gets a score. For a layer
with queries :math:`q`, keys :math:`k` and scale :math:`s`, the attention mass of head :math:`h` from row :math:`t` to
source :math:`S` is

.. math:: m_h(t, S) = \\sum_{j \\in S} \\mathrm{softmax}_j(s\\, q_{h,t} \\cdot k_{h,j} + \\mathrm{mask}_{t,j})

The features of AT2 are such masses (arXiv 2504.13752, section 3). The model keeps its fast kernel. The reader computes
the attention weights of the requested rows again, and sums these weights over the tokens of each source. If there are
many such rows, a fused kernel computes the sums, and may run other rows too. For each group of rows, memory holds
one number for each layer, head and source. With `reduce="none"`, memory holds these numbers for each row.
`at2_prune.attention.measures` defines other measures, which can replace the weights.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from transformers import PreTrainedModel

from ..errors import InputError, ModelNotSupportedError
from .decoding import CurrentStep, DecodingSteps
from .hooks import enable_attention_reading, listening
from .measures import Measure, apply_measure
from .row_mass import GroupMass, SourceSums
from .rows import Reading
from .weights import LayerInputs, allowed_keys, eager_weights, fused_sums, kernel_weights, softmax_weights

__all__ = ["AttentionReader", "EnoughRead", "read_attention"]

WEIGHTS_AT_ONCE = 2**24
"""The maximum number of attention weights in memory at a time: heads x rows x keys. In float32, these weights take
64 MiB."""
MANY_ROWS = 128
"""The minimum number of rows for `fused_sums`, which runs PyTorch's fused attention kernel. For fewer rows, the
attention weights are computed in float32."""
MOST_PARTS = 4
"""The maximum number of passes of the fused kernel in one layer. The number of sources in one pass is at most the head
dimension. If more passes are needed, it is faster to compute the attention weights instead."""


class EnoughRead(Exception):
    """Ends a forward pass after the last requested layer. It is raised so that later layers do not run."""


class AttentionReader:
    """Listens to the attention of a model, and keeps the attention mass. `read_attention` makes a reader.

    Args:
        readings: one reading for each sequence of the batch.
        layers: the layers to read, as indices. `None` reads all layers.
        past: the number of tokens that the model's cache holds before the first call.
        stop: whether to raise `EnoughRead` after the last of `layers`.
        given: the number of tokens per sequence that the caller passes to the first pass. If the model runs more
            tokens, an error is raised. With `None`, the number is not checked.
    """

    def __init__(
        self,
        readings: Sequence[Reading],
        layers: Collection[int] | None = None,
        past: int = 0,
        stop: bool = False,
        given: int | None = None,
    ) -> None:
        self._given = given
        self._only = None if layers is None else frozenset(layers)
        self._last = max(layers) if stop and layers else None
        self._past = past
        self._seen: dict[int, int] = {}
        self._readings = list(readings)
        self._groups = [[GroupMass(rows, reading.padding) for rows in reading.rows] for reading in readings]
        self._sums = SourceSums(self._readings)
        self._steps: dict[int, tuple[DecodingSteps, dict[str, Any]]] = {}
        self._step: CurrentStep | None = None

    @property
    def layers(self) -> list[int]:
        """The indices of the layers whose attention was read, in ascending order."""
        self.catch_up()
        return sorted({layer for groups in self._groups for group in groups for layer in group.mass})

    def mass(self, name: str, item: int = 0) -> torch.Tensor:
        """Return the attention mass of a row group in one sequence.

        Args:
            name: the name of the row group.
            item: the index of the sequence.

        Returns:
            `(layers, heads, sources)`, or `(layers, heads, rows, sources)` for a group with `reduce="none"`. The tensor
            is float32, on the model's device.

        Raises:
            InputError: there is no such group, the model did not run all rows of the group, or it did not run all
                sources.
            ModelNotSupportedError: the model ran no layer whose attention can be read, or the mass is not finite.
        """
        reading = self._readings[item]
        for group in self._groups[item]:
            if group.rows.name == name:
                if not self._seen:
                    raise ModelNotSupportedError("the model ran no readable attention layer; use another model")
                seen = max(self._seen.values()) - reading.padding
                if reading.sources and reading.sources[-1][1] > seen:
                    raise InputError(f"the sources end at token {reading.sources[-1][1]}, but the model ran {seen}")
                if not self.layers:
                    raise InputError(f"the model ran none of the rows of row group {name!r}")
                mass = torch.stack([group.result(layer) for layer in self.layers])
                if not bool(mass.isfinite().all()):
                    raise ModelNotSupportedError(
                        f"the attention of row group {name!r} is not finite: the model overflows in the precision it "
                        "was loaded with, so its answers are wrong too; load it in bfloat16 or float32"
                    )
                return mass
        raise InputError(f"no row group {name!r} was read, only {[group.rows.name for group in self._groups[item]]}")

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
        layer = getattr(module, "layer_idx", None)
        if layer is None:
            raise ModelNotSupportedError(f"{type(module).__name__} has no layer_idx; use another model")
        seen = self._seen.get(layer, self._past)
        new, keys = query.shape[2], key.shape[2]
        # Without a cache, a decoding step runs the whole text again. A longrope model may discard its cache during
        # decoding. The next step then runs the whole text again, too.
        past = 0 if keys == new == seen + 1 else seen
        total = past + new
        if self._given is not None and layer not in self._seen:
            self._check_tokens(new, keys)
        if keys > total:
            raise ModelNotSupportedError(
                f"layer {layer} attends to {keys} keys after {total} tokens, so keys and tokens do not correspond; "
                "static caches, layers that share keys, and models that add keys of their own (deepseek_v4) cannot be "
                "read: use another model, or a method that reads no attention, such as leave_one_out; if the cache "
                "already held tokens, pass their number to read_attention as past="
            )
        if past and keys == new and new > 1:
            raise ModelNotSupportedError(
                f"layer {layer} ran twice from the first token on: one reader reads one run of the model, so call "
                "read_attention again for each run; a model that runs a layer twice per pass cannot be read"
            )
        self._seen[layer] = total
        if self._only is not None and layer not in self._only:
            return
        if len(self._readings) != query.shape[0]:
            raise InputError(
                f"{len(self._readings)} readings for a batch of {query.shape[0]} sequences: give one per sequence"
            )
        if kernel == "sdpa":  # sdpa takes its window from the mask, and has no soft-cap and no sinks
            options = {**options, "sliding_window": None, "softcap": None, "s_aux": None}
        inputs = LayerInputs(module, query, key, value, attention_mask, options)
        if new == 1 and self._last is None and self._put_off(layer, inputs, kernel, total - 1):
            return
        self.catch_up(layer)
        self._read(layer, inputs, kernel, past, seen)
        if layer == self._last:
            raise EnoughRead

    def _check_tokens(self, new: int, keys: int) -> None:
        """Raise `ModelNotSupportedError` if the first pass has more tokens or cached keys than the caller gave."""
        given, before = self._given or 0, self._past
        if new > given or (new == given and keys > given + before):
            raise ModelNotSupportedError(
                f"the model ran {new} tokens over {keys} keys, where {given} tokens were given after {before} cached "
                "tokens: the model adds tokens of its own, as prompt tuning, p-tuning and prefix tuning of PEFT do; so "
                "the positions of the passages are unknown: use a model or an adapter that adds no tokens, such as LoRA"
            )

    @torch.no_grad()
    def _read(self, layer: int, inputs: LayerInputs, kernel: str, past: int, seen: int) -> None:
        """Read the wanted rows among the rows of one pass.

        Args:
            layer: the index of the layer.
            inputs: the inputs of the layer's kernel.
            kernel: the name of the kernel.
            past: the position of the first row of the pass. It is 0 if the pass runs the earlier tokens again.
                Otherwise, it is equal to `seen`.
            seen: the number of tokens that the model ran before the pass.
        """
        _, heads, new, _ = inputs.query.shape
        keys, total = inputs.key.shape[2], past + new
        block = max(1, WEIGHTS_AT_ONCE // (heads * keys))
        for item, groups in enumerate(self._groups):
            same: dict[tuple[int, int | None, Measure], list[GroupMass]] = {}
            for group in groups:
                same.setdefault((group.start, group.stop, group.rows.measure), []).append(group)
            spans = {key: (max(key[0], seen), min(total, total if key[1] is None else key[1])) for key in same}
            spans = {key: span for key, span in spans.items() if span[0] < span[1]}
            if kernel == "sdpa" and inputs.options.get("position_bias") is None:
                plain = [key for key in spans if key[2] == "attention"]
                if self._many([spans[key] for key in plain], item, inputs.query.shape[3]):
                    self._read_fused(layer, inputs, past, item, [(spans.pop(key), same[key]) for key in plain])
            for (begin, end, measure), (first, last) in spans.items():
                for start in range(first, last, block):
                    rows = slice(start - past, min(start + block, last) - past)
                    read = eager_weights if kernel == "eager" else kernel_weights
                    weights = read(inputs, item, rows)
                    if measure != "attention":
                        allowed = allowed_keys(inputs, item, rows)
                        allowed = allowed[0].expand(weights.shape[1], keys)  # all heads have the same mask
                        weights = apply_measure(measure, weights, inputs.value[item], allowed)
                    mass = self._sums.of(item, weights, total - keys)
                    for group in same[begin, end, measure]:
                        group.add(layer, mass)

    def _many(self, spans: Sequence[tuple[int, int]], item: int, width: int) -> bool:
        """Return whether the fused kernel is expected to take less time than the computation of the attention weights.

        The fused kernel runs every row from the first wanted row to the last wanted row. If `fused_sums` calls it with
        `is_causal=True`, it also runs all earlier rows. The result is True if three conditions hold. At least
        `MANY_ROWS` rows are wanted. The wanted rows are at least half of all rows from the first to the last of them.
        There are few sources.
        """
        wanted = sum(last - first for first, last in spans)
        between = max((last for _, last in spans), default=0) - min((first for first, _ in spans), default=0)
        few_parts = len(self._readings[item].sources) <= MOST_PARTS * width
        return wanted >= MANY_ROWS and 2 * wanted >= between and few_parts

    def _read_fused(
        self,
        layer: int,
        inputs: LayerInputs,
        past: int,
        item: int,
        wanted: Sequence[tuple[tuple[int, int], list[GroupMass]]],
    ) -> None:
        """Read the rows of several groups with the fused kernel. The rows between the groups are run too."""
        first, last = min(span[0] for span, _ in wanted), max(span[1] for span, _ in wanted)
        dropped = past + inputs.query.shape[2] - inputs.key.shape[2]
        indicators = self._sums.indicators(item, inputs.key, dropped)
        sums = fused_sums(inputs, item, slice(first - past, last - past), indicators)
        mass = sums[..., : len(self._readings[item].sources)]
        for (begin, end), groups in wanted:
            for group in groups:
                group.add(layer, mass[:, begin - first : end - first])

    def _put_off(self, layer: int, inputs: LayerInputs, kernel: str, position: int) -> bool:
        """Put a decoding step off, if its attention weights can be computed later from its query and keys alone.

        Reading one step takes about twenty small operations per layer. Reading many steps in one matrix product takes
        little more time.

        Returns:
            True if the step need not be read now: it was put off, or no row group contains its row.
        """
        _, query, key, _, attention_mask, options = inputs
        window = options.get("sliding_window")  # a kernel with this option gets no mask for the window
        if kernel == "eager" or options.get("position_bias") is not None or (window and key.shape[2] > window):
            return False
        if self._step is None or self._step.position != position:
            groups = [group for some in self._groups for group in some if group.has(position)]
            self._step = CurrentStep(position, [group.rows.measure for group in groups])
        if not (self._step.plain and self._step.sees_all(attention_mask)):
            return False
        if self._step.due:
            waiting, _ = self._steps.get(layer, (None, {}))
            few = WEIGHTS_AT_ONCE // (query.shape[1] * key.shape[2])
            if waiting is None or len(waiting.queries) >= few or not waiting.continues(key, position):
                self.catch_up(layer)
                waiting = DecodingSteps(key, position)
                self._steps[layer] = waiting, options
            waiting.add(query, key)
        return True

    @torch.no_grad()
    def catch_up(self, layer: int | None = None) -> None:
        """Read the decoding steps that were put off, in one layer or in all layers."""
        for each in [*self._steps] if layer is None else [layer] if layer in self._steps else []:
            steps, options = self._steps.pop(each)
            query, key, allowed, begin = steps.joined()
            stop = steps.position + query.shape[2]
            for item, groups in enumerate(self._groups):
                first = min((max(group.start, steps.position) for group in groups), default=stop)
                if first >= stop:
                    continue
                rows = slice(first - steps.position, None)
                weights = softmax_weights(query[item, :, rows], key[item], allowed[:, rows], options)
                mass = self._sums.of(item, weights, begin)
                for group in groups:
                    low, high = max(group.start, first), stop if group.stop is None else min(stop, group.stop)
                    if low < high:
                        group.add(each, mass[:, low - first : high - first])


@contextmanager
def read_attention(
    model: PreTrainedModel,
    readings: Sequence[Reading],
    layers: Collection[int] | None = None,
    past: int = 0,
    stop: bool = False,
    given: int | None = None,
) -> Iterator[AttentionReader]:
    """Read attention mass from every forward pass that runs in this context, also from the passes of `generate`.

    The attention mass can be read during decoding with a key/value cache, or in one pass over the finished text. In
    most model families, both ways agree to 1e-5 in float32. In some families, the passes of the model itself differ
    with and without a cache, so the attention mass differs too. In transformers 5.23, these families are:

    - `deepseek_v32` and `glm_moe_dsa`, for texts longer than `index_topk`;
    - `moshi`, for texts longer than its sliding window;
    - `nemotron_h`, where a tiny random model differs by 2e-5;
    - `roberta`, `roberta-prelayernorm`, `camembert`, `xlm-roberta`, `xlm-roberta-xl` and `data2vec-text` as decoders,
      where `generate` counts positions from 0, but one pass counts positions from the padding token's id plus one.

    In `minimax`, decoding agrees with one pass over the finished text. But a pass that runs several tokens after a
    cache differs from one pass over all tokens. docs/models.md lists the measurements of each family.

    If several threads share a model, each thread reads only its own passes.

    Args:
        model: any decoder-only model that goes through transformers' `AttentionInterface`.
        readings: the sources and rows to read, one reading for each sequence of the batch.
        layers: the layers to read, as indices. `None` reads all layers that have attention.
        past: the number of tokens that the cache holds before the first forward pass.
        stop: whether to end the `with` block after the last of `layers` has been read. Later layers then do not run.
        given: the number of tokens per sequence that the caller passes to the first pass. If the model adds tokens of
            its own, an error is raised. With `None`, the number is not checked.

    Raises:
        ModelNotSupportedError: the model's attention cannot be read.
        InputError: the number of readings differs from the number of sequences. `AttentionReader.mass` raises this
            error too, if the model did not run all sources and rows.

    Example:
        >>> import torch
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from at2_prune.attention.rows import Reading, Rows
        >>> _ = torch.manual_seed(0)
        >>> config = LlamaConfig(vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        ...                      num_attention_heads=4, num_key_value_heads=2)
        >>> model = LlamaForCausalLM(config).eval()
        >>> reading = Reading(sources=[(1, 4), (4, 8)], rows=[Rows("question", 8, 10)])
        >>> with torch.no_grad(), read_attention(model, [reading]) as reader:
        ...     _ = model(torch.arange(10)[None])
        >>> reader.mass("question").shape  # (layers, heads, sources)
        torch.Size([2, 4, 2])
        >>> # An untrained model attends to all tokens about equally. The sources have 3 and 4 of 10 tokens.
        >>> [round(x, 2) for x in reader.mass("question").mean((0, 1)).tolist()]
        [0.32, 0.42]
    """
    enable_attention_reading(model)
    reader = AttentionReader(readings, layers, past, stop, given)
    with listening(reader), suppress(EnoughRead):
        yield reader
    reader.catch_up()  # this also releases the keys that the reader keeps
