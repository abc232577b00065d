"""HETA: attention flow times second-order sensitivity and loss of information (Pramanik et al. 2026, arXiv 2604.13258).

The paper scores single tokens for a single target token. Here, a source is a block :math:`S` of tokens, and the target
is the draft. The score of a block is equation 5 of the paper:

.. math:: M(S) \\, (\\beta\\, H(S) + \\gamma\\, I(S)), \\qquad \\beta = \\gamma = 1/2

- The semantic transition :math:`M` follows attention to the rows that predict the draft (section 4, M_T):
  :math:`M_j \\propto \\sum_{l,h} \\Phi^{(l,h)}_j \\lVert v^{(l,h)}_j W^{(l,h)}_O \\rVert_1`. The rollout of head
  :math:`h` up to layer :math:`l` is the matrix :math:`\\prod_{l' \\le l} (A^{(l',h)} + 1)/2`, where 1 is the identity
  matrix. :math:`\\Phi^{(l,h)}` is the mean of the rows of this matrix that predict the draft.
  :math:`M` is normalised over the prompt's tokens, and :math:`M(S)` is the sum over the block.
- The sensitivity is :math:`H(S) = \\frac1m \\sum_k \\lVert \\Pi_S \\nabla^2 \\log p(draft)\\, \\Pi_S r_k \\rVert_1`
  (equations 2 and 3). The :math:`r_k` are random signs, and :math:`\\Pi_S` sets all embeddings outside the block to
  zero.
- The information is :math:`I(S) = D_{KL}(p \\Vert p_S)` (equation 4), summed over the tokens of the draft. The model
  predicts :math:`p_S` with the embeddings of the block set to zero.

When this module was written, the full text of the paper was not available. The equations were taken from the code of
the paper's authors and from summaries of the paper. The summaries do not define :math:`\\Phi`, so its definition
follows the code. The scores are never negative.
"""

from __future__ import annotations

import torch

from ..ablation import seeded_generator
from ..attention.flow import LayerFlow, read_flow
from ..errors import InputError, ModelNotSupportedError
from ..models.compatibility import output_projection
from .base import Scorer, ScorerOptions, Task
from .target import differentiable, draft_logits, embeddings_of, log_probability

__all__ = ["HetaScorer"]


