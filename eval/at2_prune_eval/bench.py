"""The model as the evaluator uses it: every draft, ablation and answer asked for once, and what it cost remembered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, replace

import safetensors.torch
import torch

from at2_prune.ablation import Positions, ablation_outcomes
from at2_prune.attention.rows import RowGroup
from at2_prune.errors import InputError
from at2_prune.models.drafts import Draft, read_draft, write_drafts
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.prompts import EncodedPrompt
from at2_prune.models.shared_prefix import write_answers
from at2_prune.training.collect import ROW_GROUPS

from .cache import ModelCache, digest, kernel_switches, model_fingerprint
from .cost import Cost, metered

__all__ = ["Answer", "Bench", "Drafted"]


_COST = "cost"
NEVER = -1e9
"""A log-probability that JSON can hold, in place of minus infinity."""


@dataclass(frozen=True)
class Answer:
    """An answer, and how sure the model is of it."""

    text: str
    log_probability: float | None = None
    """Of the answer and its end; None where it was not remembered."""


@dataclass(frozen=True)
class Drafted:
    """A draft and what it cost."""

    draft: Draft
    cost: Cost
    reads: dict[str, Cost]
    """By measure: what reading it took beyond writing the draft."""

    def reading(self, groups: Sequence[RowGroup]) -> Cost:
        """What reading these row groups took beyond writing the draft."""
        return sum((self.reads[measure] for measure in dict.fromkeys(group.measure for group in groups)), Cost())


class Bench:
    """A language model with a memory.

    Args:
        language_model: drafts, answers and is ablated.
        cache: where results are kept; None keeps them in memory.
        max_new_tokens: a draft or answer is cut there.

    Raises:
        InputError: max_new_tokens below 1.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        cache: ModelCache | None = None,
        max_new_tokens: int = 48,
    ) -> None:
        if isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, int) or max_new_tokens < 1:
            raise InputError(f"max_new_tokens must be an integer of at least 1, got {max_new_tokens!r}")
        self.language_model = language_model
        self.cache = ModelCache(None) if cache is None else cache
        self.max_new_tokens = max_new_tokens
        self.switches = kernel_switches()
        weights = model_fingerprint(language_model)
        self.fingerprint = digest(weights, self.switches) if self.switches else weights
        """Of the model and its kernels: part of every key."""
        self._writing = [self.fingerprint, max_new_tokens, list(language_model.template.stop)]

    def draft(self, prompt: EncodedPrompt, groups: Sequence[RowGroup] = ()) -> Drafted:
        """The model's draft with what the rows of `groups` looked at, and what that cost.

        Attention of all row groups is read while the draft is written. A pruner reads other measures then, too; here
        each takes a forward pass over the finished draft, so that methods without them do not pay. The seconds of that
        pass are counted, its tokens are not.
        """
        key = digest("draft", self._writing, prompt.ids, prompt.sources)
        known = self.cache.get(key)
        if known is None:
            with metered(self.language_model) as meter:
                draft = write_drafts(self.language_model, [prompt], ROW_GROUPS, self.max_new_tokens)[0]
            value = {"text": draft.text, "ids": draft.ids, "thoughts": draft.thoughts, "layers": list(draft.layers)}
            known = json.dumps(value | {"cost": asdict(meter.cost)}).encode()
            self._keep(f"{key}/attention", draft, meter.cost)
            self.cache.put(key, known)
        value = json.loads(known)
        mass: dict[RowGroup, torch.Tensor] = {}
        reads: dict[str, Cost] = {}
        for measure in dict.fromkeys(group.measure for group in groups):
            some = [group for group in groups if group.measure == measure and (value["ids"] or group.rows != "draft")]
            stored, cost = self._read(f"{key}/{measure}", prompt, value["ids"], some)
            mass |= stored
            reads[measure] = Cost() if measure == "attention" else replace(cost, tokens=0.0)
        draft = Draft(
            value["text"], value["ids"], mass, value["layers"], thoughts=value["thoughts"], prompt_ids=prompt.ids
        )
        return Drafted(draft, Cost(**value["cost"]), reads)

    def _read(
        self, key: str, prompt: EncodedPrompt, ids: list[int], groups: Sequence[RowGroup]
    ) -> tuple[dict[RowGroup, torch.Tensor], Cost]:
        data = self.cache.get(key)
        known, cost = ({}, Cost()) if data is None else _unpack(data)
        if any(group.name not in known for group in groups):
            before = [RowGroup.from_name(name) for name in known]
            with metered(self.language_model) as meter:
                draft = read_draft(self.language_model, prompt, ids, list(dict.fromkeys([*before, *groups])))
            cost = meter.cost
            known = self._keep(key, draft, cost)
        return {group: known[group.name] for group in groups}, cost  # (layers, heads, sources) each

    def _keep(self, key: str, draft: Draft, cost: Cost) -> dict[str, torch.Tensor]:
        tensors = {group.name: mass.float().cpu().contiguous() for group, mass in draft.mass.items()}
        packed = safetensors.torch.save({**tensors, _COST: torch.tensor(astuple(cost), dtype=torch.float64)})
        self.cache.put(key, packed)
        return tensors

    def outcomes(
        self, prompt: EncodedPrompt, target: Sequence[int], masks: torch.Tensor, positions: Positions = "kept"
    ) -> tuple[torch.Tensor, Cost]:
        """Log-odds of the target under each ablation, `(ablations,)` float64, and the cost of all of them.

        An ablation's cost is its share of the call that measured it: ablations with a common beginning share work.
        """
        key = digest("outcomes", self.fingerprint, prompt.ids, prompt.sources, list(target), positions)
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

    def answers(
        self, prompts: Sequence[EncodedPrompt], guess: Sequence[int] = (), sure: Sequence[bool] = ()
    ) -> list[Answer]:
        """The answer to each prompt.

        Args:
            prompts: those that begin alike share work.
            guess: tokens that they may be answered with; a wrong guess costs a little time.
            sure: of which prompts the answer's probability must be known; earlier versions did not remember it.
        """
        keys = [digest("answer", self._writing, prompt.ids) for prompt in prompts]
        known = self.cache.many(keys)
        found = {key: Answer(**json.loads(data)) for key, data in known.items()}
        wanted = dict(zip(keys, sure, strict=True)) if sure else {}
        missing = {
            key: prompt
            for key, prompt in zip(keys, prompts, strict=True)
            if key not in found or (wanted.get(key) and found[key].log_probability is None)
        }
        if missing:
            written = write_answers(self.language_model, list(missing.values()), guess, self.max_new_tokens)
            for key, generation in zip(missing, written, strict=True):
                found[key] = Answer(generation.text, max(generation.log_probability, NEVER))
                self.cache.put(key, json.dumps(asdict(found[key])).encode())
        return [found[key] for key in keys]


def _unpack(data: bytes) -> tuple[dict[str, torch.Tensor], Cost]:
    tensors = safetensors.torch.load(data)
    seconds, tokens, memory = tensors.pop(_COST).tolist()
    return tensors, Cost(seconds, tokens, int(memory))
