"""HETA and CA-LIG, checked against computations that share no code with them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from at2_prune.ablation import seeded_generator
from at2_prune.errors import EmptyDraftError, InputError
from at2_prune.models.drafts import Draft, read_drafts
from at2_prune.models.language_model import LanguageModel
from at2_prune.passages import Passage
from at2_prune.pruning.pruner import AT2Pruner
from at2_prune.scorers import CaLigScorer, HetaScorer, Task

PASSAGES = [
    Passage("Canberra is the capital.", title="Canberra"),
    Passage("Sydney is larger."),
    Passage("Dr. Li left."),
]
QUESTION = "Which city?"


@pytest.fixture(params=["llama", "gemma"])
def task(request: pytest.FixtureRequest, tiny_lm: LanguageModel, scorer_lm: LanguageModel) -> Task:
    """A draft after a short prompt. The norms of both models compute in float32, whatever their weights are."""
    found = tiny_lm if request.param == "llama" else scorer_lm
    lm = LanguageModel(copy.deepcopy(found.model).double(), found.tokenizer, found.template, name="double")
    prompt = lm.encode(QUESTION, PASSAGES)
    return Task(lm, QUESTION, PASSAGES, prompt, read_drafts(lm, [prompt], ["It is Canberra"], [])[0])


def embed(task: Task) -> torch.Tensor:
    ids = torch.tensor([[*task.prompt.ids, *task.draft.ids[:-1]]])
    return task.language_model.model.get_input_embeddings()(ids).detach()


def rows(task: Task, embeddings: torch.Tensor) -> torch.Tensor:
    """The log-probabilities of all tokens in the rows that predict the draft."""
    logits = task.language_model.model(inputs_embeds=embeddings, use_cache=False).logits[0]
    return logits[len(task.prompt) - 1 :].log_softmax(-1)


def log_p(task: Task, embeddings: torch.Tensor) -> torch.Tensor:
    return sum(row[token] for row, token in zip(rows(task, embeddings), task.draft.ids, strict=True))  # type: ignore


def eager(task: Task, embeddings: torch.Tensor) -> Any:
    model: Any = copy.deepcopy(task.language_model.model)
    model.set_attn_implementation("eager")
    return model(inputs_embeds=embeddings, output_attentions=True, output_hidden_states=True, use_cache=False)


def sums(task: Task, by_token: torch.Tensor) -> torch.Tensor:
    return torch.stack([by_token[start:stop].sum() for start, stop in task.prompt.sources])


def test_hetas_flow_is_the_rollout_of_each_head_times_the_norms_of_its_values(task: Task) -> None:
    model: Any = task.language_model.model
    with torch.no_grad():
        output = eager(task, embed(task))
    config, first = model.config, len(task.prompt) - 1
    width, shared = model.model.layers[0].self_attn.head_dim, config.num_attention_heads // config.num_key_value_heads
    total = torch.zeros(len(task.prompt) + len(task.draft.ids) - 1, dtype=torch.float64)
    for head in range(config.num_attention_heads):
        rollout = torch.eye(len(total), dtype=torch.float64)
        for index, layer in enumerate(model.model.layers):
            weights = output.attentions[index][0, head].double()
            rollout = (0.5 * weights + 0.5 * torch.eye(len(total), dtype=torch.float64)) @ rollout
            hidden = layer.input_layernorm(output.hidden_states[index][0])
            own = slice((head // shared) * width, (head // shared + 1) * width)
            values = hidden @ layer.self_attn.v_proj.weight[own].T
            projected = values @ layer.self_attn.o_proj.weight[:, head * width : (head + 1) * width].T
            total += rollout[first:].mean(0) * projected.abs().sum(-1).detach()
    before = total[: len(task.prompt)]
    torch.testing.assert_close(
        HetaScorer().flow(task).double(), sums(task, before / before.sum()), atol=1e-6, rtol=1e-5
    )


def test_hetas_sensitivity_by_finite_differences_of_the_gradient(task: Task) -> None:
    scorer = HetaScorer(probes=2)
    generator = seeded_generator(0, f"heta {QUESTION}")
    embeddings, step, expected = embed(task), 1e-3, []
    for start, stop in task.prompt.sources:
        norms = []
        for _ in range(2):
            signs = torch.randint(0, 2, (stop - start, embeddings.shape[-1]), generator=generator) * 2 - 1
            gradients = []
            for sign in (1, -1):
                moved = embeddings.clone()
                moved[0, start:stop] += sign * step * signs
                moved.requires_grad_()
                gradients.append(torch.autograd.grad(log_p(task, moved), moved)[0][0, start:stop])
            norms.append(((gradients[0] - gradients[1]) / (2 * step)).abs().sum())
        expected.append(torch.stack(norms).mean())
    torch.testing.assert_close(scorer.sensitivity(task).double(), torch.stack(expected), rtol=2e-2, atol=1e-3)


def test_hetas_information_is_the_divergence_without_the_sources_embeddings(task: Task) -> None:
    embeddings, expected = embed(task), []
    with torch.no_grad():
        full = rows(task, embeddings)
        for start, stop in task.prompt.sources:
            masked = embeddings.clone()
            masked[0, start:stop] = 0
            expected.append(torch.nn.functional.kl_div(rows(task, masked), full, reduction="sum", log_target=True))
    torch.testing.assert_close(HetaScorer().information(task).double(), torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_hetas_score_is_equation_5(task: Task) -> None:
    scorer = HetaScorer(beta=0.25, gamma=2.0)
    flow, sensitivity, information = scorer.parts(task)
    with torch.inference_mode():  # as an evaluation may run it
        scores = scorer.score(task)
    torch.testing.assert_close(scores, flow * (0.25 * sensitivity + 2.0 * information))
    assert bool((scores >= 0).all())


def test_ca_ligs_attention_gradients_are_those_of_eager_attention(task: Task) -> None:
    output = eager(task, embed(task).requires_grad_())
    target = output.logits[0, len(task.prompt) - 1 :].log_softmax(-1)
    value = sum(row[token] for row, token in zip(target, task.draft.ids, strict=True))
    gradients = torch.autograd.grad(value, output.attentions)
    expected = torch.stack(
        [(a * g.clamp(min=0))[0].sum((0, 1)) for a, g in zip(output.attentions, gradients, strict=True)]
    )
    found = CaLigScorer().attention_gradients(task)
    torch.testing.assert_close(found.double(), expected.detach().double(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layer", [0, 1])
def test_ca_ligs_integrated_gradients_by_finite_differences(task: Task, layer: int) -> None:
    """The derivative along one token's scale, at each step of the path, with the layer's input set by hand."""
    model: Any = task.language_model.model
    with torch.no_grad():
        hidden = eager(task, embed(task)).hidden_states[layer]

    def value(scaled: torch.Tensor) -> float:
        def put(module: Any, args: Any) -> Any:
            return (scaled, *args[1:])

        hook = model.model.layers[layer].register_forward_pre_hook(put)
        try:
            with torch.no_grad():
                return float(log_p(task, embed(task)))
        finally:
            hook.remove()

    steps, small = 3, 1e-2
    tokens = [0, task.prompt.sources[0][0] + 1, task.prompt.sources[-1][1] - 1, hidden.shape[1] - 1]
    expected = []
    for token in tokens:
        slopes = []
        for step in range(steps):
            path = (step + 0.5) / steps * hidden
            up, down = path.clone(), path.clone()
            up[0, token] += small * hidden[0, token]
            down[0, token] -= small * hidden[0, token]
            slopes.append((value(up) - value(down)) / (2 * small))
        expected.append(sum(slopes) / steps)
    found = CaLigScorer(steps=steps).integrated_gradients(task, layer)[tokens]
    assert found.tolist() == pytest.approx(expected, rel=1e-2, abs=5e-4)


def test_ca_ligs_score_fuses_both_maps(task: Task) -> None:
    scorer = CaLigScorer(steps=2, every=2)
    with torch.inference_mode():
        scores = scorer.score(task)
    attention = scorer.attention_gradients(task)
    fused = [
        scorer.integrated_gradients(task, layer) * attention[layer] / attention[layer].sum()
        for layer in range(0, len(attention), 2)
    ]
    torch.testing.assert_close(scores, sums(task, torch.stack(fused).mean(0)), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("scorer", [HetaScorer(), CaLigScorer()])
def test_audits_need_a_draft_and_serve_statements(tiny_lm: LanguageModel, scorer: Any) -> None:
    prompt = tiny_lm.encode(QUESTION, PASSAGES)
    with pytest.raises(EmptyDraftError):
        scorer.score(Task(tiny_lm, QUESTION, PASSAGES, prompt, Draft("", [])))
    pruner = AT2Pruner(tiny_lm, scorer)
    whole = pruner.attribute(QUESTION, PASSAGES, "It is Canberra", statements=[(0, 14)])
    assert whole.statements[0].scores == pytest.approx(pruner.score(QUESTION, PASSAGES, "It is Canberra"), rel=1e-4)


def test_settings_that_cannot_be_used() -> None:
    with pytest.raises(InputError, match="probes must be at least 1, got 0"):
        HetaScorer(probes=0)
    with pytest.raises(InputError, match="steps and every must be at least 1, got 0 and 1"):
        CaLigScorer(steps=0)
