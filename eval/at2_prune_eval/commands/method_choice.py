"""Choose the methods that the options of `at2-prune eval` ask for.

Importing this module does not import torch, so that `at2-prune eval --help` is quick.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from at2_prune.catalogue import DEFAULT_METHOD, METHODS, learned_methods, scoring_methods
from at2_prune.errors import CoefficientsError, InputError, MissingExtraError

if TYPE_CHECKING:
    from at2_prune.coefficients.loading import AnyCoefficients
    from at2_prune.models.language_model import LanguageModel
    from at2_prune.scorers import Scorer

    ReadCoefficients = Callable[..., AnyCoefficients]
    """A function that returns the coefficients at a path. If the path is None, a second argument names a method, and
    the function returns the coefficients that at2-prune ships for this method and the model."""

__all__ = ["MAIN", "RIVALS", "MethodChoice", "check_choice", "choose_scorers"]

logger = logging.getLogger(__name__)

MAIN = (DEFAULT_METHOD, "at2")
"""The methods that are compared by default if there are coefficients for the model."""
RIVALS = ("average_attention", "bm25", "retriever_order", "random")
"""The other methods that are compared by default."""


@dataclass(frozen=True)
class MethodChoice:
    """The options that choose methods."""

    methods: Sequence[str] = ()
    """The value of `--methods`. An empty value stands for the default methods, and `["all"]` for every method that can
    run here."""
    coefficients: Sequence[str] = ()
    """The value of `--coefficients`: folders or Hub ids. Each may have `NAME=` before it."""
    embedder: str | None = None
    cross_encoder: str | None = None

    @property
    def everything(self) -> bool:
        """Return whether the options ask for every method that can run here."""
        return list(self.methods) == ["all"]


def check_choice(choice: MethodChoice, model: str | None) -> None:
    """Check the methods and the coefficients that the options name, before a model is loaded.

    Args:
        choice: the options.
        model: the model that will be loaded, in a form that `LanguageModel.load` takes.

    Raises:
        InputError: a method or the model does not exist, two values of `--coefficients` give methods of the same name,
            or an option is missing or cannot be used.
        CoefficientsError: coefficients cannot be read, or a method has none for this model.
        MissingExtraError: a package that a method needs is not installed.
    """
    from at2_prune.coefficients.loading import read_coefficients
    from at2_prune.models.default_model import EMBEDDED_MODEL_ID
    from at2_prune.models.language_model import recorded_name
    from at2_prune.models.loading import load_config

    name = recorded_name(model)
    # Wrong coefficients raise an error here, before the Hub is asked for the model.
    _given_coefficients(choice, partial(read_coefficients, name, None))
    config = None if name == EMBEDDED_MODEL_ID else load_config(name, {})
    read = partial(read_coefficients, name, config)
    if choice.everything:  # `choose_scorers` later leaves out methods that cannot run, with a warning
        _given_coefficients(choice, read)
        return
    for scorer in _make_scorers(choice, name, read):
        scorer.check(name)


def choose_scorers(choice: MethodChoice, language_model: LanguageModel) -> list[Scorer]:
    """Make the scorers of the methods that the options name.

    Args:
        choice: the options. With `all`, a method that cannot run here is left out with a warning.
        language_model: the scoring model, for which coefficients are loaded.

    Raises:
        InputError: a method does not exist, two values of `--coefficients` give methods of the same name, or an option
            is missing.
        CoefficientsError: a method has no coefficients for this model.
        MissingExtraError: a package that a method needs is not installed.
    """
    from at2_prune.coefficients.loading import load_coefficients

    return _make_scorers(choice, language_model.name, partial(load_coefficients, language_model))


def _make_scorers(choice: MethodChoice, model: str, read: ReadCoefficients) -> list[Scorer]:
    """Make the scorers of the methods that the options name.

    Args:
        choice: the options.
        model: the name of the scoring model.
        read: the function that reads coefficients.
    """
    from at2_prune.scorers import ScorerOptions, make_scorer

    given = _given_coefficients(choice, read)
    methods = choice.methods or _default_methods(given, model)
    coefficients = given | _shipped_coefficients(choice, methods, given, read)
    names = [*methods]
    if choice.everything:
        plain = [name for name in scoring_methods() if not METHODS[name].learned and not METHODS[name].slow]
        names = [*coefficients, *plain]
    options = ScorerOptions(coefficients, choice.embedder, choice.cross_encoder)
    scorers = []
    for name in dict.fromkeys([*names, *given]):
        try:
            scorer = make_scorer(name, options)
            if choice.everything:
                scorer.check(model)  # for example, an embedder that cannot be downloaded
            scorers.append(scorer)
        except (MissingExtraError, InputError) as error:
            if not choice.everything:
                raise
            logger.warning("%s is left out: %s", name, error)
    return scorers


def _given_coefficients(choice: MethodChoice, read: ReadCoefficients) -> dict[str, AnyCoefficients]:
    """Read the coefficients that the user gives. Return them by the name of the method that uses them."""
    from at2_prune.coefficients.loading import method_of

    coefficients: dict[str, AnyCoefficients] = {}
    for entry in choice.coefficients:
        # A path that contains = must begin with ./ or another folder, else it is read as NAME=PATH.
        named = re.fullmatch(r"([^=/\\]+)=(.+)", entry)
        path = named[2] if named else entry
        loaded = read(path)
        own = method_of(loaded)
        name = named[1] if named else own
        if name != own and name in METHODS:
            raise InputError(
                f"--coefficients {entry}: {path} belongs to the method {own}, not to {name}: give another name"
            )
        if name in coefficients:
            raise InputError(
                f"--coefficients {entry}: another method has the name {name} already: give another name, NAME={path}"
            )
        coefficients[name] = loaded
    return coefficients


def _default_methods(given: dict[str, AnyCoefficients], model: str) -> list[str]:
    from at2_prune.coefficients.shipped import shipped_coefficients

    known = {*given, *shipped_coefficients().get(model, {})}
    return [*([name for name in MAIN if name in known] or [DEFAULT_METHOD]), *RIVALS]


def _shipped_coefficients(
    choice: MethodChoice, methods: Sequence[str], given: dict[str, AnyCoefficients], read: ReadCoefficients
) -> dict[str, AnyCoefficients]:
    """Read the coefficients that at2-prune ships for the model, for methods without coefficients from the user."""
    wanted = {*methods, *(METHODS[name].coefficients for name in methods if name in METHODS)}
    coefficients: dict[str, AnyCoefficients] = {}
    for name in learned_methods():
        if name not in given and (choice.everything or name in wanted):
            try:
                coefficients[name] = read(None, name)
            except CoefficientsError as error:
                if not choice.everything:
                    raise CoefficientsError(f"{error}; or leave out {name} in --methods") from None
                logger.warning("%s is left out: %s", name, error)
    return coefficients
