"""What is kept is asked again where code changed that decides it, and only there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from at2_prune.datasets import Question
from at2_prune.models.language_model import LanguageModel
from at2_prune.scorers import BM25Scorer, RandomScorer, Scorer, Task
from at2_prune_eval import CachedLoop
from at2_prune_eval.loop import code
from at2_prune_eval.loop.code import code_digest
from at2_prune_eval.loop.identity import scorer_identity

from ..conftest import Calls, Counted

Edit = Callable[[str], None]
EVERYTHING = {"draft", "outcomes", "answer", "random", "bm25"}


@pytest.fixture
def edit(monkeypatch: pytest.MonkeyPatch) -> Edit:
    """Adds a line of code to a module, as far as digests can see."""

    def edit(name: str, line: str = "\nedited = True\n") -> None:
        source = code._source
        monkeypatch.setattr(code, "_source", lambda asked: source(asked) + (line if asked == name else ""))

    return edit


def asked_again(language_model: LanguageModel, kept: CachedLoop, question: Question, calls: Calls) -> set[str]:
    """The values that a new loop with the same cache computes."""
    loop = CachedLoop(language_model, kept.cache, kept.max_new_tokens)
    prompt = language_model.encode(question.text, question.passages[:3])
    found = set()

    def ran(name: str, compute: Callable[[], object]) -> object:
        before = calls.passes
        value = compute()
        if calls.passes > before:
            found.add(name)
        return value

    ran("draft", lambda: loop.draft(prompt))
    draft = loop.draft(prompt).draft
    ran("outcomes", lambda: loop.outcomes(prompt, draft.ids, torch.tensor([[True, False, True]])))
    ran("answer", lambda: loop.write_answers([prompt]))
    task = Task(language_model, question.text, question.passages[:3], prompt, draft)
    for scorer in (RandomScorer(), BM25Scorer()):
        key_was_known = len(_keys(loop))
        loop.score(scorer, task)
        if len(_keys(loop)) > key_was_known:
            found.add(scorer.name)
    return found


def _keys(loop: CachedLoop) -> list[str]:
    return [key for (key,) in loop.cache._file.execute("SELECT key FROM cache")]


@pytest.mark.parametrize(
    ("module", "again"),
    [
        ("at2_prune.attention.reader", EVERYTHING),
        ("at2_prune.models.generation", EVERYTHING),
        ("at2_prune_eval.loop.cached_loop", EVERYTHING),
        ("at2_prune.pruning.loop", EVERYTHING),
        ("at2_prune.models.drafts", {"draft", "random", "bm25"}),
        ("at2_prune.models.readouts", {"draft", "random", "bm25"}),
        ("at2_prune.ablation.tree", {"outcomes", "random", "bm25"}),
        ("at2_prune_eval.loop.cost", EVERYTHING - {"answer"}),
        ("at2_prune.models.shared_prefix", {"answer"}),
        ("at2_prune.scorers.bm25", {"bm25"}),
        ("at2_prune.scorers.random", {"random"}),
        ("at2_prune.cli.answer", set()),
        ("at2_prune.report.page", set()),
        ("at2_prune.catalogue", set()),
        ("at2_prune_eval.tables.cost", set()),
    ],
)
def test_an_edit_asks_again_for_what_it_decides(
    loop: CachedLoop,
    tiny_lm: LanguageModel,
    questions: list[Question],
    calls: Calls,
    edit: Edit,
    module: str,
    again: set[str],
) -> None:
    pytest.importorskip("bm25s")
    assert asked_again(tiny_lm, loop, questions[0], calls) == EVERYTHING
    assert asked_again(tiny_lm, loop, questions[0], calls) == set()
    edit(module, "\n# a comment\n")
    assert asked_again(tiny_lm, loop, questions[0], calls) == set()
    edit(module)
    assert asked_again(tiny_lm, loop, questions[0], calls) == again


def test_every_module_that_may_be_edited_exists() -> None:
    marks = test_an_edit_asks_again_for_what_it_decides.pytestmark  # type: ignore[attr-defined]
    assert all(code._path(module) for module, _ in marks[0].args[1])


def test_prose_and_types_decide_nothing() -> None:
    before = "from typing import TYPE_CHECKING\n\n\ndef f(x):\n    return x + 1\n"
    after = (
        '"""Text."""\nfrom typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from at2_prune import AT2Pruner\n'
        '\n\ndef f(x):  # a comment\n    """Add one."""\n    return x + 1\n'
    )
    assert code._code(before) == code._code(after)
    assert code._code(before) != code._code(before.replace("1", "2"))
    assert code._imports("at2_prune.example", after) == []


def test_what_a_function_imports_counts() -> None:
    source = "def f():\n    from .models import drafts\n    from .errors import InputError\n    import torch\n"
    assert code._imports("at2_prune.example", source) == ["at2_prune.models.drafts", "at2_prune.errors"]


def test_the_file_of_a_scorer_of_ones_own_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So do the files of its base classes, and of the scorers that it holds."""

    def written(name: str, text: str) -> ModuleType:
        (tmp_path / f"{name}.py").write_text(text)
        sys.modules.pop(name, None)
        monkeypatch.syspath_prepend(tmp_path)
        return __import__(name)

    base = "from at2_prune.scorers import RandomScorer\n\nclass Base(RandomScorer):\n    {}\n"
    scorer = "from own_base import Base\n\nclass Own(Base):\n    pass\n"

    def identities() -> list[object]:
        written("own_base", base.format(number))
        own: Scorer = written("own_scorer", scorer).Own()
        return [scorer_identity(own), scorer_identity(Counted([own]))]

    number = "one = 1"
    first = identities()
    assert None not in first
    assert identities() == first
    number = "one = 2"
    assert all(one != other for one, other in zip(identities(), first, strict=True))
    for name in ("own_base", "own_scorer"):
        sys.modules.pop(name)


def test_a_digest_does_not_depend_on_the_order() -> None:
    names = ["at2_prune.errors", "at2_prune.passages"]
    assert code_digest(names) == code_digest(names[::-1]) != code_digest(names[:1])
    assert code_digest(names, alone=["at2_prune.bootstrap"]) != code_digest(names)
