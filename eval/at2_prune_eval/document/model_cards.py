"""Record the results of an evaluation in the cards of the evaluated head coefficients."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients, is_scout_folder
from at2_prune.errors import InputError
from at2_prune.files import user_path, write_atomically

from ..k_values import ALL, GOLD
from ..loop.digests import coefficients_digest

__all__ = ["evaluation_of", "record_evaluation", "write_card"]


def evaluation_of(results: Mapping[str, Any], name: str, k: str) -> dict[str, Any]:
    """Return the results of a method for the card of its coefficients.

    The main results are F1, F1 of no pruning and of the oracle, gold recall, and LDS, as far as the run measured them.

    Args:
        results: the content of `results.json`.
        name: the method.
        k: the number of passages to keep.

    Returns:
        JSON values. Every measurement has the keys `mean`, `low` and `high`.

    Raises:
        InputError: the results have no such method or k.
    """
    methods, data = results["methods"], results["config"]["data"]
    if k not in methods.get(name, {}).get("at", {}):
        raise InputError(f"the results have no {name} at k = {k}")
    found = {"data": data["name"], "questions": results["n"], "k": k, "f1": methods[name]["at"][k]["f1"]}
    if data.get("offset"):
        found["first_questions_left_out"] = data["offset"]
    if "reader" in results["config"]:
        found["reader"] = results["config"]["reader"]["model"]
    if "none" in methods:
        found["f1_without_pruning"] = methods["none"]["at"][ALL]["f1"]
        found["difference"] = results["paired"]["none"][name][k]["f1"]
    if "oracle" in methods:
        found["f1_of_the_oracle"] = methods["oracle"]["at"][GOLD]["f1"]
    found["gold_recall"] = methods[name]["at"][k]["gold_recall"]
    fidelity = (results.get("faithfulness") or {}).get("passage", {}).get("lds", {})
    return {**found, "lds": fidelity[name]} if name in fidelity else found


def record_evaluation(folder: str | os.PathLike[str], results: Mapping[str, Any], k: str = "3") -> None:
    """Record an evaluation in the folder of the evaluated head coefficients, and write their card again.

    Args:
        folder: the folder that `HeadCoefficients.save_pretrained` wrote.
        results: the content of `results.json`.
        k: the number of passages to keep.

    Raises:
        InputError: the results belong to other coefficients, or have no such k.
        CoefficientsError: the folder holds no head coefficients.
    """
    coefficients = HeadCoefficients.from_pretrained(folder)
    digest = coefficients_digest(coefficients)
    known = {
        name: settings["coefficients"]["sha256"]
        for name, settings in results["config"]["methods"].items()
        if "coefficients" in settings
    }
    name = next((name for name, one in known.items() if one == digest), None)
    if name is None:
        raise InputError(
            f"{folder}: the results belong to other head coefficients ({known}) than the coefficients here ({digest})"
        )
    coefficients.training["evaluation"] = evaluation_of(results, name, k)
    (user_path(folder) / "README.md").unlink(missing_ok=True)  # `save_pretrained` would keep the old card
    coefficients.save_pretrained(user_path(folder))


def write_card(folder: str | os.PathLike[str]) -> None:
    """Write the card of coefficients again, from the config in their folder.

    Args:
        folder: a folder with head coefficients or with scout's coefficients.

    Raises:
        CoefficientsError: the folder holds no coefficients.
    """
    kind = ScoutCoefficients if is_scout_folder(folder) else HeadCoefficients
    write_atomically(user_path(folder) / "README.md", str(kind.from_pretrained(folder).generate_model_card()))
