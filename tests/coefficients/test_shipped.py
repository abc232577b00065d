"""Head coefficients in the package's data folder are found by model and method."""

from __future__ import annotations

import copy
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from at2_prune.catalogue import learned_methods
from at2_prune.coefficients import shipped
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.coefficients.loading import load_coefficients
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients, is_scout_folder
from at2_prune.errors import CoefficientsError
from at2_prune.models.fingerprint import fingerprint
from at2_prune.models.language_model import LanguageModel
from at2_prune.scorers.learned import LearnedScorer
from at2_prune.scorers.registry import check_scorer, load_scorer

SLASH = "Qwen/Qwen2.5-Coder-1.5B-Instruct"


def test_what_the_package_holds() -> None:
    folder = Path(str(files("at2_prune"))) / "data" / "coefficients"
    smol = "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert shipped.shipped_coefficients() == {
        "gemma-3-270m": {method: folder / "gemma-3-270m" / method for method in sorted(learned_methods())},
        **{name: {method: folder / name / method for method in ("at2", "scout")} for name in (smol, SLASH)},
    }


def test_coefficients_are_found_by_the_weights_of_their_model() -> None:
    for name, methods in shipped.shipped_coefficients().items():
        for method in ("scout", "at2"):
            kind = ScoutCoefficients if method == "scout" else HeadCoefficients
            weights = kind.from_pretrained(methods[method]).training.get("weights", "")
            if (name, method) == ("gemma-3-270m", "at2"):  # the embedded model has one set, which its name finds
                assert not weights
                continue
            assert shipped.shipped_for_weights(weights, method) == methods[method], (name, method)
    assert shipped.shipped_for_weights("0" * 32, "scout") is None


def test_head_coefficients_are_found_by_the_weights_of_their_model(
    tiny_lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = HeadCoefficients(torch.randn(1, 2, 4), model_type="llama", training={"weights": fingerprint(tiny_lm.model)})
    made.save_pretrained(tmp_path / "data" / "coefficients" / SLASH / "at2")
    tiny_lm.model.save_pretrained(tmp_path / "model")
    tiny_lm.tokenizer.save_pretrained(tmp_path / "model")
    monkeypatch.setattr(shipped, "files", lambda package: tmp_path)
    assert check_scorer(tmp_path / "model", "at2") == ("at2", None)
    found = load_scorer(LanguageModel.load(tmp_path / "model"), "at2")
    assert isinstance(found, LearnedScorer)
    assert torch.equal(found.coefficients.weight, made.weight)
    other = copy.deepcopy(tiny_lm.model)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    with pytest.raises(CoefficientsError, match="no coefficients of the method at2"):
        load_scorer(LanguageModel(other, tiny_lm.tokenizer, name="other"), "at2")


@pytest.mark.parametrize(
    ("name", "method"),
    [(name, method) for name, methods in shipped.shipped_coefficients().items() for method in methods],
)
def test_the_cards_say_what_is_stored(name: str, method: str) -> None:
    """`python eval/publish.py cards-again` writes them."""
    folder = shipped.shipped_coefficients()[name][method]
    kind = ScoutCoefficients if is_scout_folder(folder) else HeadCoefficients
    card = str(kind.from_pretrained(folder).generate_model_card())
    assert (folder / "README.md").read_text(encoding="utf-8") == card


def test_a_name_with_a_slash_is_nested_folders(tmp_path: Path) -> None:
    for name in ("plain", SLASH, "Qwen/other"):
        HeadCoefficients.average(2, 4).save_pretrained(tmp_path / name / "at2")
    HeadCoefficients.average(2, 4).save_pretrained(tmp_path / SLASH / "scout")
    (tmp_path / "config.json").write_text("{}")  # belongs to no method
    (tmp_path / "plain" / "config.json").write_text("{}")
    found = shipped.shipped_coefficients(tmp_path)
    assert found == {
        "plain": {"at2": tmp_path / "plain" / "at2"},
        SLASH: {method: tmp_path / SLASH / method for method in ("at2", "scout")},
        "Qwen/other": {"at2": tmp_path / "Qwen" / "other" / "at2"},
    }
    assert shipped.shipped_coefficients(tmp_path / "nowhere") == {}


def test_a_model_with_a_slash_in_its_name_gets_its_own(
    tiny_lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = HeadCoefficients(torch.randn(1, 2, 4), model_type="llama")
    made.save_pretrained(tmp_path / "data" / "coefficients" / SLASH / "at2")
    monkeypatch.setattr(shipped, "files", lambda package: tmp_path)
    model = LanguageModel(tiny_lm.model, tiny_lm.tokenizer, name=SLASH)
    assert torch.equal(load_coefficients(model, method="at2").weight, made.weight)
