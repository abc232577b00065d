"""The settings of a framework's adapter: the fields of `PruneConfig` as fields of a pydantic class.

This is the only file of the package that imports pydantic. Only adapters import this file, and their frameworks install
pydantic.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, create_model, model_validator
from typing_extensions import Self

from .config import SETTINGS, PruneConfig
from .step import PruneStep

__all__ = ["PruneSettings"]

if TYPE_CHECKING:  # the fields are made below, from those of PruneConfig

    class _ConfigFields(BaseModel):
        def __getattr__(self, name: str) -> Any: ...

else:
    _TYPES = get_type_hints(PruneConfig)
    _ConfigFields = create_model(
        "_ConfigFields",
        **{
            name: (_TYPES[name], Field(default=field.default, description=field.metadata["help"]))
            for name, field in SETTINGS.items()
        },
    )


class PruneSettings(_ConfigFields):
    """The settings of `PruneConfig`, a pruner and the key of titles, as fields of an adapter."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", protected_namespaces=())

    pruner: Any = Field(default=None, exclude=True)
    """An `AT2Pruner` that is loaded already. Its granularity, order and overflow are used if they are not given here.
    An adapter made by `from_config` takes all three from the config."""
    title_key: str | None = "title"
    """The metadata key of a title, which is shown to the scoring model before the text."""

    _step: PruneStep = PrivateAttr()

    @model_validator(mode="before")
    @classmethod
    def _as_the_pruner(cls, values: Any) -> Any:
        pruner = values.get("pruner") if isinstance(values, dict) else None
        return values if pruner is None else {**PruneStep.options_of(pruner), **values}

    @model_validator(mode="after")
    def _start(self) -> Self:
        self._step = PruneStep(PruneConfig.of(self), self.pruner)
        return self

    @classmethod
    def from_config(
        cls, config: PruneConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None, **options: Any
    ) -> Self:
        """Make an adapter with the settings of `config`.

        Args:
            config: as in `PruneConfig.load`: a `PruneConfig`, a mapping of settings, or the name of a file. The
                environment overrides the last two. With None, only the environment is read.
            options: other fields of this class.
        """
        return cls(**{**PruneConfig.load(config).to_dict(), **options})

    @property
    def step(self) -> PruneStep:
        """The pipeline step that prunes with the current values of the fields."""
        self._step = self._step.with_config(PruneConfig.of(self))
        return self._step
