from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("langchain_core")

from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tracers import BaseTracer
from langchain_core.tracers.schemas import Run

from at2_prune import AT2Pruner, Question
from at2_prune.errors import InputError
from at2_prune.scorers import make_scorer
from langchain_at2_prune import AT2DocumentCompressor, create_prune_chain


class Runs(BaseTracer):
    """Records every run."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[Run] = []
        self.parents: dict[str, list[str]] = {}

    def _persist_run(self, run: Run) -> None:
        self._add(run, [])

    def _add(self, run: Run, above: list[str]) -> None:
        self.runs.append(run)
        self.parents.setdefault(run.name, above)
        for child in run.child_runs:
            self._add(child, [*above, run.name])

    def count(self, name: str) -> int:
        return sum(run.name == name for run in self.runs)


@pytest.fixture
def values(question: Question) -> dict[str, Any]:
    documents = [Document(p.text, id=str(i), metadata={"title": p.title}) for i, p in enumerate(question.passages)]
    return {"question": question.text, "documents": documents, "user": "u-1"}


@pytest.fixture
def chain(tiny_pruner: AT2Pruner) -> Runnable:
    llm = FakeListChatModel(responses=["the river Meuse", "Meuse it is"])
    return create_prune_chain(llm, AT2DocumentCompressor(pruner=tiny_pruner))


def test_draft_prune_answer(
    chain: Runnable, values: dict[str, Any], tiny_pruner: AT2Pruner, question: Question
) -> None:
    output = chain.invoke(values)
    scores = tiny_pruner.score(question.text, question.passages, "the river Meuse")
    best = sorted(sorted(range(10), key=lambda i: -scores[i])[:3])
    assert output["draft"] == "the river Meuse"
    assert output["answer"] == "Meuse it is"
    assert output["scores"] == pytest.approx(scores)
    assert [document.id for document in output["kept"]] == [str(i) for i in best]
    assert [item["index"] for item in output["dropped"]] == [i for i in range(10) if i not in best]
    assert "the top 3 are kept" in output["dropped"][0]["reason"]
    assert (output["question"], output["documents"], output["user"]) == tuple(values.values())


def test_async_is_the_same(chain: Runnable, values: dict[str, Any]) -> None:
    assert asyncio.run(chain.ainvoke(values)) == chain.invoke(values)


def test_the_answer_streams(chain: Runnable, values: dict[str, Any]) -> None:
    chunks = list(chain.stream(values))
    pieces = [chunk["answer"] for chunk in chunks if "answer" in chunk]
    assert len(pieces) > 5
    assert "".join(pieces) == "Meuse it is"
    first = next(i for i, chunk in enumerate(chunks) if "answer" in chunk)
    assert {"draft", "kept", "scores", "dropped"} <= {key for chunk in chunks[:first] for key in chunk}

    async def collect() -> list[str]:
        return [chunk["answer"] async for chunk in chain.astream(values) if "answer" in chunk]

    assert asyncio.run(collect()) == pieces


def test_every_step_is_a_run(chain: Runnable, values: dict[str, Any]) -> None:
    runs = Runs()
    chain.invoke(values, {"callbacks": [runs]})
    assert runs.runs[0].name == "at2_prune"
    assert [runs.count(name) for name in ("draft", "prune", "answer")] == [1, 1, 1]
    models = [run for run in runs.runs if run.name == "FakeListChatModel"]
    assert len(models) == 2
    assert "draft" in runs.parents["FakeListChatModel"]
    prune = next(run for run in runs.runs if run.name == "prune")
    assert prune.outputs is not None
    assert prune.outputs["draft"] == "the river Meuse"
    asynchronous = Runs()
    asyncio.run(chain.ainvoke(values, {"callbacks": [asynchronous]}))
    assert sorted(run.name for run in asynchronous.runs) == sorted(run.name for run in runs.runs)


def test_langchain_can_describe_the_chain(chain: Runnable) -> None:
    names = {node.name for node in chain.get_graph().nodes.values()}
    assert {"prune", "kept documents", "FakeListChatModel"} <= names
    assert chain.get_input_jsonschema()["type"] == "object"


def test_the_scoring_model_can_draft(tiny_pruner: AT2Pruner, values: dict[str, Any], question: Question) -> None:
    llm = FakeListChatModel(responses=["Meuse"])
    chain = create_prune_chain(llm, AT2DocumentCompressor(pruner=tiny_pruner), own_draft=True)
    runs = Runs()
    output = chain.invoke(values, {"callbacks": [runs]})
    result = tiny_pruner.answer(question.text, question.passages)
    assert (output["draft"], output["answer"]) == (result.draft, "Meuse")
    assert [int(document.id) for document in output["kept"]] == result.kept
    assert runs.count("FakeListChatModel") == 1
    assert asyncio.run(chain.ainvoke(values)) == output


def test_another_model_can_draft(tiny_pruner: AT2Pruner, values: dict[str, Any]) -> None:
    drafter = RunnableLambda(lambda asked: f"{len(asked['context'])} documents")
    compressor = AT2DocumentCompressor(pruner=tiny_pruner, draft_llm=drafter)
    output = create_prune_chain(FakeListChatModel(responses=["Meuse"]), compressor).invoke(values)
    assert (output["draft"], output["answer"]) == ("10 documents", "Meuse")


def test_a_chain_of_the_users_can_answer(tiny_pruner: AT2Pruner, values: dict[str, Any]) -> None:
    own = RunnableLambda(lambda asked: f"{asked['question'][:4]}{len(asked['context'])}")
    output = create_prune_chain(own, AT2DocumentCompressor(pruner=tiny_pruner)).invoke(values)
    assert (output["draft"], output["answer"]) == ("The 10", "The 3")


def test_where_all_is_kept_the_draft_is_the_answer(tiny_pruner: AT2Pruner, values: dict[str, Any]) -> None:
    llm = FakeListChatModel(responses=["one", "two"])
    chain = create_prune_chain(llm, AT2DocumentCompressor(pruner=tiny_pruner, top_n=10))
    runs = Runs()
    assert chain.invoke(values, {"callbacks": [runs]})["answer"] == "one"
    assert runs.count("FakeListChatModel") == 1


def test_without_a_draft_where_the_method_reads_none(tiny_pruner: AT2Pruner, values: dict[str, Any]) -> None:
    bm25 = AT2Pruner(tiny_pruner.language_model, make_scorer("bm25"))
    runs = Runs()
    chain = create_prune_chain(FakeListChatModel(responses=["one"]), AT2DocumentCompressor(pruner=bm25))
    output = chain.invoke(values, {"callbacks": [runs]})
    assert (output["draft"], output["answer"], len(output["kept"])) == (None, "one", 3)
    assert runs.count("FakeListChatModel") == 1
    assert asyncio.run(chain.ainvoke(values)) == output


@pytest.mark.parametrize("count", [0, 1])
def test_short_lists_take_one_answer_and_no_model(values: dict[str, Any], count: int) -> None:
    chain = create_prune_chain(FakeListChatModel(responses=["one", "two"]), AT2DocumentCompressor(model="no/such"))
    output = chain.invoke({**values, "documents": values["documents"][:count]})
    assert (output["draft"], output["answer"], len(output["kept"])) == (None, "one", count)


def test_off(values: dict[str, Any]) -> None:
    compressor = AT2DocumentCompressor(enabled=False, model="no/such")
    output = create_prune_chain(FakeListChatModel(responses=["one", "two"]), compressor).invoke(values)
    assert (output["draft"], output["answer"]) == (None, "one")
    assert output["kept"] is values["documents"]


@pytest.mark.parametrize("wrong", [{"question": 3}, {"documents": ["text"]}, {"documents": None}])
def test_mistakes(chain: Runnable, values: dict[str, Any], wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        chain.invoke({**values, **wrong})
