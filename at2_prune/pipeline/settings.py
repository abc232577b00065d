"""What the LangChain and LlamaIndex adapters have in common: their settings, and the step that these set up.

The one file here that imports pydantic, which both frameworks bring; nothing but the adapters imports it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator
from typing_extensions import Self

from ..passages import Granularity
from ..pruning.selection import K, Order
from ..pruning.windows import Overflow
from .config import PruneConfig
from .step import PruneStep

__all__ = ["PruneSettings"]


class PruneSettings(BaseModel):
    """The fields of `PruneConfig`, a pruner, and what reads a title, as fields of a framework's own class."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", protected_namespaces=())

    pruner: Any = Field(default=None, exclude=True)
    """An `AT2Pruner` that is loaded already; granularity, order and overflow are then its own if not given here."""
    title_key: str | None = "title"
    """Metadata key of a title, which is shown to the scoring model before the text."""

    # The fields of PruneConfig, see there.
    enabled: bool = PruneConfig.enabled
    method: str = PruneConfig.method
    top_n: K = PruneConfig.top_n
    max_tokens: int | None = PruneConfig.max_tokens
    granularity: Granularity = PruneConfig.granularity
    neighbors: int = PruneConfig.neighbors
    order: Order = PruneConfig.order
    min_documents: int = PruneConfig.min_documents
    drop_duplicates: bool = PruneConfig.drop_duplicates
    overflow: Overflow = PruneConfig.overflow
    model: str | None = PruneConfig.model
    coefficients: str | None = PruneConfig.coefficients
    device: str | None = PruneConfig.device
    dtype: str | None = PruneConfig.dtype
    max_new_tokens: int = PruneConfig.max_new_tokens

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
        """One that `config` sets up, and switches on and off.

        Args:
            config: as in `PruneConfig.load`: a ready one, what a file holds or the file's name, the environment on top;
                None for the environment alone.
            options: other fields of this class.
        """
        return cls(**{**PruneConfig.load(config).to_dict(), **options})

    @property
    def step(self) -> PruneStep:
        """What does the work, for the fields as they are now."""
        self._step = self._step.with_config(PruneConfig.of(self))
        return self._step