class HetaScorer(Scorer):
    """Scores sources by HETA. The method is slow and meant for single questions.

    HETA takes the time of about 8 forward passes for each source. One forward pass reads the flow. The sensitivity
    takes one forward pass and one backward pass. For each source and probe, the backward pass is differentiated once
    more (a Hessian-vector product). The information takes one forward pass with all sources, and one more pass for each
    source. Memory grows with layers x heads x tokens x tokens.

    Args:
        probes: the number of random sign vectors m. One probe is usually enough. The norm is a sum over many tokens of
            the block, so it changes little from one probe to another.
        beta: the weight of the sensitivity.
        gamma: the weight of the information.
        seed: the seed of the probes. The probes also depend on the question's text.

    Raises:
        InputError: there is no probe.
    """

    name = "heta"
    uses_draft = True

    def __init__(self, probes: int = 1, beta: float = 0.5, gamma: float = 0.5, seed: int = 0) -> None:
        if probes < 1:
            raise InputError(f"probes must be at least 1, got {probes}")
        self.probes = probes
        self.beta = beta
        self.gamma = gamma
        self.seed = seed

    @classmethod
    def create(cls, name: str, options: ScorerOptions, **settings: object) -> HetaScorer:
        return cls(**settings, seed=options.seed)  # type: ignore[arg-type]

    def score(self, task: Task) -> torch.Tensor:
        task.need_draft()
        flow, sensitivity, information = self.parts(task)
        return flow * (self.beta * sensitivity + self.gamma * information)

    def parts(self, task: Task) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return flow, sensitivity and information, each `(sources,)` float32."""
        return self.flow(task), self.sensitivity(task), self.information(task)

    def flow(self, task: Task) -> torch.Tensor:
        """Return the semantic transition M of each source, `(sources,)`."""
        with torch.no_grad(), read_flow(task.language_model.model) as layers:
            draft_logits(task, embeddings_of(task))
        first = len(task.prompt) - 1
        by_token = _transition(layers, slice(first, first + len(task.draft.ids)))[: len(task.prompt)]
        by_token = by_token / by_token.sum().clamp(min=1e-12)
        return torch.stack([by_token[start:stop].sum() for start, stop in task.prompt.sources]).cpu()

    def sensitivity(self, task: Task) -> torch.Tensor:
        """Return the sensitivity H of each source, `(sources,)`."""
        generator = seeded_generator(self.seed, f"heta {task.question}")
        found = []
        with differentiable():
            embeddings = embeddings_of(task).requires_grad_()
            log_p = log_probability(task, draft_logits(task, embeddings))
            (gradient,) = torch.autograd.grad(log_p, embeddings, create_graph=True)
            for start, stop in task.prompt.sources:
                norms = []
                for _ in range(self.probes if stop > start else 0):
                    signs = torch.randint(0, 2, (stop - start, embeddings.shape[-1]), generator=generator) * 2 - 1
                    signs = signs.to(gradient)
                    (product,) = torch.autograd.grad(
                        (gradient[0, start:stop] * signs).sum(), embeddings, retain_graph=True
                    )
                    norms.append(float(product[0, start:stop].float().abs().sum()))
                found.append(sum(norms) / max(1, len(norms)))
        return torch.tensor(found)

    def information(self, task: Task) -> torch.Tensor:
        """Return the information I of each source, `(sources,)`."""
        embeddings, found = embeddings_of(task), []
        with torch.no_grad():
            original = draft_logits(task, embeddings).log_softmax(-1)
            for start, stop in task.prompt.sources:
                masked = embeddings.clone()
                masked[0, start:stop] = 0
                without = draft_logits(task, masked).log_softmax(-1)
                found.append(float((original.exp() * (original - without)).sum()) if stop > start else 0.0)
        return torch.tensor(found)


def _transition(layers: list[LayerFlow], rows: slice) -> torch.Tensor:
    """Return the flow from each token to the given rows, `(tokens,)`.

    Raises:
        ModelNotSupportedError: the layers have different numbers of heads, so no head can be followed through the
            layers.
    """
    if len({len(layer.weights) for layer in layers}) != 1:
        raise ModelNotSupportedError(
            "heta needs the same number of heads in every layer, which this model does not have: use another method"
        )
    heads, _, tokens = layers[0].weights.shape
    reached = torch.zeros(len(layers), heads, tokens, device=layers[0].weights.device)
    start = torch.zeros(heads, 1, tokens, device=reached.device)
    start[:, :, rows] = 1 / (rows.stop - rows.start)
    # The loop goes from the last layer to the first. At each layer, it appends the vector `start` of each head to
    # `paths`. It then multiplies all vectors in `paths` by the matrix of this layer, (A + 1)/2. After the loop, the
    # vector that was appended at a layer is Phi of this layer.
    paths = torch.zeros(heads, 0, tokens, device=reached.device)
    for layer in reversed(layers):
        paths = torch.cat([paths, start], dim=1)
        paths = (paths + paths @ layer.weights) / 2
    for place, layer in enumerate(reversed(layers)):
        reached[len(layers) - 1 - place] = paths[:, place] * _norms(layer)
    return reached.sum((0, 1))


def _norms(layer: LayerFlow) -> torch.Tensor:
    """Return the L1 norm of each token's value vector in each head, after the output projection, `(heads, tokens)`."""
    heads, tokens, width = layer.values.shape
    project = output_projection(layer.module)
    norms = []
    with torch.no_grad():
        bias = project(torch.zeros(1, heads * width, dtype=layer.values.dtype, device=layer.values.device))
        for head in range(heads):
            joined = torch.zeros(tokens, heads, width, dtype=layer.values.dtype, device=layer.values.device)
            joined[:, head] = layer.values[head]
            norms.append((project(joined.flatten(1)) - bias).float().abs().sum(-1))
    return torch.stack(norms)
