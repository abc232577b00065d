"""The settings of a framework's adapter: the fields of `PruneConfig` as fields of a pydantic class.

Outside of `at2_prune.server`, this is the only file of the package that imports pydantic. Only adapters import this
file, and the frameworks of these adapters install pydantic.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, create_model, model_validator
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import Self

from ..errors import AT2PruneError, InputError
from .config import SETTINGS, PruneConfig
from .pruners import options_of
from .sources import checked_values, read_environ, unknown_key
from .step import PruneStep

__all__ = ["PlainErrors", "PruneSettings"]


class PlainErrors(BaseModel):
    """A pydantic class whose constructor raises the errors of at2-prune as they are.

    Pydantic would wrap an `InputError` in a `ValidationError`, and would add words to the message. What pydantic itself
    refuses, such as an unknown argument, becomes an `InputError`. `InputError` and `ValidationError` are both
    `ValueError`s.

    `model_validate` raises a `ValidationError` as usual. If a user's own pydantic class has an adapter as a field, the
    constructor of that class raises a `ValidationError` too.
    """

    if not TYPE_CHECKING:  # a type checker must see the fields as arguments

        def __init__(self, /, **settings: Any) -> None:
            try:
                super().__init__(**settings)
            except ValidationError as error:
                raise _plain(error, type(self).__name__, self._arguments()) from None

    @classmethod
    def _arguments(cls) -> list[str]:
        """Return the names of all arguments of the constructor."""
        return list(cls.model_fields)


if TYPE_CHECKING:  # the fields are made below, from the fields of PruneConfig

    class _ConfigFields(PlainErrors):
        def __getattr__(self, name: str) -> Any: ...

else:
    _TYPES = get_type_hints(PruneConfig)
    _ConfigFields = create_model(
        "_ConfigFields",
        __base__=PlainErrors,
        **{
            name: (_TYPES[name], Field(default=field.default, description=field.metadata["help"]))
            for name, field in SETTINGS.items()
        },
    )


class PruneSettings(_ConfigFields):
    """The fields of an adapter: the settings of `PruneConfig`, and a pruner.

    A setting that is not given is read from the environment, as in `PruneConfig.load`. A copy of an adapter shares the
    pruner and all other objects with the original. If a `pruner` was given, the pruner is pickled with the adapter.
    Otherwise an unpickled adapter loads its model on first use.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", protected_namespaces=())

    pruner: SkipJsonSchema[Any] = Field(default=None, exclude=True)
    """An `AT2Pruner` that is loaded already. The adapter takes the settings granularity, order and overflow from the
    pruner, unless they are given or set in the environment. An adapter made by `from_config` takes all three settings
    from the config."""

    _step: PruneStep = PrivateAttr()

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        if not isinstance(values, dict):  # pydantic validates an existing adapter again
            return values
        given = {name: value for name, value in values.items() if name in SETTINGS}
        checked_values(given, SETTINGS)  # pydantic alone would accept True as 1
        pruner = values.get("pruner")
        from_pruner = {} if pruner is None else options_of(pruner)
        return {**from_pruner, **read_environ(os.environ, SETTINGS), **values}

    @model_validator(mode="after")
    def _start(self) -> Self:
        # Pydantic runs this validator again if an adapter becomes a field of another object. The property `step` keeps
        # the loaded model.
        self._step = self.step
        return self

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.__copy__()

    @classmethod
    def from_config(
        cls, config: PruneConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None, **options: Any
    ) -> Self:
        """Make an adapter with the settings of `config`.

        Args:
            config: a `PruneConfig`, a mapping of settings, or the name of a file, as in `PruneConfig.load`. The
                environment overrides a mapping and a file. With None, only the environment is read.
            options: fields of this class. An option that is a setting overrides `config`.
        """
        return cls(**{**PruneConfig.load(config).to_dict(), **options})

    @property
    def step(self) -> PruneStep:
        """The pipeline step that prunes with the current values of the fields."""
        config = PruneConfig.of(self)
        step = getattr(self, "_step", None)
        if step is None or step.given is not self.pruner:
            self._step = PruneStep(config, self.pruner)
        else:
            self._step = step.with_config(config)
        return self._step


def _plain(error: ValidationError, name: str, arguments: list[str]) -> AT2PruneError:
    """Return the error of at2-prune that a `ValidationError` holds, or its problems as an `InputError`.

    Args:
        error: the error of a constructor.
        name: the name of the class.
        arguments: the names of all arguments of the constructor.
    """
    problems = []
    for found in error.errors(include_url=False):
        cause = found.get("ctx", {}).get("error")
        if isinstance(cause, AT2PruneError):
            return cause
        if found["type"] == "extra_forbidden":
            return unknown_key(found["loc"][-1], arguments, f"{name}: ")
        where = ".".join(map(str, found["loc"]))
        if found["type"] == "missing":
            problems.append(f"{name} needs {where}=")
        elif cause is not None:
            problems.append(str(cause))
        else:
            value = found["input"]
            problems.append(f"{name}: {where}: {found['msg']}, got {type(value).__name__}: {value!r:.80}")
    return InputError("; ".join(problems))
