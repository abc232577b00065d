"""What a run's numbers depend on, written down with them."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers

from at2_prune import __version__
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.datasets import Question
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.prompts import PromptTemplate
from at2_prune.scorers import Scorer

from .bench import Bench
from .cache import model_fingerprint
from .names import OneK

__all__ = ["coefficients_digest", "describe_scorer", "package_versions", "prompt_text", "run_config"]

_PACKAGES = {"bm25s": "bm25s", "scikit-learn": "sklearn", "scipy": "scipy"}
"""What methods compute with, by the module that says whether it is there."""


def run_config(
    bench: Bench,
    scorers: Sequence[Scorer],
    questions: Sequence[Question],
    ks: Sequence[OneK],
    data: Mapping[str, Any],
) -> dict[str, Any]:
    """A run's config, JSON values only; two runs of the same code with equal configs give equal answers.

    Content goes in by digest: a file that was changed under the same name, other coefficients for the same model or
    an edited prompt make another config. The code of a method of one's own does not.
    """
    language_model = bench.language_model
    return {
        **({"environment": bench.switches} if bench.switches else {}),
        "model": language_model.name,
        "weights": model_fingerprint(language_model),
        "dtype": str(language_model.model.dtype).removeprefix("torch."),
        "device": _device(language_model),
        "prompt": {"name": language_model.template.name, "sha256": _prompt_digest(language_model.template)},
        "data": {**data, "questions": len(questions), "sha256": _digest([asdict(question) for question in questions])},
        "methods": {"none": {}, **{scorer.name: describe_scorer(scorer) for scorer in scorers}, "oracle": {}},
        "ks": list(ks),
        "max_new_tokens": bench.max_new_tokens,
        "versions": {
            "at2-prune": __version__,
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
            **package_versions(),
            "python": platform.python_version(),
        },
    }


@functools.cache
def package_versions() -> dict[str, str]:
    """Of what methods compute with, where it is installed."""
    return {name: version(name) for name in _PACKAGES if find_spec(_PACKAGES[name]) is not None}


def _device(language_model: LanguageModel) -> str:
    """The kind of device: of several GPUs each has its own process."""
    device = language_model.device
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def describe_scorer(scorer: Scorer) -> dict[str, Any]:
    """A method's own settings, JSON values; coefficients by digest."""
    settings: dict[str, Any] = {}
    told = {"name", "row_groups"}
    if any(isinstance(value, HeadCoefficients) for value in vars(scorer).values()):
        told |= {"prompt_groups", "layers"}  # by the coefficients
    for name, value in sorted(vars(scorer).items()):
        if name in told or name.startswith("_"):
            continue
        if isinstance(value, HeadCoefficients):
            groups = [group.name for group in value.row_groups]
            settings[name] = {
                "model": value.model_name,
                "row_groups": groups,
                "sha256": coefficients_digest(value),
            }
        elif hasattr(value, "row_groups"):  # a scorer that this one uses
            settings[name] = {"name": value.name, **describe_scorer(value)}
        elif isinstance(value, Path):  # of a model on this machine, which lies elsewhere on others
            settings[name] = "/".join(value.parts[-2:])
        elif isinstance(value, (str, int, float, type(None))):
            settings[name] = value
        elif isinstance(value, (list, tuple)) and all(isinstance(one, (str, int, float, type(None))) for one in value):
            settings[name] = list(value)
    return settings


def coefficients_digest(coefficients: HeadCoefficients) -> str:
    """Of what head coefficients weigh, and how."""
    groups = [group.name for group in coefficients.row_groups]
    return _digest([groups, coefficients.layers, coefficients.weight.contiguous().numpy().tobytes().hex()])


def prompt_text(template: PromptTemplate) -> str:
    """The prompt as the model gets it, with `{question}`, and with `{title}` and `{text}` of one passage."""
    before, after = template.around("{question}")
    return "".join(piece.text for piece in before) + template.passage + "".join(piece.text for piece in after)


def _prompt_digest(template: PromptTemplate) -> str:
    """Of what a template shows, so that it works for any template."""
    before, after = template.around("?")
    pieces = [[piece.kind, piece.text] for piece in (*before, *after)]
    return _digest([pieces, template.passage, template.answer_prefix, list(template.stop)])


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
