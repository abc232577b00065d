"""The pruning loop of the evaluator. It caches drafts, scores, ablations and answers, and measures their cost."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, astuple, replace
from functools import partial
from typing import Any

import safetensors.torch
import torch

from at2_prune.ablation import Positions, ablation_outcomes
from at2_prune.attention.rows import RowGroup
from at2_prune.errors import InputError
from at2_prune.models.drafts import Draft, read_drafts
from at2_prune.models.kv_cache import Prefix
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.prompts import EncodedPrompt
from at2_prune.models.readouts import Readout
from at2_prune.pruning.loop import Answer, PruningLoop
from at2_prune.scorers import Scorer, Task
from at2_prune.training.collect import ROW_GROUPS

from .cache import ModelCache, kernel_switches, model_fingerprint
from .code import code_digest
from .cost import Cost, metered
from .costly import CostlyDraft, CostlyScored, SharedAblations
from .digests import digest
from .identity import scorer_identity

__all__ = ["CachedLoop"]

_COST, _LAYERS = "cost", "layers"
_METER = "at2_prune_eval.loop.cost"
DECIDES = {
    "draft": ("at2_prune.models.drafts", _METER),
    "outcomes": ("at2_prune.ablation", _METER),
    "answer": ("at2_prune.models.shared_prefix",),
    "scores": ("at2_prune.models.drafts", "at2_prune.ablation", _METER),
}
"""The modules that decide a value, by the kind of value. The code digest of a kind covers these modules and all modules
that they import. The scores of a method also depend on the modules of its scorer."""
GLUE = (PruningLoop.__module__, CostlyScored.__module__, __name__)
"""The modules that call the modules of `DECIDES`. The code digest covers these modules, but not the modules that they
import."""
NEVER = -1e9
"""The number that replaces a log-probability of minus infinity, because JSON cannot hold infinity."""


class CachedLoop(PruningLoop):
    """A pruning loop that caches its results and measures their cost.

    Args:
        language_model: the scoring model. Ablations are run on this model too.
        cache: the cache that keeps the results. With None, results are kept in memory.
        max_new_tokens: the maximum number of tokens in a draft or an answer.
        reader: the model that writes drafts and answers. The default is the scoring model.

    Raises:
        InputError: `max_new_tokens` is below 1.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        cache: ModelCache | None = None,
        max_new_tokens: int = 48,
        reader: LanguageModel | None = None,
    ) -> None:
        super().__init__(language_model, max_new_tokens, reader)
        self.cache = ModelCache(None) if cache is None else cache
        self.switches = kernel_switches()
        self.fingerprint = self._fingerprint(language_model)
        """A digest of the scoring model and its kernels. The key of every value that this model computes includes this
        digest."""
        writer = self._fingerprint(self.reader) if self.two_models else self.fingerprint
        self._writing = [writer, max_new_tokens, list(self.reader.template.stop)]
        self._code = {kind: code_digest(modules, GLUE) for kind, modules in DECIDES.items()}

    def _fingerprint(self, model: LanguageModel) -> str:
        weights = model_fingerprint(model)
        return digest(weights, self.switches) if self.switches else weights

    def draft(
        self, prompt: EncodedPrompt, groups: Sequence[RowGroup] = (), asked: EncodedPrompt | None = None
    ) -> CostlyDraft:
        """Write a draft, read the attention of `groups`, and measure the cost.

        With one model, the attention of all row groups is read while the draft is written. Other measures, such as
        contribution, are each read in a separate forward pass over the finished draft. `AT2Pruner` needs no such pass.
        The seconds of this pass are counted only for methods that use the measure. The tokens of this pass are not
        counted.

        With a separate reader, the scoring model reads the finished draft in one forward pass for each measure, as in a
        pruner. The seconds and the tokens of these passes are counted.

        Args:
            prompt: the prompt of the scoring model.
            groups: the row groups to read.
            asked: the reader's prompt from the same passages. The default is `prompt`, for a loop with one model.
        """
        key, value = self._write(prompt if asked is None else asked)
        ids, layers = value["ids"], value["layers"]
        if self.two_models:
            ids = self.language_model.encode_draft(value["text"])
            key = digest("read", self._code["draft"], self.fingerprint, prompt.ids, prompt.sources, ids)
        mass: dict[RowGroup, torch.Tensor] = {}
        reads: dict[str, Cost] = {}
        for measure in dict.fromkeys(group.measure for group in groups):
            some = [group for group in groups if group.measure == measure and (ids or group.rows != "draft")]
            stored, cost, read = self._read(f"{key}/{measure}", prompt, ids, some)
            mass |= stored
            layers = read or layers
            if self.two_models:
                reads[measure] = cost
            else:
                reads[measure] = Cost() if measure == "attention" else replace(cost, tokens=0.0)
        readout = Readout(mass, layers)
        draft = Draft(value["text"], ids, value["log_probability"], value["thoughts"], prompt.ids, readout)
        return CostlyDraft(draft, Cost(**value["cost"]), reads)

    def _write(self, prompt: EncodedPrompt) -> tuple[str, dict[str, Any]]:
        """Let the reader write a draft. Return the draft's key in the cache, and the draft as JSON values."""
        alone = ["reader"] if self.two_models else []  # a separate reader writes the draft, and no attention is read
        key = digest("draft", self._code["draft"], self._writing, prompt.ids, prompt.sources, *alone)
        known = self.cache.get(key)
        if known is None:
            with metered(self.reader) as meter:
                draft = super().write_drafts([prompt], () if self.two_models else ROW_GROUPS)[0]
            value = {
                "text": draft.text,
                "ids": draft.ids,
                "thoughts": draft.thoughts,
                "layers": [] if draft.readout is None else list(draft.readout.layers),
                "log_probability": max(draft.log_probability, NEVER),
                "cost": asdict(meter.cost),
            }
            known = json.dumps(value).encode()
            if draft.readout is not None:
                self._keep(f"{key}/attention", draft, meter.cost)
            self.cache.put(key, known)
        return key, json.loads(known)

    def _read(
        self, key: str, prompt: EncodedPrompt, ids: list[int], groups: Sequence[RowGroup]
    ) -> tuple[dict[RowGroup, torch.Tensor], Cost, list[int]]:
        """Read the attention mass of row groups over a finished draft.

        Return the mass of each row group, `(layers, heads, sources)`, the cost of reading the mass, and the layers.
        """
        data = self.cache.get(key)
        known, cost, layers = ({}, Cost(), []) if data is None else _unpack(data)
        if any(group.name not in known for group in groups):
            before = [RowGroup.from_name(name) for name in known]
            with metered(self.language_model) as meter:
                draft = read_drafts(self.language_model, [prompt], [ids], list(dict.fromkeys([*before, *groups])))[0]
            known, cost, layers = _unpack(self._keep(key, draft, meter.cost))
        return {group: known[group.name] for group in groups}, cost, layers

    def _keep(self, key: str, draft: Draft, cost: Cost) -> bytes:
        readout = draft.readout or Readout({})
        tensors = {group.name: one.float().cpu().contiguous() for group, one in readout.mass.items()}
        tensors[_COST] = torch.tensor(astuple(cost), dtype=torch.float64)
        tensors[_LAYERS] = torch.tensor(readout.layers, dtype=torch.int64)
        packed = safetensors.torch.save(tensors)
        self.cache.put(key, packed)
        return packed

    def score(self, scorer: Scorer, task: Task) -> CostlyScored:
        """Score a task as a pruner does, and measure the cost.

        If the scores come from the cache, their cost is the cost that was measured when they were computed.

        Args:
            scorer: a method. The key of the scores includes the method's name, settings and code. A method with
                settings that cannot be written as JSON is run again every time.
            task: the question to score. The outcomes of its ablations are cached too.

        Raises:
            InputError: a score is not a finite number.
        """
        identity = scorer_identity(scorer)
        passages = [[passage.title, passage.text, passage.score] for passage in task.passages]
        shown = [task.question, passages, task.prompt.ids, task.prompt.sources, list(task.draft.ids)]
        key = digest("scores", self._code["scores"], self.fingerprint, identity, shown)
        known = self.cache.get(key) if identity else None
        if known is not None:
            value = json.loads(known)
            return CostlyScored(task.prompt, task.draft, value["scores"], cost=Cost(**value["cost"]))
        outcomes = partial(self.outcomes, task.prompt, task.draft.ids)
        ablations = SharedAblations(self.language_model, outcomes)
        with metered(self.language_model) as meter:
            scored = super().score(scorer, replace(task, outcomes=ablations))
        if scored.error is not None:
            return CostlyScored(task.prompt, task.draft, scored.scores, scored.error)
        if not all(map(math.isfinite, scored.scores)):
            raise InputError(
                f"the method {scorer.name} gives scores that are not finite, {scored.scores}, for the question "
                f"{task.question!r:.200}"
            )
        cost = ablations.correct(meter.cost)
        if identity:
            self.cache.put(key, json.dumps({"scores": scored.scores, "cost": asdict(cost)}).encode())
        return CostlyScored(task.prompt, task.draft, scored.scores, cost=cost)

    def outcomes(
        self, prompt: EncodedPrompt, target: Sequence[int], masks: torch.Tensor, positions: Positions = "kept"
    ) -> tuple[torch.Tensor, Cost]:
        """Measure the target's log-odds under ablations.

        Args:
            prompt: the prompt.
            target: the tokens that follow the prompt.
            masks: `(ablations, sources)` bool, True where a source is kept.
            positions: with `kept`, the remaining tokens keep their positions. With `closed`, they move up to close the
                gaps. See `at2_prune.ablation.ablation_outcomes`.

        Returns:
            The log-odds, `(ablations,)` float64, and the cost of all ablations. Ablations with a common prefix share
            work. The cost of a call is therefore divided equally among the ablations that it measured.
        """
        known_by = [self.fingerprint, prompt.ids, prompt.sources, list(target), positions]
        key = digest("outcomes", self._code["outcomes"], *known_by)
        known = json.loads(self.cache.get(key) or b"{}")
        names = ["".join("01"[bit] for bit in mask) for mask in masks.long().tolist()]
        missing = [name for name in dict.fromkeys(names) if name not in known]
        if missing:
            rows = torch.tensor([[bit == "1" for bit in name] for name in missing])
            with metered(self.language_model) as meter:
                values = ablation_outcomes(self.language_model, prompt, target, rows, positions=positions)[:, 0]
            cost = meter.cost.share(len(missing))
            for name, value in zip(missing, values.tolist(), strict=True):
                known[name] = [value, cost.seconds, cost.tokens, cost.memory]
            self.cache.put(key, json.dumps(known).encode())
        total = Cost()
        for name in dict.fromkeys(names):
            total += Cost(*known[name][1:])
        return torch.tensor([known[name][0] for name in names], dtype=torch.float64), total

    def write_drafts(
        self,
        prompts: Sequence[EncodedPrompt],
        groups: Sequence[RowGroup] = (),
        layers: Collection[int] | None = None,
        prefix: Prefix | None = None,
    ) -> list[Draft]:
        """Return the reader's draft for every prompt. All layers are read: `layers` and `prefix` are ignored."""
        if not self.two_models:
            return [self.draft(prompt, groups).draft for prompt in prompts]
        written = [self._write(prompt)[1] for prompt in prompts]
        return [
            Draft(one["text"], one["ids"], one["log_probability"], one["thoughts"], prompt.ids)
            for one, prompt in zip(written, prompts, strict=True)
        ]

    def write_answers(
        self, prompts: Sequence[EncodedPrompt], guess: Sequence[int] = (), prefix: Prefix | None = None
    ) -> list[Answer]:
        """Return the answer to every prompt. Answers that are not in the cache are written together, to share work."""
        keys = [digest("answer", self._code["answer"], self._writing, prompt.ids) for prompt in prompts]
        known: dict[str, dict[str, Any]] = {key: json.loads(data) for key, data in self.cache.many(keys).items()}
        missing = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in known}
        if missing:
            written = super().write_answers(list(missing.values()), guess, prefix)
            for key, answer in zip(missing, written, strict=True):
                known[key] = {"text": answer.text, "log_probability": max(answer.log_probability, NEVER)}
                self.cache.put(key, json.dumps(known[key]).encode())
        return [
            Answer(known[key]["text"], known[key]["log_probability"], prompt)
            for key, prompt in zip(keys, prompts, strict=True)
        ]


def _unpack(data: bytes) -> tuple[dict[str, torch.Tensor], Cost, list[int]]:
    tensors = safetensors.torch.load(data)
    seconds, tokens, memory = tensors.pop(_COST).tolist()
    return tensors, Cost(seconds, tokens, int(memory)), tensors.pop(_LAYERS).tolist()
