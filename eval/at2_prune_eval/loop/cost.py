"""Measure the cost of a method: seconds, tokens that the model computed, and extra memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from at2_prune.models.language_model import LanguageModel

__all__ = ["Cost", "Meter", "metered", "peak_memory", "reset_peak"]


@dataclass(frozen=True)
class Cost:
    """The cost of some work."""

    seconds: float = 0.0
    tokens: float = 0.0
    """The number of tokens that the model computed. A token that ran through half of the layers counts as half a
    token. A token with gradients counts as three tokens, because the backward pass does twice the work of the forward
    pass."""
    memory: int = 0
    """The peak of memory in bytes, above the memory at the start. It is 0 if the system does not report the peak."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, self.tokens + other.tokens, max(self.memory, other.memory))

    def share(self, parts: int) -> Cost:
        """Return the cost of one part of a batch that has `parts` equal parts. All parts share the peak of memory."""
        return Cost(self.seconds / parts, self.tokens / parts, self.memory)


@dataclass
class Meter:
    """The result of `metered`. The result is complete when the `with` block has ended."""

    cost: Cost = Cost()
    tokens: float = 0.0


@contextmanager
def metered(language_model: LanguageModel) -> Iterator[Meter]:
    """Measure the work that this model does in the `with` block.

    Hooks on the model's layers count the tokens, so that all tokens are counted, whatever a method does. On CUDA, the
    memory is the peak of the allocator. Elsewhere, it is the peak of the resident set of the process, if the system
    reports this peak as Linux does.

    Example:
        >>> with metered(language_model) as meter:  # doctest: +SKIP
        ...     language_model.generate([prompt])
        >>> meter.cost.tokens  # doctest: +SKIP
    """
    meter = Meter()
    layers = _layers(language_model.model)

    def count(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        hidden = next(value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor))
        meter.tokens += hidden.shape[0] * hidden.shape[1] / len(layers) * (3 if torch.is_grad_enabled() else 1)

    hooks = [layer.register_forward_pre_hook(count, with_kwargs=True) for layer in layers]
    device = language_model.device
    before = reset_peak(device)
    started = time.perf_counter()
    try:
        yield meter
    finally:
        for hook in hooks:
            hook.remove()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - started
        meter.cost = Cost(seconds, round(meter.tokens, 3), max(0, peak_memory(device) - before))


def _layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Return one module for each layer. It is the outermost module with the layer's `layer_idx`."""
    found: dict[int, torch.nn.Module] = {}
    for module in model.modules():
        index = getattr(module, "layer_idx", None)
        if isinstance(index, int):
            found.setdefault(index, module)
    return list(found.values())


def reset_peak(device: torch.device) -> int:
    """Reset the peak of memory, and return the number of bytes in use."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_memory(device)


def peak_memory(device: torch.device) -> int:
    """Return the peak of memory in bytes: of the allocator on CUDA, else of the process.

    Return 0 if the system does not report the peak.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)
