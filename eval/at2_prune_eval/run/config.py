"""What a run's numbers depend on, written down with them."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
import transformers

from at2_prune import __version__
from at2_prune.datasets import Question
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.prompts import PromptTemplate
from at2_prune.pruning.selection import K
from at2_prune.scorers import Scorer

from ..loop.cache import model_fingerprint
from ..loop.cached_loop import CachedLoop
from ..loop.digests import json_digest
from ..loop.identity import describe_scorer, package_versions

__all__ = ["prompt_text", "run_config"]


def run_config(
    loop: CachedLoop,
    scorers: Sequence[Scorer],
    questions: Sequence[Question],
    ks: Sequence[K],
    data: Mapping[str, Any],
) -> dict[str, Any]:
    """A run's config, JSON values only; two runs of the same code with equal configs give equal answers.

    Content goes in by digest: a file that was changed under the same name, other coefficients for the same model or
    an edited prompt make another config. The code of a method of one's own does not.
    """
    language_model = loop.language_model
    return {
        **({"environment": loop.switches} if loop.switches else {}),
        "model": language_model.name,
        "weights": model_fingerprint(language_model),
        "dtype": str(language_model.model.dtype).removeprefix("torch."),
        "device": _device(language_model),
        "prompt": {"name": language_model.template.name, "sha256": _prompt_digest(language_model.template)},
        "data": {
            **data,
            "questions": len(questions),
            "sha256": json_digest([asdict(question) for question in questions]),
        },
        "methods": {"none": {}, **{scorer.name: describe_scorer(scorer) for scorer in scorers}, "oracle": {}},
        "ks": list(ks),
        "max_new_tokens": loop.max_new_tokens,
        "versions": {
            "at2-prune": __version__,
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
            **package_versions(),
            "python": platform.python_version(),
        },
    }


def _device(language_model: LanguageModel) -> str:
    """The kind of device: of several GPUs each has its own process."""
    device = language_model.device
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def prompt_text(template: PromptTemplate) -> str:
    """The prompt as the model gets it, with `{question}`, and with `{title}` and `{text}` of one passage."""
    before, after = template.around("{question}")
    return "".join(piece.text for piece in before) + template.passage + "".join(piece.text for piece in after)


def _prompt_digest(template: PromptTemplate) -> str:
    """Of what a template shows, so that it works for any template."""
    before, after = template.around("?")
    pieces = [[piece.kind, piece.text] for piece in (*before, *after)]
    return json_digest([pieces, template.passage, template.answer_prefix, list(template.stop)])
