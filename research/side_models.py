"""Models of the levers in `side_levers.py`: scout with further columns, further choices, or without its linear form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from torch import Tensor

from at2_prune.coefficients.scout_coefficients import FOLLOWED
from at2_prune.training import ScoutSettings
from at2_prune.training.choices import Choice, fit_choices, recall_at

KS = (1, 2, 3, 4)
BALANCE, STEPS = ScoutSettings.balance, ScoutSettings.steps
Model = Callable[[Tensor], Tensor]
"""Scores passages by their columns."""


@dataclass(frozen=True)
class Case:
    """A question, with columns of its passages, `(passages, columns)`, and of pairs, `(known, passages, columns)`."""

    own: dict[str, Tensor]
    pairs: dict[str, Tensor]
    gold: Tensor
    kind: str


@dataclass(frozen=True)
class Lever:
    """One change of the method. `own` and `pairs` name columns beside scout's."""

    title: str
    own: tuple[str, ...] = ()
    used: tuple[str, ...] = ()
    """The columns that take the place of `own` when passages are ranked, and not when the lever is fitted."""
    pairs: tuple[str, ...] = ()
    penalty: float = ScoutSettings.penalty
    third: str = ""
    """The way to join the links of two known passages for a third choice: `last`, `mean` or `max`. By default, there is
    no third choice."""
    fit_third: bool = False
    """True if choices after two known passages are fitted too."""
    hops: int = 0
    """The number of further hops, each over the links of the hop before it."""
    rank: int = 0
    """The rank of a quadratic form that is added to the linear one."""
    alone: str = ""
    """The columns of which the first is the score. Then nothing is fitted."""
    fused: float = 0.0
    """The weight of bge-small's standardised cosine, which is added to the standardised score, as in `fusion`."""
    trees: str = ""
    """The columns of boosted trees: `features`, or `score` if they have scout's score too."""


class Fitted:
    """A lever's models, fitted to the cases of data sets."""

    def __init__(self, data: Sequence[Sequence[Case]], lever: Lever) -> None:
        self.lever = lever
        self.columns = lever.own
        cases = [(case, len(some) ** (BALANCE - 1)) for some in data for case in some]
        self.first = self._learn([Choice(self._own(case), case.gold, weight) for case, weight in cases])
        self.later = self._learn([choice for case, weight in cases for choice in self._later_choices(case, weight)])
        self.trees: HistGradientBoostingClassifier | None = None
        if lever.trees:
            self.trees = HistGradientBoostingClassifier(
                learning_rate=0.05, max_leaf_nodes=8, min_samples_leaf=20, l2_regularization=1.0, random_state=0
            )
            rows = torch.cat([self._tree_columns(case) for case, _ in cases])
            weights = torch.cat([torch.full((len(case.gold),), weight) for case, weight in cases])
            self.trees.fit(rows.numpy(), torch.cat([case.gold for case, _ in cases]).numpy(), weights.numpy())
        self.columns = lever.used or lever.own

    def recall(self, case: Case) -> list[float]:
        """Return the recall at `KS`."""
        scores = case.own[self.lever.alone][:, 0] if self.lever.alone else self._choices(case)[0]
        if self.lever.fused:
            scores = (scores - scores.mean()) / scores.std() + self.lever.fused * case.own["bge"][:, 1]
        if self.trees is not None:
            scores = torch.from_numpy(self.trees.decision_function(self._tree_columns(case).numpy()))
        return [recall_at(scores, case.gold, k) for k in KS]

    def _choices(self, case: Case) -> tuple[Tensor, Tensor]:
        """Return the scores, as `ScoutCoefficients.score` and what the lever adds, and the shares of first choices."""
        first = self.first(self._own(case)).softmax(0)
        shares = _leading(first)
        second, third = torch.zeros_like(first), torch.zeros_like(first)
        for known in shares.nonzero()[:, 0].tolist():
            chosen = self._choice(case, [known])
            second += shares[known] * chosen
            if self.lever.third:
                for other, share in enumerate(_leading(chosen).tolist()):
                    if share:
                        third += shares[known] * share * self._choice(case, [known, other])
        found, reached = first + second / 2 + third / 3, second
        for hop in range(self.lever.hops):
            reached = torch.stack([self._choice(case, [known]) for known in range(len(first))]).T @ reached
            found += reached / (3 + hop)
        return found, shares

    def _choice(self, case: Case, known: Sequence[int]) -> Tensor:
        """Return the probability of each passage to be chosen after the known ones."""
        scores = self.later(self._after(case, known))
        return scores.index_fill(0, torch.tensor(known), -torch.inf).softmax(0)

    def _own(self, case: Case) -> Tensor:
        return torch.cat([case.own[name] for name in ("scout", *self.columns)], 1)

    def _after(self, case: Case, known: Sequence[int]) -> Tensor:
        pairs = torch.cat([case.pairs[name][list(known)] for name in ("scout", *self.lever.pairs)], -1)
        joined = {"last": pairs[-1], "max": pairs.amax(0)}.get(self.lever.third, pairs.mean(0))
        return torch.cat([self._own(case), joined], 1)

    def _later_choices(self, case: Case, weight: float) -> list[Choice]:
        """Return the choices after each supporting passage, as `training.scout_fit` does; see `Lever.fit_third`."""
        golds = case.gold.nonzero()[:, 0].tolist()
        likely = self.first(self._own(case)).double()
        sets = [[[one] for one in golds]] if len(golds) > 1 else []
        if self.lever.fit_third and len(golds) > 2:
            sets.append([[one, other] for one in golds for other in golds if one != other])
        found = []
        for some in sets:
            shares = torch.stack([likely[known].sum() for known in some]).softmax(0).tolist()
            for known, share in zip(some, shares, strict=True):
                others = torch.ones_like(case.gold)
                others[known] = False
                found.append(Choice(self._after(case, known)[others], case.gold[others], weight * share))
        return found

    def _tree_columns(self, case: Case) -> Tensor:
        score, shares = self._choices(case)
        links = torch.einsum("r,rsc->sc", shares, case.pairs["scout"].double())
        columns = [self._own(case), links, score.log()[:, None]]
        return torch.cat(columns if self.lever.trees == "score" else columns[:2], 1)

    def _learn(self, choices: Sequence[Choice]) -> Model:
        if self.lever.rank:
            return fit_quadratic(choices, self.lever.penalty, self.lever.rank)
        weight = fit_choices(choices, self.lever.penalty, STEPS).double()
        return lambda columns: columns.double() @ weight


