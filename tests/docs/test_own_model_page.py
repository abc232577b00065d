"""The page docs/own-model.md: its blocks and commands run, on a tiny model and with few questions."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from at2_prune import AT2Pruner
from at2_prune.calibration import cache, shipped_questions
from at2_prune.cli import main
from at2_prune.datasets import calibration_questions_path, load_questions
from at2_prune.models.language_model import LanguageModel
from at2_prune.training import TrainingData

from .test_blocks import expected

PAGE = Path(__file__).parents[2] / "docs" / "own-model.md"


def test_the_page_runs(
    tiny_lm: LanguageModel,
    tiny_embedder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AT2_PRUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("AT2_PRUNE_CALIBRATE", raising=False)
    monkeypatch.setattr(cache, "shipped_data", lambda: TrainingData(shipped_questions()[:15], "few"))
    model = tmp_path / "model"
    tiny_lm.model.save_pretrained(model)
    tiny_lm.tokenizer.save_pretrained(model)
    questions = load_questions(calibration_questions_path())
    texts = {(p.title, p.text): None for question in questions[:8] for p in question.passages}
    rows = "".join(json.dumps({"title": title, "text": text}) + "\n" for title, text in texts)
    Path("my_corpus.jsonl").write_text(rows, encoding="utf-8")
    Path("my_questions.jsonl").write_text(
        "".join(calibration_questions_path().read_text(encoding="utf-8").splitlines(keepends=True)[:12]),
        encoding="utf-8",
    )
    text = PAGE.read_text(encoding="utf-8").replace("MODEL", str(model))
    text = text.replace("EMBEDDER", str(tiny_embedder))
    names: dict[str, object] = {"MODEL": str(model)}
    printed, explained, shown = "", False, 0
    for language, block in re.findall(r"```(\w+)\n(.*?)```", text, re.S):
        if language == "console":
            for command in re.findall(r"^\$ (.+)$", block, re.M):
                assert main(shlex.split(command, comments=True)[1:]) == 0
        elif language == "python":
            capsys.readouterr()
            exec(block.replace(str(model), repr(str(model))), names)
            printed = capsys.readouterr().out
            explained = explained or "kept" in printed
        elif language == "text":
            expected(block, printed)
            shown += 1
    pruner = names["pruner"]
    assert isinstance(pruner, AT2Pruner)
    assert explained
    assert shown == 1
    assert Path("my-scout-2", "config.json").is_file()
