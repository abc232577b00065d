"""Read and check the YAML file of a study: readers, data sets, methods and values of k."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, TypeVar, get_type_hints

from at2_prune.catalogue import METHODS, REFERENCES, REMOVED, family_of, scoring_methods
from at2_prune.errors import InputError
from at2_prune.files import read_text
from at2_prune.parsing import ParseError, parse_yaml

from ..k_values import check_ks

__all__ = ["DEFAULT", "Data", "Method", "Model", "Study", "in_full", "load_study"]

DEFAULT = "default"
"""The name that stands for the embedded model in a study."""
READER = "reader"
"""The value of a method's `scorer` that stands for each reader."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_VARIABLE = re.compile(r"\$\{(\w+)\}")
T = TypeVar("T")


@dataclass(frozen=True)
class Model:
    """A model: a reader, or the scoring model."""

    model: str = DEFAULT
    """A Hub id or a folder, or `default` for the embedded model."""
    dtype: str | None = None


@dataclass(frozen=True)
class Data:
    """A data set. The fields are arguments of `at2_prune.datasets.load_questions`."""

    path: str
    split: str | None = None
    ids: str | None = None
    seed: int | None = None
    offset: int = 0
    limit: int | None = None


@dataclass(frozen=True)
class Method:
    """A method that orders passages."""

    method: str = ""
    """A method of the catalogue. The default is the name that the study gives to the method."""
    coefficients: str | None = None
    """A folder with learned coefficients. The name of the reader replaces `{reader}` in the path. By default, those in
    the package are used."""
    embedder: str | None = None
    cross_encoder: str | None = None
    seed: int = 0
    file: str | None = None
    """A file with rankings that another program or machine made, in the format of a study's rankings. The name of the
    data set replaces `{data}` in the path, and the name of the reader replaces `{reader}`."""
    scorer: str | None = None
    """`reader` if each reader is also the scoring model. By default, it is the study's `scorer`."""
    draft: str | None = None
    """`reader` if each reader writes the draft that the study's `scorer` reads. By default, the scoring model writes
    it."""

    @property
    def of_reader(self) -> bool:
        """Return whether each reader has rankings of its own."""
        return READER in (self.scorer, self.draft) or "{reader}" in (self.file or "")


@dataclass(frozen=True)
class Study:
    """The settings of a study."""

    readers: Mapping[str, Model]
    data: Mapping[str, Data]
    methods: Mapping[str, Method]
    k: list[int]
    title: str = "Pooled evidence"
    scorer: Model = field(default_factory=Model)
    """The scoring model of all methods."""
    subject: str = ""
    """The method that the forest plot compares with the baselines. The default is the study's main method."""
    baselines: list[str] = field(default_factory=list)
    """The methods with which the page compares the others. By default, they are no pruning and the methods `bm25`,
    `dense` and `cross_encoder` of the catalogue, as far as the study has them."""
    max_new_tokens: int = 48
    batch_size: int = 64
    """The largest number of prompts that are answered at once on a GPU."""


