"""CA-LIG: integrated gradients of every layer, fused with attention gradients.

The method is by Mersha and Kalita (2026, arXiv 2602.16608). When this module was written, only the abstract of their
paper was available. According to the abstract, integrated gradients are computed within each layer and fused with
class-specific attention gradients, and the resulting maps are signed. The formulas below fill in the details.

Let :math:`p` be the probability of the draft. Let :math:`x` be the input of a layer :math:`l` (tokens x width). Let
:math:`f_l(x)` be the draft's log-probability if layer :math:`l` and all later layers run on :math:`x`.

- The integrated gradients of the layer (Sundararajan et al. 2017, arXiv 1703.01365, equation 1) have the baseline 0.
  The midpoint rule with :math:`m` steps approximates the integral:
  :math:`IG_{l,j} = x_j \\cdot \\frac1m \\sum_{k=1}^m \\nabla_{x_j} f_l(\\frac{k - 1/2}{m} x)` for the token
  :math:`j`.
- The attention gradients of the layer follow Chefer et al. (2021, arXiv 2012.09838), but use attention weights where
  that paper uses relevances:
  :math:`G_{l,j} = \\sum_{h,t} A^{(l,h)}_{tj} \\max(0, \\partial \\log p / \\partial A^{(l,h)}_{tj})`, where
  :math:`A^{(l,h)}_{tj}` is the attention weight of head :math:`h` from row :math:`t` to token :math:`j`.
- The fused map of a token is :math:`R_j = \\frac1N \\sum_l IG_{l,j}\\, G_{l,j} / \\sum_i G_{l,i}`, where :math:`N` is
  the number of layers in the sum. :math:`G` is never negative, so the signs come from the integrated gradients. The
  score of a source is the sum of :math:`R_j` over the tokens of the source.

The gradient of an attention weight is :math:`(\\partial \\log p / \\partial o_t) \\cdot v_j`, where :math:`o_t` is
the output of the head at row :math:`t`, and :math:`v_j` is the value of token :math:`j`. So no gradient has to flow
through the attention weights. `read_flow` reads the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..attention.flow import read_flow
from ..errors import InputError, ModelNotSupportedError
from ..models.compatibility import output_projection
from .base import Scorer, Task
from .target import differentiable, draft_logits, embeddings_of, log_probability

__all__ = ["CaLigScorer"]


class CaLigScorer(Scorer):
    """Scores sources by CA-LIG. The method is slow and meant for single questions.

    CA-LIG takes `steps` forward passes and `steps` backward passes for each integrated layer. The attention gradients
    take one more forward pass and one more backward pass.

    Args:
        steps: the number of steps with which the integral is approximated.
        every: the distance between the layers that are integrated. With 1, all layers are integrated.

    Raises:
        InputError: `steps` or `every` is below 1.
    """

    name = "ca_lig"
    uses_draft = True

    def __init__(self, steps: int = 4, every: int = 1) -> None:
        if steps < 1 or every < 1:
            raise InputError(f"steps and every must be at least 1, got {steps} and {every}")
        self.steps = steps
        self.every = every

    def score(self, task: Task) -> torch.Tensor:
        task.need_draft()
        layers = _layers(task)
        chosen = range(0, len(layers), self.every)
        attention = self.attention_gradients(task)
        by_token = torch.zeros(len(task.prompt) + len(task.draft.ids) - 1)
        for layer in chosen:
            weights = attention[layer] / attention[layer].sum().clamp(min=1e-12)
            by_token += self.integrated_gradients(task, layer) * weights / len(chosen)
        return torch.stack([by_token[start:stop].sum() for start, stop in task.prompt.sources])

    def attention_gradients(self, task: Task) -> torch.Tensor:
        """Return the attention gradients of every token in every layer, `(layers, tokens)` float32."""
        outputs: list[torch.Tensor] = []
        with differentiable(), read_flow(task.language_model.model) as flow, _head_outputs(task, outputs):
            embeddings = embeddings_of(task).requires_grad_()
            log_p = log_probability(task, draft_logits(task, embeddings))
            gradients = torch.autograd.grad(log_p, outputs)
        if len(outputs) != len(flow):
            raise ModelNotSupportedError(
                f"{len(outputs)} of {len(flow)} attention layers of {task.language_model.name} have an output "
                "projection that ca_lig knows; use another method"
            )
        rows = []
        for layer, gradient in zip(flow, gradients, strict=True):
            heads, tokens, width = layer.values.shape
            own = gradient[0].reshape(tokens, heads, width).transpose(0, 1)
            slopes = (own @ layer.values.transpose(1, 2)).float().clamp(min=0)  # (heads, rows, keys)
            rows.append((layer.weights * slopes).sum((0, 1)).cpu())
        return torch.stack(rows)

    def integrated_gradients(self, task: Task, layer: int) -> torch.Tensor:
        """Return the integrated gradients of a layer's input, summed over the width, `(tokens,)` float32."""
        module = _layers(task)[layer]
        total = torch.zeros(len(task.prompt) + len(task.draft.ids) - 1)
        for step in range(self.steps):
            kept: list[torch.Tensor] = []
            hook = module.register_forward_pre_hook(_scaled((step + 0.5) / self.steps, kept), with_kwargs=True)
            try:
                with differentiable():
                    log_p = log_probability(task, draft_logits(task, embeddings_of(task)))
                    (gradient,) = torch.autograd.grad(log_p, kept[1])
            finally:
                hook.remove()
            total += (gradient.float() * kept[0].float()).sum(-1)[0].cpu() / self.steps
        return total


def _layers(task: Task) -> list[torch.nn.Module]:
    """Return the layers of the model, from the first to the last.

    Raises:
        ModelNotSupportedError: the model has no list of layers.
    """
    layers = getattr(task.language_model.model.get_decoder(), "layers", None)
    if not isinstance(layers, torch.nn.ModuleList):
        raise ModelNotSupportedError(
            f"{task.language_model.name} has no list of layers that ca_lig knows; use another method"
        )
    return list(layers)


def _scaled(part: float, kept: list[torch.Tensor]) -> Any:
    """Return a hook that scales a layer's input, and stores the input and the scaled input in `kept`."""

    def scale(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        hidden = args[0] if args else kwargs["hidden_states"]
        kept[:] = hidden.detach(), (part * hidden.detach()).requires_grad_()
        return ((kept[1], *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": kept[1]})

    return scale


@contextmanager
def _head_outputs(task: Task, outputs: list[torch.Tensor]) -> Iterator[None]:
    """Append the joined outputs of each layer's heads, before the output projection, to `outputs`."""
    hooks = []
    for module in task.language_model.model.get_decoder().modules():
        if getattr(module, "layer_idx", None) is not None and hasattr(module, "is_causal"):
            project = output_projection(module)
            hooks.append(project.register_forward_pre_hook(lambda module, args: outputs.append(args[0])))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
