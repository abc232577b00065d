"""The settings of a framework's adapter: the fields of `PruneConfig` as fields of a pydantic class.

This is the only file of the package that imports pydantic, which both frameworks bring; only adapters import it.
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
    """The settings of `PruneConfig`, a pruner and a title's key, as fields of a framework's own class."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", protected_namespaces=())

    pruner: Any = Field(default=None, exclude=True)
    """An `AT2Pruner` that is loaded already. Its granularity, order and overflow then hold, unless given here."""
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
        """An adapter that `config` sets up, and switches on and off.

        Args:
            config: as in `PruneConfig.load`: a ready one, the content of a file or the file's name, with the
                environment on top; None for the environment alone.
            options: other fields of this class.
        """
        return cls(**{**PruneConfig.load(config).to_dict(), **options})

    @property
    def step(self) -> PruneStep:
        """The pipeline step that prunes, for the fields as they are now."""
        self._step = self._step.with_config(PruneConfig.of(self))
        return self._step