def load_study(path: str | os.PathLike[str]) -> Study:
    """Read a study from a YAML file. `in_full` later replaces the environment variables in its values.

    Raises:
        DataError: the file cannot be read.
        InputError: the file is not YAML, a key is unknown, missing or given twice, or a value cannot be used. The
            message names the key.
    """
    try:
        content = parse_yaml(read_text(path))
    except ParseError as error:
        raise InputError(f"{path}: not YAML ({error})") from None
    where = str(path)
    given = _keys(Study, content, where)
    for name, kind in (("readers", Model), ("data", Data), ("methods", Method)):
        given[name] = _named(kind, given[name], f"{where}: {name}")
    if "scorer" in given:
        given["scorer"] = _make(Model, given["scorer"], f"{where}: scorer")
    if not isinstance(given["k"], list):
        raise InputError(f"{where}: k must be a list of numbers, got {given['k']!r:.80}")
    given["k"] = check_ks(given["k"])
    if any(not isinstance(k, int) for k in given["k"]):
        raise InputError(f"{where}: k must hold numbers only, got {given['k']}")
    given["methods"] = {name: _checked(method, name, where) for name, method in given["methods"].items()}
    _check_types(Study, {name: given[name] for name in given if name in ("title", "subject")}, where)
    study = Study(**given)
    for name in ("max_new_tokens", "batch_size"):
        value = getattr(study, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{where}: {name} must be an integer of at least 1, got {value!r:.80}")
    if not isinstance(study.baselines, list) or not all(isinstance(name, str) for name in study.baselines):
        raise InputError(f"{where}: baselines must be a list of methods, got {study.baselines!r:.80}")
    named = [*([("subject", study.subject)] if study.subject else []), *(("baseline", one) for one in study.baselines)]
    for role, name in named:
        if name not in study.methods:
            raise InputError(f"{where}: {role} {name!r:.80} is not among the methods: {', '.join(study.methods)}")
    return study


def in_full(settings: T, where: str) -> T:
    """Return the settings with `${NAME}` replaced by the environment variable, and a leading `~` by the home folder.

    A stage calls this only for the settings that the stage uses. A machine that runs one stage therefore needs no
    variables of the other stages.

    Raises:
        InputError: a variable is not set.
    """
    given = {one.name: getattr(settings, one.name) for one in fields(settings)}  # type: ignore[arg-type]
    texts = {name: value for name, value in given.items() if isinstance(value, str)}
    for name, value in texts.items():
        for variable in _VARIABLE.findall(value):
            if variable not in os.environ:
                raise InputError(
                    f"{where}: the environment variable {variable} is not set, but {name}: {value} needs this variable"
                )
        texts[name] = os.path.expanduser(_VARIABLE.sub(lambda found: os.environ[found[1]], value))
    return type(settings)(**{**given, **texts})


def _checked(method: Method, name: str, where: str) -> Method:
    """Check the settings of a method. Return the settings with the method of the catalogue filled in."""
    kind = method.method or ("" if method.file else name)
    known = [*REFERENCES, *scoring_methods()]
    removed = kind in REMOVED  # finished rankings of a removed method can be used, but the stage rank makes no new ones
    if method.file is None and kind not in known and not removed:
        raise InputError(
            f"{where}: methods.{name}: there is no method {kind!r}; use one of {', '.join(known)}, or give a file"
        )
    for option, users in (("embedder", ("dense", "scout_dense")), ("cross_encoder", ("cross_encoder",))):
        if getattr(method, option) is not None and kind not in users:
            wanted = " or ".join(users)
            raise InputError(
                f"{where}: methods.{name}: {option} belongs to the method {wanted}, not to {kind or 'file'}"
            )
    if method.coefficients is not None and not removed and not (kind in METHODS and METHODS[kind].coefficients):
        raise InputError(
            f"{where}: methods.{name}: the method {kind or name} has no coefficients; leave out coefficients"
        )
    for option in ("scorer", "draft"):
        value = getattr(method, option)
        if value not in (None, READER):
            raise InputError(f"{where}: methods.{name}: {option} can only be {READER}, got {value!r:.80}")
    if method.draft and method.scorer:
        raise InputError(
            f"{where}: methods.{name}: with scorer: {READER} each reader also writes the draft; leave out draft"
        )
    if method.draft and (method.file or not _may_read_draft(kind)):
        raise InputError(f"{where}: methods.{name}: {method.file or kind} reads no draft; leave out draft")
    if "{reader}" in (method.coefficients or "") and not method.scorer:
        raise InputError(f"{where}: methods.{name}: coefficients of each {{reader}} need scorer: {READER}")
    if method.scorer and (method.file or family_of(kind) in ("retrieval", "other")):
        raise InputError(f"{where}: methods.{name}: {method.file or kind} needs no scoring model; leave out scorer")
    return replace(method, method=kind)


def _may_read_draft(kind: str) -> bool:
    return family_of(kind) not in ("retrieval", "other") and not (kind in METHODS and METHODS[kind].uses_index)


def _named(kind: type[T], value: Any, where: str) -> dict[str, T]:
    """Return a mapping of names to settings. The names become parts of file names, so few characters are allowed."""
    if not isinstance(value, Mapping) or not value:
        raise InputError(f"{where} must be a mapping of names to settings, got {value!r:.80}")
    for name in value:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InputError(f"{where}: the name {name!r:.80} must be made of letters, digits, _ and -")
    return {name: _make(kind, {} if own is None else own, f"{where}.{name}") for name, own in value.items()}


def _make(kind: type[T], value: Any, where: str) -> T:
    given = _keys(kind, value, where)
    _check_types(kind, given, where)
    return kind(**given)


def _keys(kind: type[Any], value: Any, where: str) -> dict[str, Any]:
    """Check that the keys of a mapping are fields of a class, and return the mapping."""
    names = [one.name for one in fields(kind)]
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: expected a mapping with {', '.join(names)}, got {value!r:.80}")
    if unknown := [key for key in value if key not in names]:
        raise InputError(f"{where}: unknown key {unknown[0]!r}; the keys are {', '.join(names)}")
    needed = [one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING]
    if missing := [name for name in needed if name not in value]:
        raise InputError(f"{where}: the key {missing[0]!r} is missing")
    return dict(value)


def _check_types(kind: type[Any], given: Mapping[str, Any], where: str) -> None:
    hints = get_type_hints(kind)
    for key, value in given.items():
        if isinstance(value, bool) or not isinstance(value, hints[key]):
            allowed = str(getattr(hints[key], "__name__", hints[key])).replace(" | None", "")
            raise InputError(f"{where}: {key} must be of type {allowed}, got {value!r:.80}")
