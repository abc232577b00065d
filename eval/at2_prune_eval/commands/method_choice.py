"""The methods that the options of `at2-prune eval` ask for.

Importing this module does not import torch, so that `at2-prune eval --help` is quick.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from at2_prune.catalogue import DEFAULT_METHOD, METHODS, learned_methods, scoring_methods
from at2_prune.errors import CoefficientsError, InputError, MissingExtraError

if TYPE_CHECKING:
    from at2_prune.coefficients.loading import AnyCoefficients
    from at2_prune.models.language_model import LanguageModel
    from at2_prune.scorers import Scorer

__all__ = ["MAIN", "RIVALS", "MethodChoice", "check_choice", "choose_scorers"]

logger = logging.getLogger(__name__)

MAIN = (DEFAULT_METHOD, "at2")
"""The methods that are compared by default if they have coefficients."""
RIVALS = ("average_attention", "bm25", "retriever_order", "random")
"""The other methods that are compared by default."""


@dataclass(frozen=True)
class MethodChoice:
    """The options that choose methods."""

    methods: Sequence[str] = ()
    """The value of `--methods`; empty for the default methods, `["all"]` for every method that can run here."""
    coefficients: Sequence[str] = ()
    """The value of `--coefficients`: folders or Hub ids, each with or without `NAME=` before it."""
    embedder: str | None = None
    cross_encoder: str | None = None

    @property
    def everything(self) -> bool:
        """Whether every method that can run here is asked for."""
        return list(self.methods) == ["all"]


def check_choice(choice: MethodChoice) -> None:
    """Check the methods that are asked for, before a model is loaded.

    A name that is no known method may be the name of given coefficients. `choose_scorers` checks such names.

    Raises:
        InputError: an option that a method needs is missing.
        MissingExtraError: a package that a method needs is not installed.
    """
    from at2_prune.scorers.base import ScorerOptions
    from at2_prune.scorers.registry import check_method

    names = () if choice.everything else choice.methods or RIVALS
    for name in names:
        if name in scoring_methods() or not choice.coefficients:
            check_method(name, ScorerOptions(embedder=choice.embedder, cross_encoder=choice.cross_encoder))


def choose_scorers(choice: MethodChoice, language_model: LanguageModel) -> list[Scorer]:
    """Make the methods that are asked for.

    Args:
        choice: the options. With `all`, a method that cannot run here is left out with a warning.
        language_model: the model whose head coefficients are loaded.

    Raises:
        InputError: there is no such method, two coefficients make methods of the same name, or an option is missing.
        CoefficientsError: a method has no coefficients for this model.
        MissingExtraError: a package that a method needs is not installed.
    """
    from at2_prune.scorers import ScorerOptions, make_scorer

    given = _given_coefficients(choice, language_model)
    methods = choice.methods or _default_methods(given, language_model)
    coefficients = given | _shipped_coefficients(choice, methods, given, language_model)
    names = [*methods]
    if choice.everything:
        names = [*coefficients, *(name for name in scoring_methods() if name not in learned_methods())]
    options = ScorerOptions(coefficients, choice.embedder, choice.cross_encoder)
    scorers = []
    for name in dict.fromkeys([*names, *given]):
        try:
            scorers.append(make_scorer(name, options))
        except (MissingExtraError, InputError) as error:
            if not choice.everything:
                raise
            logger.warning("without %s: %s", name, error)
    return scorers


def _given_coefficients(choice: MethodChoice, language_model: LanguageModel) -> dict[str, AnyCoefficients]:
    """Load the coefficients that the user gives, and return them by the name of the method that uses them."""
    from at2_prune.coefficients.loading import load_coefficients, method_of

    coefficients: dict[str, AnyCoefficients] = {}
    for entry in choice.coefficients:
        named = re.fullmatch(r"([^=/\\]+)=(.+)", entry)  # a path that contains = may begin with ./
        path = named[2] if named else entry
        loaded = load_coefficients(language_model, path)
        own = method_of(loaded)
        name = named[1] if named else own
        if name != own and name in METHODS:
            raise InputError(
                f"--coefficients {entry}: {path} belongs to the method {own}, not {name}: give another name"
            )
        if name in coefficients:
            raise InputError(
                f"--coefficients {entry}: another method is called {name} already: give another name, NAME={path}"
            )
        coefficients[name] = loaded
    return coefficients


def _default_methods(given: dict[str, AnyCoefficients], language_model: LanguageModel) -> list[str]:
    from at2_prune.coefficients.shipped import shipped_coefficients

    known = {*given, *shipped_coefficients().get(language_model.name, {})}
    return [*([name for name in MAIN if name in known] or [DEFAULT_METHOD]), *RIVALS]


def _shipped_coefficients(
    choice: MethodChoice, methods: Sequence[str], given: dict[str, AnyCoefficients], language_model: LanguageModel
) -> dict[str, AnyCoefficients]:
    """Load the coefficients that come with the model, for methods that got none from the user."""
    from at2_prune.coefficients.loading import load_coefficients

    wanted = {*methods, *(METHODS[name].coefficients for name in methods if name in METHODS)}
    coefficients: dict[str, AnyCoefficients] = {}
    for name in learned_methods():
        if name not in given and (choice.everything or name in wanted):
            try:
                coefficients[name] = load_coefficients(language_model, method=name)
            except CoefficientsError as error:
                if not choice.everything:
                    raise CoefficientsError(f"{error}; or leave {name} out of --methods") from None
                logger.warning("without %s: %s", name, error)
    return coefficients
