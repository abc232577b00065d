"""Share work among processes, GPUs and machines."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

from .errors import MissingExtraError

__all__ = ["Processes"]

T = TypeVar("T")


class Processes:
    """The processes of a run: one process, or the processes that `torchrun` started.

    Raises:
        MissingExtraError: `torchrun` started several processes, and accelerate is not installed.

    Example:
        >>> processes = Processes()
        >>> processes.rank, processes.count, processes.share(["a", "b", "c"])
        (0, 1, ['a', 'b', 'c'])
    """

    def __init__(self) -> None:
        self._state: Any = None
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            try:
                from accelerate import PartialState
            except ImportError:
                raise MissingExtraError(
                    "accelerate", "eval", "Sharing work among processes", "pip install accelerate"
                ) from None
            # A process that has finished its share waits for the slowest process. The timeout must allow for this wait.
            self._state = PartialState(cpu=not _cuda(), timeout=timedelta(days=7))
        self.rank: int = self._state.process_index if self._state else 0
        self.count: int = self._state.num_processes if self._state else 1

    @property
    def device(self) -> str | None:
        """The device of this process. If there is only one process, this is None, and `LanguageModel.load` chooses."""
        return str(self._state.device) if self._state else None

    def share(self, items: Sequence[T]) -> list[T]:
        """Return the items of this process: every `count`-th item, starting at the index `rank`.

        Each process gets items from the whole list, because neighbouring items may have similar lengths.
        """
        return list(items[self.rank :: self.count])

    def wait(self) -> None:
        """Wait until all processes have come to this point."""
        if self._state:
            self._state.wait_for_everyone()

    def sum(self, count: int) -> int:
        """Add the counts of all processes, and return the sum in every process."""
        if self._state is None:
            return count
        from accelerate.utils import gather_object

        return int(sum(gather_object([count])))

    @contextmanager
    def first_then_others(self) -> Iterator[None]:
        """Let the first process run the `with` block before the other processes."""
        with self._state.main_process_first() if self._state else nullcontext():
            yield


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()
