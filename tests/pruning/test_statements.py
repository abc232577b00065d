"""Statements: every part of an answer gets scores of its own, from the same forward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from at2_prune.ablation import ablation_outcomes
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.errors import ContextTooLongError, EmptyDraftError, InputError
from at2_prune.pruning.citations import Citations, Statement, fit_to_ablations, shares_of
from at2_prune.pruning.pruner import AT2Pruner
from at2_prune.scorers import make_scorer

from .cases import PASSAGES, QUESTION, small, with_options

ANSWER = " It is Canberra. Dr. Li left it for Perth, in the west. Nobody asked!"
SENTENCES = ["It is Canberra.", "Dr. Li left it for Perth, in the west.", "Nobody asked!"]


def pruner_of(pruner: AT2Pruner, method: str, **options: Any) -> AT2Pruner:
    return AT2Pruner(pruner.language_model, make_scorer(method), max_new_tokens=8, **options)


def spans_of(*texts: str) -> list[tuple[int, int]]:
    return [(ANSWER.index(text), ANSWER.index(text) + len(text)) for text in texts]


def cite(pruner: AT2Pruner, statements: Any = "sentence", answer: Any = ANSWER, **options: Any) -> Citations:
    return pruner.attribute(QUESTION, PASSAGES, answer, statements=statements, **options)


def test_sentences_are_statements_and_keep_their_places(tiny_pruner: AT2Pruner) -> None:
    cited = cite(tiny_pruner)
    assert [statement.text for statement in cited.statements] == SENTENCES
    assert [cited.answer[one.start : one.stop] for one in cited.statements] == SENTENCES
    assert cited.sources == [passage.text for passage in PASSAGES]
    assert cited.source_passage == [0, 1, 2, 3]
    assert (cited.method, cited.kind) == ("at2", "passage")


def test_scores_are_the_mean_attention_of_the_statements_own_rows(tiny_pruner: AT2Pruner) -> None:
    lm, scorer = tiny_pruner.language_model, tiny_pruner.scorer
    prompt = lm.encode(QUESTION, PASSAGES)
    ids = lm.encode_draft(ANSWER)
    text = "".join(lm.codec.decode([token]) for token in ids)
    ends = [len(lm.codec.decode(ids[: i + 1])) for i in range(len(ids))]
    model: Any = lm.model
    model.set_attn_implementation("eager")
    every = model(input_ids=torch.tensor([[*prompt.ids, *ids]]), output_attentions=True).attentions
    model.set_attn_implementation("at2_sdpa")
    weights = torch.stack([layer[0] for layer in every])  # (layers, heads, rows, keys)
    coefficients: HeadCoefficients = scorer.coefficients  # type: ignore[attr-defined]
    for statement, sentence in zip(cite(tiny_pruner).statements, SENTENCES, strict=True):
        start = text.index(sentence)
        rows = [len(prompt) - 1 + i for i, end in enumerate(ends) if start < end <= start + len(sentence)]
        mass = weights[:, :, rows].mean(2)  # (layers, heads, keys)
        by_source = torch.stack([mass[:, :, a:b].sum(-1) for a, b in prompt.sources], dim=-1)
        expected = torch.einsum("lh,lhs->s", coefficients.weight[0], by_source)
        assert statement.scores == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("method", ["average_attention", "contribution", "gradient_x_input", "leave_one_out"])
def test_one_statement_that_is_the_whole_answer_has_the_answers_scores(tiny_pruner: AT2Pruner, method: str) -> None:
    pruner = pruner_of(tiny_pruner, method)
    whole = cite(pruner, [(0, len(ANSWER))])
    assert whole.statements[0].scores == pytest.approx(pruner.score(QUESTION, PASSAGES, ANSWER), abs=1e-5)


def test_gradients_of_the_statements_sum_to_the_answers(tiny_pruner: AT2Pruner) -> None:
    pruner = pruner_of(tiny_pruner, "gradient_x_input")
    each = torch.tensor([statement.scores for statement in cite(pruner).statements])
    assert each.sum(0).tolist() == pytest.approx(pruner.score(QUESTION, PASSAGES, ANSWER), abs=1e-4)


def test_ablations_are_of_the_statement_and_run_once_for_all(
    tiny_pruner: AT2Pruner, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(*arguments: Any, **options: Any) -> torch.Tensor:
        calls.append(len(arguments[3]))
        return ablation_outcomes(*arguments, **options)

    monkeypatch.setattr("at2_prune.pruning.statements.ablation_outcomes", counted)
    cited = cite(pruner_of(tiny_pruner, "leave_one_out"))
    assert calls == [1 + len(PASSAGES)]
    lm = tiny_pruner.language_model
    prompt, ids = lm.encode(QUESTION, PASSAGES), lm.encode_draft(ANSWER)
    second = slice(len(lm.encode_draft(SENTENCES[0])), -len(lm.encode_draft(" " + SENTENCES[2])))
    masks = torch.cat([torch.ones(1, 4, dtype=torch.bool), ~torch.eye(4, dtype=torch.bool)])
    outcomes = ablation_outcomes(lm, prompt, ids, masks, [(second.start, len(ids) + second.stop)])[:, 0]
    assert cited.statements[1].scores == pytest.approx((outcomes[0] - outcomes[1:]).tolist(), abs=1e-6)


@pytest.mark.parametrize("sentences", [1, 40])
def test_one_pass_reads_a_long_answer_however_many_statements_it_has(
    tiny_pruner: AT2Pruner, calls: dict[str, int], sentences: int
) -> None:
    answer = " ".join(["It is a city of some size in the west of the land."] * sentences)
    passes = []
    body: Any = tiny_pruner.language_model.model.get_decoder()
    hook = body.register_forward_pre_hook(
        lambda module, args, kwargs: passes.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    try:
        assert len(cite(tiny_pruner, answer=answer).statements) == sentences
    finally:
        hook.remove()
    tokens = len(tiny_pruner.encode(QUESTION, PASSAGES)) + len(tiny_pruner.language_model.encode_draft(answer))
    assert passes == [(1, tokens - 1)]
    assert calls == {"generate": 0, "read": 1}


def test_an_answer_that_the_model_wrote_takes_no_pass_of_its_own(tiny_pruner: AT2Pruner, calls: dict[str, int]) -> None:
    draft = tiny_pruner.draft(QUESTION, PASSAGES)
    cited = cite(tiny_pruner, answer=draft)
    assert calls == {"generate": 1, "read": 0}
    assert cite(tiny_pruner, answer=None).statements == cited.statements
    assert calls == {"generate": 2, "read": 0}
    whole = cite(tiny_pruner, [(0, len(draft.text))], draft)
    assert whole.statements[0].scores == pytest.approx(tiny_pruner.score(QUESTION, PASSAGES, draft), abs=1e-6)


def test_windows_give_each_statement_a_score_for_every_source(tiny_pruner: AT2Pruner) -> None:
    pruner = small(tiny_pruner, 700)
    many = PASSAGES * 6
    cited = pruner.attribute(QUESTION, many, ANSWER, statements="sentence")
    assert [len(one.scores) for one in cited.statements] == [len(many)] * 3
    whole = pruner.attribute(QUESTION, many, ANSWER, statements=[(0, len(ANSWER))])
    assert whole.statements[0].scores == pytest.approx(pruner.score(QUESTION, many, ANSWER), abs=1e-6)


def test_sources_may_be_sentences(tiny_pruner: AT2Pruner) -> None:
    cited = cite(with_options(tiny_pruner, granularity="sentence"))
    assert cited.kind == "sentence"
    assert len(cited.sources) == len(cited.statements[0].scores) == 7
    assert cited.source_passage == [0, 0, 1, 2, 3, 3, 3]


def test_scores_are_fitted_to_ablations_of_each_statement(tiny_pruner: AT2Pruner) -> None:
    cited = cite(tiny_pruner, ablations=9)
    for statement in cited.statements:
        assert statement.fit is not None
        assert statement.fit.ablations == 9
        assert -1 <= statement.fit.correlation <= 1
    assert cited.statements[0].scores == cite(tiny_pruner).statements[0].scores


def test_the_fit_is_a_least_squares_fit() -> None:
    masks = [[True, True, True], [True, False, True], [False, True, False], [False, False, True]]
    scores, outcomes = [1.0, 2.0, -1.0], [5.0, 1.0, 3.5, -2.0]
    found = fit_to_ablations(scores, masks, outcomes)
    kept = torch.tensor(masks).double() @ torch.tensor(scores).double()
    design = torch.stack([kept, torch.ones(4, dtype=torch.float64)], dim=1)
    slope = torch.linalg.lstsq(design, torch.tensor(outcomes).double()[:, None]).solution[0, 0].item()
    assert found.effects == pytest.approx([slope * score for score in scores])
    expected = torch.corrcoef(torch.stack([kept, torch.tensor(outcomes).double()]))[0, 1].item()
    assert found.correlation == pytest.approx(expected)
    opposite = fit_to_ablations(scores, masks, [-y for y in outcomes])
    assert opposite.effects == [0.0, 0.0, 0.0]
    assert opposite.correlation == pytest.approx(-expected)
    assert fit_to_ablations(scores, masks, [1.0] * 4).correlation == 0.0


def test_shares_and_cited_sources() -> None:
    assert shares_of([0.0, -1.0]) == [0.0, 0.0]
    statement = Statement("x", 0, 1, [0.1, 0.5, -3.0, 0.4])
    assert statement.shares == pytest.approx([0.1, 0.5, 0.0, 0.4])
    assert statement.cited() == [1, 3]
    assert statement.cited(min_share=0.05) == [1, 3, 0]
    assert statement.cited(most=1) == [1]
    assert Statement("x", 0, 1, [-1.0, -2.0]).cited() == []


def test_numbers_count_cited_sources_in_the_order_of_the_answer() -> None:
    statements = [Statement("a", 0, 1, [0.0, 0.0, 1.0]), Statement("b", 1, 2, [1.0, 0.0, 0.9])]
    cited = Citations("?", list(PASSAGES[:3]), "ab", ["x", "y", "z"], [0, 1, 2], statements, "at2")
    assert cited.numbers == {2: 1, 0: 2}
    row = cited.to_dict()
    assert [one["number"] for one in row["sources"]] == [2, None, 1]
    assert [one["number"] for one in row["statements"][1]["citations"]] == [2, 1]


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        ([], "at least one span"),
        ("word", "must be 'sentence' or a list of spans"),
        ([(0, 500)], "statement 0 spans characters 0 to 500, but the answer has 69 characters"),
        ([(-1, 5)], "statement 0 spans characters -1 to 5"),
        ([(5, 5)], "statement 0 spans characters 5 to 5"),
        ([(0, 10), (9, 20)], "statement 1 begins at character 9, but the statement before it ends"),
        ([(20, 30), (0, 10)], "statement 1 begins at character 0"),
        ([(0, 1)], "statement 0 .' '. holds no token"),
        ([(0, "5")], "statement 0 must be a span of integers"),
        ([(0, 1, 2)], "statement 0 must be a span .start, stop."),
        (["It"], "statement 0 must be a span .start, stop."),
    ],
)
def test_statements_that_cannot_be_used(tiny_pruner: AT2Pruner, statements: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        cite(tiny_pruner, statements)


def test_other_bad_input(tiny_pruner: AT2Pruner) -> None:
    for answer in ("", " \n"):
        with pytest.raises(EmptyDraftError, match="the answer is empty"):
            cite(tiny_pruner, answer=answer)
    for method in ("bm25", "random"):
        with pytest.raises(InputError, match=f"the method {method} reads no answer.*method='at2'"):
            cite(pruner_of(tiny_pruner, method))
    for ablations in (-1, 2, True, 1.5):
        with pytest.raises(InputError, match="ablations must be 0, or at least 3"):
            cite(tiny_pruner, ablations=ablations)
    with pytest.raises(InputError, match="ablations are for statements"):
        tiny_pruner.attribute(QUESTION, PASSAGES, ANSWER, ablations=8)  # type: ignore[call-overload]
    with pytest.raises(InputError, match="a draft must be a text"):
        cite(tiny_pruner, answer=5)
    with pytest.raises(InputError, match="written for another question"):
        tiny_pruner.attribute("Else?", PASSAGES, tiny_pruner.draft(QUESTION, PASSAGES), statements="sentence")


@pytest.mark.parametrize("overflow", ["windows", "error"])
def test_an_answer_longer_than_the_context(tiny_pruner: AT2Pruner, overflow: str) -> None:
    pruner = small(tiny_pruner, 450, overflow=overflow)
    with pytest.raises(ContextTooLongError, match=r"the answer takes \d+ tokens and the question"):
        cite(pruner, answer="It is a city in the west. " * 100)


def test_a_span_inside_a_token_is_part_of_no_statement(tiny_pruner: AT2Pruner) -> None:
    lm = tiny_pruner.language_model
    ids, offsets = lm.encode_answer(ANSWER)
    start, stop = next(span for span in offsets if span[1] - span[0] > 2)
    with pytest.raises(InputError, match="holds no token"):
        cite(tiny_pruner, [(start, stop - 1)])
    assert len(cite(tiny_pruner, spans_of("Perth")).statements) == 1
    assert len(ids) == len(offsets)
