"""Make the scorer of a method from the method's entry in the catalogue."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

from transformers import PretrainedConfig

from ..calibration import calibrated_coefficients, check_cache, switched_off
from ..catalogue import DEFAULT_EMBEDDER, DEFAULT_METHOD, METHODS, REMOVED, MethodInfo, scoring_methods
from ..coefficients.head_coefficients import HeadCoefficients
from ..coefficients.loading import AnyCoefficients, load_coefficients, method_of, read_coefficients
from ..coefficients.shipped import shipped_coefficients, shipped_for_weights
from ..errors import CoefficientsError, InputError
from ..models.default_model import EMBEDDED_MODEL_ID
from ..models.fingerprint import fingerprint
from ..models.language_model import LanguageModel, recorded_name
from ..models.loading import load_config
from .base import Scorer, ScorerOptions
from .learned import LearnedScorer

__all__ = ["check_scorer", "implied_method", "load_scorer", "make_scorer"]


def make_scorer(name: str, options: ScorerOptions | None = None) -> Scorer:
    """Make the scorer of a method.

    Args:
        name: a method of the catalogue, or a key of `options.coefficients`.
        options: coefficients and other options that some methods need.

    Raises:
        InputError: there is no such method, or the options lack something that the method needs.
        MissingExtraError: a package that the method needs is not installed.

    Example:
        >>> make_scorer("surrogate_32").name
        'surrogate_32'
        >>> from at2_prune.coefficients.head_coefficients import HeadCoefficients
        >>> make_scorer("at2", ScorerOptions({"at2": HeadCoefficients.average(2, 4)})).row_groups[0].name
        'draft'
    """
    if name in REMOVED:
        raise InputError(REMOVED[name].advice)
    options = options or ScorerOptions()
    given = options.coefficients.get(name)
    if isinstance(given, HeadCoefficients) and not (name in METHODS and METHODS[name].uses_index):
        return LearnedScorer(given, name)
    info = METHODS.get(name)
    if info is None or not info.scorer:
        learned = [one for one in scoring_methods() if METHODS[one].coefficients]
        others = [one for one in scoring_methods() if one not in learned]
        raise InputError(
            f"there is no method {name!r}. These methods need no coefficients: {', '.join(sorted(others))}. "
            f"These methods need coefficients: {', '.join(sorted({*learned, *options.coefficients}))}"
        )
    if info.coefficients not in ("", *options.coefficients):
        raise InputError(
            f"the method {name!r} needs coefficients: pass them as "
            f"ScorerOptions(coefficients={{{info.coefficients!r}: ...}})"
        )
    return _scorer_class(info).create(name, options, **info.settings)


def check_scorer(
    model: str | os.PathLike[str] | LanguageModel | None,
    method: str | None = None,
    coefficients: str | os.PathLike[str] | AnyCoefficients | None = None,
    options: ScorerOptions | None = None,
    model_options: Mapping[str, Any] | None = None,
) -> tuple[str, Scorer | None]:
    """Check that `load_scorer` can make the scorer. The language model is not loaded.

    The check reads the model's config, the coefficients, and the files of the index and the encoders. If the
    coefficients can be chosen only after the model is loaded, the index and the encoders are not checked.

    Args:
        model: the model, as in `LanguageModel.load`, or a loaded model.
        method: as in `load_scorer`.
        coefficients: as in `load_scorer`.
        options: the index and the encoders; see `ScorerOptions`.
        model_options: the options of `LanguageModel.load` for this model.

    Returns:
        The method, and the scorer of the method. The scorer is None if its coefficients can be chosen only after the
        model is loaded. `load_scorer` then looks for coefficients of a model with the same weights. If it finds none,
        it either learns coefficients or raises `CoefficientsError`.

    Raises:
        InputError: there is no such method or model, or an option cannot be used.
        CoefficientsError: there are no coefficients for the model, or the given coefficients cannot be used.
        CacheError: coefficients must be learned, and the cache cannot be written.
        MissingExtraError: the method needs a package that is not installed.
    """
    options = options or ScorerOptions()
    method = _named(method, coefficients, options)
    if isinstance(model, LanguageModel):
        name, config = model.name, model.model.config
    else:
        name, config = recorded_name(model), None
        if coefficients is not None:  # if the folder cannot be read, the error comes before the Hub is asked
            read_coefficients(name, None, coefficients)
        if name != EMBEDDED_MODEL_ID:
            config = load_config(name, dict(model_options or {}))
    if _must_calibrate(name, method, coefficients, options):
        if not _may_have_shipped_weights(config, METHODS[method or DEFAULT_METHOD].coefficients):
            check_cache(may_hold_coefficients=True)
        return method or DEFAULT_METHOD, None
    if config is not None and _may_be_found_by_weights(name, method, coefficients, config):
        return method or DEFAULT_METHOD, None
    method, found = _resolved(method, coefficients, partial(read_coefficients, name, config))
    _check_index(method, options.index)
    scorer = make_scorer(method, replace(options, coefficients=found))
    scorer.check(name)
    return method, scorer


def implied_method(method: str | None, coefficients: object, cross_encoder: object, embedder: object) -> str | None:
    """Return the named method. If no method is named, return the method whose encoder is given.

    If no encoder is given either, return None. The caller then chooses the method that the given coefficients belong
    to. Without coefficients, the caller chooses the default method.

    Raises:
        InputError: no method is named, and more than one of `coefficients`, `cross_encoder` and `embedder` is given.

    Example:
        >>> implied_method(None, None, None, "an/embedder"), implied_method("fusion", "dir/", None, "an/embedder")
        ('dense', 'fusion')
    """
    given = {"coefficients": coefficients, "cross_encoder": cross_encoder, "embedder": embedder}
    names = [name for name, value in given.items() if value is not None]
    if method is None and len(names) > 1:
        raise InputError(f"{' and '.join(names)} belong to different methods: name the method, or give only one option")
    if method is not None or names in ([], ["coefficients"]):
        return method
    return "dense" if names == ["embedder"] else "cross_encoder"


def load_scorer(
    language_model: LanguageModel,
    method: str | None = None,
    coefficients: str | os.PathLike[str] | AnyCoefficients | None = None,
    index: str | None = None,
    cross_encoder: str | os.PathLike[str] | None = None,
    embedder: str | os.PathLike[str] | None = None,
    calibrate: bool = True,
) -> Scorer:
    """Make the scorer of a method for a model.

    Args:
        language_model: the model that the scorer scores with.
        method: the name of a scoring method in `at2_prune.catalogue`. With None, the other arguments decide the method.
            Coefficients select the method that they belong to (see `method_of`), a reranker selects `cross_encoder`,
            and an embedder selects `dense`. If none of these is given, the default method is used.
        coefficients: coefficients, for a method that uses coefficients; see `at2_prune.coefficients.loading`.
        index: the folder of scout's passage index. By default, the index is kept in memory.
        cross_encoder: the reranker for the method `cross_encoder`; see `CrossEncoderScorer`. Other methods ignore this
            argument.
        embedder: the embedder for the methods `dense`, `fusion` and `scout_dense`; see `Embedder`. Other methods ignore
            this argument.
        calibrate: whether scout's coefficients are learned if the package has none for the model; see
            `at2_prune.calibration.calibrated_coefficients`.

    Raises:
        InputError: there is no such method, or the given coefficients belong to another method. The error is also
            raised if the method `cross_encoder` is named without a reranker, or if no method is named and arguments of
            several methods are given. With an index, it is raised if the index belongs to another model, or if the
            method uses no index.
        CoefficientsError: there are no coefficients for the model, or the given coefficients cannot be used.
        MissingExtraError: the method needs a package that is not installed.
    """
    options = ScorerOptions(embedder=embedder, cross_encoder=cross_encoder, index=index, calibrate=calibrate)
    method = _named(method, coefficients, options)
    if _must_calibrate(language_model.name, method, coefficients, options):
        wanted = METHODS[method or DEFAULT_METHOD].coefficients
        coefficients = shipped_for_weights(fingerprint(language_model.model), wanted)
        coefficients = coefficients or calibrated_coefficients(language_model, _embedder_of(wanted, options))
    method, found = _resolved(method, coefficients, partial(load_coefficients, language_model))
    _check_index(method, index)
    scorer = make_scorer(method, replace(options, coefficients=found))
    scorer.open(language_model)
    return scorer


def _must_calibrate(model: str, method: str | None, coefficients: object, options: ScorerOptions) -> bool:
    """Return whether scout's coefficients must be looked up by the model's weights or learned.

    This is True if calibration is on, the method uses scout's coefficients, no coefficients are given, and the package
    has none under this model's name. `load_scorer` then looks for the fingerprint of the weights, first in the package
    and then in the cache. If both have no coefficients for these weights, coefficients are learned.
    """
    info = METHODS[method or DEFAULT_METHOD]
    wanted = info.coefficients
    return (
        options.calibrate
        and not switched_off()
        and coefficients is None
        and info.uses_index
        and wanted not in shipped_coefficients().get(model, {})
    )


def _embedder_of(method: str, options: ScorerOptions) -> str | None:
    """Return the embedder to calibrate with, or None for a method without an embedder."""
    if method != "scout_dense":
        return None
    return DEFAULT_EMBEDDER if options.embedder is None else os.fspath(options.embedder)


def _may_be_found_by_weights(name: str, method: str | None, coefficients: object, config: PretrainedConfig) -> bool:
    """Return whether the package has no coefficients under the model's name, but may have some for the model's weights.

    Return False if coefficients are given, or if the method uses no coefficients.
    """
    wanted = METHODS[method or DEFAULT_METHOD].coefficients
    if coefficients is not None or not wanted or wanted in shipped_coefficients().get(name, {}):
        return False
    return _may_have_shipped_weights(config, wanted)


def _may_have_shipped_weights(config: PretrainedConfig | None, method: str) -> bool:
    """Return whether the package has coefficients of this method that fit a model with this config.

    If the result is False, the package has no coefficients for the weights of this model. If the config is None, return
    True.
    """
    if config is None:
        return True
    for methods in shipped_coefficients().values():
        if method in methods:
            try:
                read_coefficients("", config, methods[method])
            except CoefficientsError:
                continue
            return True
    return False


def _check_index(method: str, index: object) -> None:
    if index is not None and not METHODS[method].uses_index:
        raise InputError(
            f"the method {method} uses no passage index, but an index was given: {index!s:.80}; leave out the index, "
            "or use the method scout"
        )


def _resolved(
    method: str | None,
    coefficients: str | os.PathLike[str] | AnyCoefficients | None,
    read: Callable[..., AnyCoefficients],
) -> tuple[str, dict[str, AnyCoefficients]]:
    """Decide the method, and read the coefficients that its scorer uses.

    Args:
        method: the method that `_named` returned.
        coefficients: as in `load_scorer`.
        read: a function that reads the given coefficients. The call `read(None, method)` reads the coefficients that
            come with the package for a method.

    Returns:
        The method, and a mapping with the coefficients. The key is the method that the coefficients belong to. The
        mapping is empty if the method uses no coefficients.
    """
    if coefficients is None:
        method = method or DEFAULT_METHOD
        wanted = METHODS[method].coefficients
        return method, {wanted: read(None, wanted)} if wanted else {}
    wanted = "" if method is None else METHODS[method].coefficients
    if method is not None and not wanted:
        raise InputError(
            f"the method {method} uses no coefficients, but some were given: {coefficients!s:.80}; leave them out"
        )
    given = read(coefficients)
    own = method_of(given)
    if method is not None and wanted != own:
        raise InputError(
            f"the method {method} needs coefficients of {wanted}, but the given coefficients belong to {own}: use the "
            f"method {own}, or leave out the method or the coefficients"
        )
    return method or own, {own: given}


def _named(
    method: str | None, coefficients: str | os.PathLike[str] | AnyCoefficients | None, options: ScorerOptions
) -> str | None:
    """Check that the named method exists, and return the result of `implied_method`."""
    if method in REMOVED:
        raise InputError(REMOVED[method].advice)
    if method is not None and method not in scoring_methods():
        raise InputError(f"there is no method {method!r}: the methods are {', '.join(scoring_methods())}")
    return implied_method(method, coefficients, options.cross_encoder, options.embedder)


def _scorer_class(info: MethodInfo) -> type[Scorer]:
    """Import and return the scorer class of a method."""
    module, _, name = info.scorer.rpartition(".")
    return getattr(import_module(f"{__package__}.{module}"), name)
