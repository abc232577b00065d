"""Make the config of a run, which records everything that the run's numbers depend on."""

from __future__ import annotations

import platform
from dataclasses import asdict
from typing import Any

import torch
import transformers

from at2_prune import __version__
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.prompts import PromptTemplate

from ..k_values import check_ks
from ..loop.cache import model_fingerprint
from ..loop.cached_loop import CachedLoop
from ..loop.digests import json_digest
from ..loop.identity import describe_scorer, package_versions
from .experiment import Experiment

__all__ = ["prompt_digest", "prompt_text", "run_config"]


def run_config(loop: CachedLoop, experiment: Experiment) -> dict[str, Any]:
    """Return the config of a run as JSON values. Two runs of the same code with equal configs give equal answers.

    Data, coefficients and prompts are recorded with a digest of their content. The config therefore changes if, for
    example, a data file changes but keeps its name. The code of a user's own method is not part of the config.
    """
    language_model = loop.language_model
    return {
        **({"environment": loop.switches} if loop.switches else {}),
        **_described(language_model),
        **({"reader": _described(loop.reader)} if loop.two_models else {}),
        "data": {
            **experiment.data,
            "questions": len(experiment.questions),
            "sha256": json_digest([asdict(question) for question in experiment.questions]),
        },
        "methods": {
            "none": {},
            **{scorer.name: describe_scorer(scorer) for scorer in experiment.scorers},
            "oracle": {},
        },
        "ks": check_ks(experiment.ks),
        "max_new_tokens": loop.max_new_tokens,
        "versions": {
            "at2-prune": __version__,
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
            **package_versions(),
            "python": platform.python_version(),
        },
    }


def _described(language_model: LanguageModel) -> dict[str, Any]:
    return {
        "model": language_model.name,
        "weights": model_fingerprint(language_model),
        "dtype": str(language_model.model.dtype).removeprefix("torch."),
        "device": _device(language_model),
        "prompt": {"name": language_model.template.name, "sha256": prompt_digest(language_model.template)},
    }


def prompt_text(template: PromptTemplate) -> str:
    """Return the prompt for one passage. It has `{question}`, `{title}` and `{text}` where the texts would be."""
    before, after = template.around("{question}")
    return "".join(piece.text for piece in before) + template.passage + "".join(piece.text for piece in after)


def _device(language_model: LanguageModel) -> str:
    """Return the kind of device, with the GPU's name. The GPU's number is left out, because the processes of a run use
    different GPUs."""
    device = language_model.device
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def prompt_digest(template: PromptTemplate) -> str:
    """Return a digest of the texts of a template. This works for templates of every class."""
    before, after = template.around("?")
    pieces = [[piece.kind, piece.text] for piece in (*before, *after)]
    return json_digest([pieces, template.passage, template.answer_prefix, list(template.stop)])
