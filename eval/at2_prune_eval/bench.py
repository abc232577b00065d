"""The model as the evaluator uses it: every draft, ablation and answer asked for once, and what it cost remembered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import safetensors.torch
import torch

from at2_prune.ablation import Positions, ablation_outcomes
from at2_prune.answers import write_answers
from at2_prune.coefficients import RowGroup
from at2_prune.draft import Draft, read_draft, write_drafts
from at2_prune.model import LanguageModel
from at2_prune.prompt import EncodedPrompt

from .cache import ModelCache, digest, model_fingerprint
from .cost import Cost, metered

__all__ = ["Bench"]


class Bench:
    """A language model with a memory.

    Args:
        language_model: drafts, answers and is ablated.
        cache: where results are kept; None keeps them in memory.
        max_new_tokens: a draft or answer is cut there.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        cache: ModelCache | None = None,
        max_new_tokens: int = 48,
    ) -> None:
        self.language_model = language_model
        self.cache = ModelCache(None) if cache is None else cache
        self.max_new_tokens = max_new_tokens
        self._model = model_fingerprint(language_model)
        self._writing = [self._model, max_new_tokens, list(language_model.template.stop)]

    def draft(self, prompt: EncodedPrompt, groups: Sequence[RowGroup]) -> tuple[Draft, Cost]:
        """The model's draft with the attention of `groups`, and the cost of writing it.

        A group that an earlier call did not ask for is read in one forward pass over the finished draft.
        """
        key = digest("draft", self._writing, prompt.ids)
        sources = digest(prompt.sources)
        known = self.cache.get(key)
        if known is None:
            with metered(self.language_model) as meter:
                draft = write_drafts(self.language_model, [prompt], groups, self.max_new_tokens)[0]
            value = {"text": draft.text, "ids": draft.ids, "thoughts": draft.thoughts, "cost": asdict(meter.cost)}
            self._keep_mass(key, sources, draft)
            known = json.dumps(value | {"layers": list(draft.layers)}).encode()
            self.cache.put(key, known)
        value = json.loads(known)
        wanted = [group for group in groups if value["ids"] or group.rows != "draft"]
        stored = self.cache.many([f"{key}/{sources}/{group.name}" for group in wanted])
        missing = [group for group in wanted if f"{key}/{sources}/{group.name}" not in stored]
        if missing:
            read = read_draft(self.language_model, prompt, value["ids"], missing)
            self._keep_mass(key, sources, read)
            if not value["layers"]:
                value["layers"] = list(read.layers)
                self.cache.put(key, json.dumps(value).encode())
            stored = self.cache.many([f"{key}/{sources}/{group.name}" for group in wanted])
        mass = {
            group: safetensors.torch.load(stored[f"{key}/{sources}/{group.name}"])["mass"] for group in wanted
        }  # (layers, heads, sources) each
        draft = Draft(
            value["text"], value["ids"], mass, value["layers"], thoughts=value["thoughts"], prompt_ids=prompt.ids
        )
        return draft, Cost(**value["cost"])

    def _keep_mass(self, key: str, sources: str, draft: Draft) -> None:
        for group, mass in draft.mass.items():
            data = safetensors.torch.save({"mass": mass.float().cpu().contiguous()})
            self.cache.put(f"{key}/{sources}/{group.name}", data)

    def outcomes(
        self, prompt: EncodedPrompt, target: Sequence[int], masks: torch.Tensor, positions: Positions = "kept"
    ) -> tuple[torch.Tensor, Cost]:
        """Log-odds of the target under each ablation, `(ablations,)` float64, and the cost of all of them.

        An ablation's cost is its share of the call that measured it: ablations with a common beginning share work.
        """
        key = digest("outcomes", self._model, prompt.ids, prompt.sources, list(target), positions)
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

    def answers(self, prompts: Sequence[EncodedPrompt], guess: Sequence[int] = ()) -> list[str]:
        """The answer to each prompt; prompts that begin alike share work, and `guess` is what they may answer."""
        keys = [digest("answer", self._writing, prompt.ids) for prompt in prompts]
        known = self.cache.many(keys)
        missing = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in known}
        if missing:
            written = write_answers(self.language_model, list(missing.values()), guess, self.max_new_tokens)
            for key, generation in zip(missing, written, strict=True):
                known[key] = json.dumps({"text": generation.text}).encode()
                self.cache.put(key, known[key])
        return [json.loads(known[key])["text"] for key in keys]
