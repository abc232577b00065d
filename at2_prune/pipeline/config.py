"""PruneConfig: the flag that turns pruning on and off in a pipeline, and everything that goes with it.

Nothing here imports torch: a pipeline that switches pruning off pays for none of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from ..catalogue import DEFAULT_METHOD, configurable_methods
from ..errors import DataError, InputError
from ..files import read_text
from ..passages import Granularity
from ..pruning.selection import AUTO, K, Order
from ..pruning.windows import Overflow

__all__ = ["PruneConfig"]

SECTION = "at2-prune"
SWITCH = "AT2_PRUNE"
PREFIX = "AT2_PRUNE_"
OTHER_VARIABLES = ("AT2_PRUNE_CACHE",)  # the embedded model's folder


@dataclass(frozen=True)
class PruneConfig:
    """How a pipeline prunes, and whether it does.

    `PruneConfig.load` reads it from a file and the environment. Where several say something about the same key, this
    is who wins: keyword arguments, then the environment, then the file or mapping, then the defaults below.

    Example:
        >>> PruneConfig(top_n=2).enabled
        True
        >>> PruneConfig.load({"top_n": 2}, environ={"AT2_PRUNE": "off", "AT2_PRUNE_TOP_N": "5"}, order="score").top_n
        5
    """

    enabled: bool = True
    """False hands every passage on untouched, and loads no model. In the environment: `AT2_PRUNE=off`."""
    method: str = DEFAULT_METHOD
    """What scores: `scout`, which needs no draft; `at2`, the paper's; `fusion`, which adds the retriever's scores to
    scout's; or a rival by name, `bm25` say."""
    top_n: K = 3
    """Passages (or sentences) to keep; `auto` lets the scoring model answer from the best 1, 2, 3 and 5 and keeps those
    that it was most confident with."""
    max_tokens: int | None = None
    """Keep the best that fit into so many tokens of the scoring model's tokenizer; takes the place of `top_n`."""
    granularity: Granularity = "passage"
    """What is scored and kept; with `sentence`, passages are cut to their kept sentences."""
    neighbors: int = 0
    """With sentences: how many before and after each kept one are kept too."""
    order: Order = "original"
    """Hand kept passages on as they were retrieved (`original`), or best first (`score`)."""
    min_documents: int = 1
    """Keep at least so many passages, even if kept sentences or the token budget leave fewer."""
    drop_duplicates: bool = True
    """Drop passages that repeat an earlier one's title and text, before anything is read."""
    overflow: Overflow = "windows"
    """Passages that do not fit the scoring model's context: score them in `windows` that fit, or raise an `error`."""
    model: str | None = None
    """The model that scores, by Hub id or path; the embedded Gemma 3 270M if there is none."""
    coefficients: str | None = None
    """Its head coefficients, by Hub id or path; those that come with at2-prune if there are none."""
    device: str | None = None
    """cpu, cuda, mps …; by default a GPU if there is one."""
    dtype: str | None = None
    """float32, bfloat16 or float16; by default float32 on a CPU, bfloat16 on a GPU."""
    max_new_tokens: int = 48
    """A draft of the scoring model is cut there."""

    def __post_init__(self) -> None:
        for name, kind in _KINDS.items():
            _check(name, getattr(self, name), kind)
        if self.neighbors and self.granularity != "sentence":
            raise InputError(f"neighbors={self.neighbors} needs granularity='sentence', got {self.granularity!r}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "") -> PruneConfig:
        """From parsed JSON, YAML or TOML, without the environment.

        Raises:
            InputError: an unknown key or an impossible value; the message says which are allowed.

        Example:
            >>> PruneConfig.from_dict({"topn": 3})
            Traceback (most recent call last):
            ...
            at2_prune.errors.InputError: unknown key 'topn', did you mean 'top_n'? Allowed: enabled, method, top_n, ...
        """
        return cls(**_checked(values, where))

    @classmethod
    def of(cls, settings: Any) -> PruneConfig:
        """From an object that has all of these fields among its own, as the adapters do."""
        return cls(**{name: getattr(settings, name) for name in _KINDS})

    @classmethod
    def load(
        cls,
        source: PruneConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        **overrides: Any,
    ) -> PruneConfig:
        """From a file or mapping, with the environment on top and keyword arguments on top of that.

        In a YAML file the keys stand in a section `at2-prune`, in a TOML file in a table `[tool.at2-prune]` or
        `[at2-prune]`; a file without one holds nothing else. The environment says `AT2_PRUNE=on` or `off`, and
        `AT2_PRUNE_<KEY>` for every other key; an empty variable counts as unset.

        Args:
            source: a `.yaml`, `.yml` or `.toml` file, or what was parsed from one; a `PruneConfig` is taken as it is,
                without the environment.
            environ: instead of the process's own.
            overrides: fields of this class.

        Raises:
            InputError: an unknown key or an impossible value; the message names the key, where it stands and what is
                allowed.
            DataError: the file cannot be read.
        """
        where = ""
        values: dict[str, Any] = {}
        if isinstance(source, PruneConfig):
            return cls(**{**asdict(source), **_checked(overrides, "")})
        if isinstance(source, Mapping):
            values = dict(source)
        elif source is not None:
            path = Path(source)
            where = str(path)
            if path.suffix not in (".yaml", ".yml", ".toml"):
                raise DataError(f"{path}: a config is a .yaml, .yml or .toml file")
            values = _read_toml(path) if path.suffix == ".toml" else _read_yaml(path)
        from_environ = _read_environ(os.environ if environ is None else environ)
        return cls(**{**_checked(values, where), **from_environ, **_checked(overrides, "")})

    def to_dict(self) -> dict[str, Any]:
        """All fields; `from_dict` takes them back."""
        return asdict(self)


@dataclass(frozen=True)
class _Kind:
    """What a field takes."""

    words: str
    accepts: Callable[[Any], bool]
    parse: Callable[[str], Any] = str
    """The text of an environment variable; what it cannot make sense of it returns, to be refused by `accepts`."""


def _whole(least: int, *others: str | None) -> _Kind:
    """A number, or one of the words in its place."""
    words = {str(word).lower(): word for word in others}

    def accepts(value: Any) -> bool:
        return (isinstance(value, int) and not isinstance(value, bool) and value >= least) or value in others

    def parse(text: str) -> Any:
        return words.get(text.lower(), int(text) if text.isdecimal() else text)

    return _Kind(" or ".join([f"an integer of at least {least}", *words]), accepts, parse)


def _choice(*allowed: str, optional: bool = False) -> _Kind:
    words = " or ".join([", ".join(map(repr, allowed[:-1])), repr(allowed[-1])])
    return _Kind(words, lambda value: (optional and value is None) or (isinstance(value, str) and value in allowed))


_SWITCH = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}
_FLAG = _Kind(
    "true or false (in the environment: on or off)",
    lambda value: isinstance(value, bool),
    lambda text: _SWITCH.get(text.lower(), text),
)
_TEXT = _Kind("a text", lambda value: value is None or (isinstance(value, str) and value.strip() != ""))
_KINDS = {
    "enabled": _FLAG,
    "method": _choice(*configurable_methods()),
    "top_n": _whole(1, AUTO),
    "max_tokens": _whole(1, None),
    "granularity": _choice("passage", "sentence"),
    "neighbors": _whole(0),
    "order": _choice(*get_args(Order)),
    "min_documents": _whole(0),
    "drop_duplicates": _FLAG,
    "overflow": _choice(*get_args(Overflow)),
    "model": _TEXT,
    "coefficients": _TEXT,
    "device": _TEXT,
    "dtype": _choice("float32", "bfloat16", "float16", optional=True),
    "max_new_tokens": _whole(1),
}