def _leading(probabilities: Tensor) -> Tensor:
    """Return the probabilities of the `FOLLOWED` most probable passages, scaled to a sum of 1, and 0 for the others."""
    best = probabilities.topk(min(FOLLOWED, len(probabilities)))
    return torch.zeros_like(probabilities).scatter(0, best.indices, best.values / best.values.sum())


def fit_quadratic(choices: Sequence[Choice], penalty: float, rank: int) -> Model:
    """Fit w . z + sum over r of (u_r . z)(v_r . z) to choices by penalised likelihood. z are standardised columns."""
    rows = torch.cat([choice.features for choice in choices]).double()
    mean, scale = rows.mean(0), rows.std(0).clamp(min=1e-9)
    z = (rows - mean) / scale
    sizes = torch.tensor([len(choice.right) for choice in choices])
    there = torch.arange(int(sizes.max())) < sizes[:, None]
    empty = torch.full(there.shape, -torch.inf, dtype=torch.float64)
    right = torch.cat([choice.weight * choice.right.double() / choice.right.sum() for choice in choices])
    right /= right.sum()
    drawn = torch.randn(z.shape[1], 1 + 2 * rank, generator=torch.Generator().manual_seed(0))
    form = (0.05 * drawn).double().requires_grad_()
    optimizer = torch.optim.LBFGS([form], max_iter=STEPS, line_search_fn="strong_wolfe")

    def scores(z: Tensor) -> Tensor:
        linear, u, v = (z @ form).split([1, rank, rank], 1)
        return linear[:, 0] + (u * v).sum(1)

    def loss() -> Tensor:
        optimizer.zero_grad()
        log_p = empty.masked_scatter(there, scores(z)).log_softmax(1)[there]
        value = penalty * (form**2).sum() - (right * log_p).sum()
        value.backward()
        return value

    optimizer.step(loss)
    form = form.detach()
    return lambda columns: scores((columns.double() - mean) / scale)
