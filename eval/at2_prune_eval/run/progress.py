"""Show a progress bar over questions, with the mean F1 so far."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from tqdm.auto import tqdm

from at2_prune.catalogue import DEFAULT_METHOD
from at2_prune.progress import shown as asked_for
from at2_prune.pruning.selection import K

from ..k_values import ALL, check_ks
from ..records import Record

__all__ = ["ProgressBar"]


class ProgressBar:
    """A progress bar with the time left and the mean F1 so far, with and without pruning.

    Pass the bar as `progress` to `Workers`.

    Args:
        total: the number of questions.
        ks: the values of k of the run. The F1 at the middle value is shown.
        method: the pruning method to show.
        shown: whether to draw the bar. If several processes run, only one of them should draw it.
    """

    def __init__(self, total: int, ks: Sequence[K], method: str = DEFAULT_METHOD, shown: bool = True) -> None:
        ordered = check_ks(ks)
        self._shown = [("none", ALL), (method, str(ordered[len(ordered) // 2]))]
        self._sums = [0.0] * len(self._shown)
        self._count = 0
        hidden = not shown or asked_for() is False
        self._bar = tqdm(total=total, desc="answering", unit="question", smoothing=0.1, disable=hidden)

    def __call__(self, record: Record, resumed: bool) -> None:
        if self._bar.disable:
            return
        if resumed:  # an earlier run made the record, so the record must not count for the speed
            self._bar.initial += 1
        self._bar.update()
        self._count += 1
        for index, (name, k) in enumerate(self._shown):
            self._sums[index] += record["methods"][name]["at"][k]["f1"]
        means = (
            f"{name}{'' if k == ALL else f'@{k}'} {total / self._count:.3f}"
            for (name, k), total in zip(self._shown, self._sums, strict=True)
        )
        self._bar.set_postfix_str("F1 " + ", ".join(means))

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.close()