def _check(name: str, value: Any, kind: _Kind, where: str = "") -> None:
    if not kind.accepts(value):
        raise InputError(f"{where}{name} must be {kind.words}, got {value!r:.80}")


def _checked(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`values`, known and possible one by one; `where` they stand goes into the error."""
    prefix = f"{where}: " if where else ""
    for key, value in values.items():
        if key not in _KINDS:
            close = get_close_matches(str(key), _KINDS, n=1)
            hint = f", did you mean {close[0]!r}?" if close else "."
            raise InputError(f"{prefix}unknown key {key!r}{hint} Allowed: {', '.join(_KINDS)}")
        _check(key, value, _KINDS[key], prefix)
    return dict(values)


def _read_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    names = {SWITCH: "enabled", **{PREFIX + key.upper(): key for key in _KINDS if key != "enabled"}}
    values = {}
    for variable, text in environ.items():
        if not (variable == SWITCH or variable.startswith(PREFIX)) or variable in OTHER_VARIABLES or not text.strip():
            continue
        if variable not in names:
            close = get_close_matches(variable, names, n=1)
            hint = f", did you mean {close[0]}?" if close else "."
            raise InputError(f"unknown environment variable {variable}{hint} Allowed: {', '.join(names)}")
        kind = _KINDS[names[variable]]
        value = kind.parse(text.strip())
        if not kind.accepts(value):
            raise InputError(f"environment variable {variable} must be {kind.words}, got {text!r:.80}")
        values[names[variable]] = value
    return values


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        data = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    data = _mapping({} if data is None else data, str(path))
    return _mapping(data[SECTION] or {}, f"{path}, section {SECTION}") if SECTION in data else data


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        import tomllib
    except ImportError:  # Python 3.10
        import tomli as tomllib  # type: ignore[no-redef]

    try:
        data = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path}: not valid TOML ({error})") from None
    tool = data.get("tool", {})
    if SECTION in tool:
        return _mapping(tool[SECTION], f"{path}, table [tool.{SECTION}]")
    if SECTION in data:
        return _mapping(data[SECTION], f"{path}, table [{SECTION}]")
    if tool or path.name == "pyproject.toml":  # other programs' settings, none of ours
        return {}
    return data


def _mapping(data: Any, where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise DataError(f"{where}: expected keys and values, got {type(data).__name__}")
    return data
