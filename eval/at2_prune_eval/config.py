"""What a run's numbers depend on, written down with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
import transformers

from at2_prune import __version__
from at2_prune.coefficients import HeadCoefficients
from at2_prune.model import LanguageModel
from at2_prune.prompt import PromptTemplate
from at2_prune.questions import Question
from at2_prune.scorers import Scorer

__all__ = ["run_config"]


def run_config(
    language_model: LanguageModel,
    scorers: Sequence[Scorer],
    questions: Sequence[Question],
    ks: Sequence[int],
    *,
    data_name: str,
    limit: int | None,
    seed: int | None,
    max_new_tokens: int,
) -> dict[str, Any]:
    """A run's config, JSON values only; two runs with equal configs give equal answers.

    Content goes in by digest: a file that was changed under the same name, other coefficients for the same model or
    an edited prompt make another config.
    """
    return {
        "model": language_model.name,
        "dtype": str(language_model.model.dtype).removeprefix("torch."),
        "device": str(language_model.device),
        "prompt": {"name": language_model.template.name, "sha256": _prompt_digest(language_model.template)},
        "data": {
            "name": data_name,
            "limit": limit,
            "seed": seed,
            "questions": len(questions),
            "sha256": _digest([asdict(question) for question in questions]),
        },
        "methods": ["none", *(scorer.name for scorer in scorers), "oracle"],
        "coefficients": {
            scorer.name: _describe(coefficients)
            for scorer in scorers
            if isinstance(coefficients := getattr(scorer, "coefficients", None), HeadCoefficients)
        },
        "ks": list(ks),
        "max_new_tokens": max_new_tokens,
        "versions": {
            "at2-prune": __version__,
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
        },
    }


def _describe(coefficients: HeadCoefficients) -> dict[str, Any]:
    groups = [group.name for group in coefficients.row_groups]
    weight = coefficients.weight.contiguous().numpy().tobytes().hex()
    return {
        "model": coefficients.model_name,
        "row_groups": groups,
        "sha256": _digest([groups, coefficients.layers, weight]),
    }


def _prompt_digest(template: PromptTemplate) -> str:
    """Of what a template shows, so that it works for any template."""
    before, after = template.around("?")
    pieces = [[piece.kind, piece.text] for piece in (*before, *after)]
    return _digest([pieces, template.passage, template.answer_prefix, list(template.stop)])


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
