from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, LlamaConfig

from at2_prune.attention.rows import RowGroup
from at2_prune.catalogue import REMOVED, learned_methods
from at2_prune.coefficients.head_coefficients import HeadCoefficients
from at2_prune.coefficients.loading import method_of
from at2_prune.coefficients.scout_coefficients import ScoutCoefficients, is_scout_folder
from at2_prune.coefficients.shipped import shipped_coefficients
from at2_prune.errors import CoefficientsError

GROUPS = (RowGroup("draft"), RowGroup("question", "max"))
CONFIG = LlamaConfig(num_hidden_layers=3, num_attention_heads=4)


@pytest.fixture
def made() -> HeadCoefficients:
    weight = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    training = {
        "data": "naïve.jsonl",
        "ablations": 8,
        "curve": [[0, 0.25], [50, 0.5]],
        "lds": {"mean": 0.5, "low": 0.25},
    }
    return HeadCoefficients(weight, GROUPS, None, "some/model", "llama", training)


@pytest.fixture
def folder(made: HeadCoefficients, tmp_path: Path) -> Path:
    made.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def assert_same(one: HeadCoefficients, other: HeadCoefficients) -> None:
    assert torch.equal(one.weight, other.weight)
    assert (one.row_groups, one.layers) == (other.row_groups, other.layers)
    assert (one.model_name, one.model_type, one.training) == (other.model_name, other.model_type, other.training)


def test_score_is_the_inner_product(made: HeadCoefficients) -> None:
    mass = {group: torch.rand(3, 4, 5) for group in (*GROUPS, RowGroup("last"))}
    expected = [
        sum(
            float(made.weight[g, layer, head]) * float(mass[group][layer, head, source])
            for g, group in enumerate(GROUPS)
            for layer in range(3)
            for head in range(4)
        )
        for source in range(5)
    ]
    assert made.score(mass).tolist() == pytest.approx(expected, abs=1e-6)
    assert made.score(mass, [0, 1, 2]).tolist() == made.score(mass).tolist()
    assert made.score({group: value.bfloat16() for group, value in mass.items()}).dtype == torch.float32


def test_score_of_other_attention_is_refused(made: HeadCoefficients) -> None:
    right = torch.rand(3, 4, 5)
    with pytest.raises(CoefficientsError, match=r"attention mass of row groups \['question-max'\] was not read"):
        made.score({RowGroup("draft"): right, RowGroup("question"): right})
    for shape in ((2, 4, 5), (3, 2, 5)):
        with pytest.raises(
            CoefficientsError, match=rf"made for some/model have shape.*\(3, 4\).*\({shape[0]}, {shape[1]}\)"
        ):
            made.score(dict.fromkeys(GROUPS, torch.rand(shape)))
    with pytest.raises(CoefficientsError, match=r"on layers \[0, 1, 2\].* on\s+layers \[1, 2, 3\]"):
        made.score(dict.fromkeys(GROUPS, right), layers=[1, 2, 3])


def test_average_is_the_mean(made: HeadCoefficients) -> None:
    mass = torch.rand(3, 4, 5)
    average = HeadCoefficients.average(3, 4, "llama")
    torch.testing.assert_close(average.score({RowGroup("draft"): mass}), mass.mean((0, 1)))
    average.check_model(CONFIG)


def test_round_trip(made: HeadCoefficients, folder: Path) -> None:
    assert_same(HeadCoefficients.from_pretrained(folder), made)
    assert_same(HeadCoefficients.from_pretrained(str(folder)), made)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "head_coefficients.safetensors",
    ]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["format"] == 1
    assert config["training"]["data"] == "naïve.jsonl"
    assert [group["rows"] for group in config["row_groups"]] == ["draft", "question"]
    assert load_file(folder / "head_coefficients.safetensors")["weight"].shape == (2, 3, 4)
    again = HeadCoefficients.from_pretrained(folder)
    again.save_pretrained(folder / "again")
    assert_same(HeadCoefficients.from_pretrained(folder / "again"), made)


def test_saved_whatever_the_weights_layout(tmp_path: Path) -> None:
    weight = torch.randn(4, 3, 2).to(torch.bfloat16).permute(2, 1, 0).requires_grad_()
    saved = HeadCoefficients(weight, GROUPS)
    saved.save_pretrained(tmp_path)
    assert torch.equal(HeadCoefficients.from_pretrained(tmp_path).weight, weight.detach().float())


def test_model_card(made: HeadCoefficients, folder: Path) -> None:
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "at2-prune"
    assert "context-attribution" in card.data.tags
    for fact in ("some/model", "llama", "draft, question-max", "2 x 3 x 4", "naïve.jsonl", "2504.13752"):
        assert fact in card.text
    assert "0: 0.250, 50: 0.500" in card.text
    HeadCoefficients(made.weight, GROUPS).save_pretrained(folder / "bare")
    assert ModelCard.load(folder / "bare" / "README.md").data.library_name == "at2-prune"


def test_saving_again_replaces(made: HeadCoefficients, folder: Path) -> None:
    other = HeadCoefficients(made.weight * 2, GROUPS, None, "other", "llama")
    other.save_pretrained(folder)
    assert_same(HeadCoefficients.from_pretrained(folder), other)


def test_saving_that_fails_leaves_nothing_half_written(
    made: HeadCoefficients, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        assert Path(source).stat().st_size > 0
        raise OSError(28, "No space left on device")

    before = (folder / "head_coefficients.safetensors").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            HeadCoefficients(made.weight * 2, GROUPS).save_pretrained(folder)
    assert (folder / "head_coefficients.safetensors").read_bytes() == before
    assert {path.name for path in folder.iterdir()} <= {"README.md", "config.json", "head_coefficients.safetensors"}


def test_from_the_hubs_cache(made: HeadCoefficients, folder: Path, tmp_path: Path) -> None:
    """The layout that hf_hub_download reads without a network."""
    revision = "0" * 40
    repository = tmp_path / "cache" / "models--someone--coefficients"
    shutil.copytree(folder, repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    pulled = HeadCoefficients.from_pretrained(
        "someone/coefficients", cache_dir=tmp_path / "cache", local_files_only=True
    )
    assert_same(pulled, made)
    with pytest.raises(CoefficientsError, match="'someone/other' is neither a folder"):
        HeadCoefficients.from_pretrained("someone/other", cache_dir=tmp_path / "cache", local_files_only=True)


def test_push_to_hub_uploads_what_is_saved(made: HeadCoefficients, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mixin's own code up to the Hub's API, which is the only part replaced."""
    uploaded: dict[str, bytes] = {}

    class Api:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def create_repo(self, repo_id: str, **_: Any) -> Any:
            return type("Url", (), {"repo_id": repo_id})

        def upload_folder(self, folder_path: Path, **_: Any) -> str:
            uploaded.update({path.name: path.read_bytes() for path in Path(folder_path).iterdir()})
            return "url"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    made.push_to_hub("someone/coefficients")
    assert set(uploaded) == {"README.md", "config.json", "head_coefficients.safetensors"}
    assert json.loads(uploaded["config.json"])["model_name"] == "some/model"


def edit(**changes: Any) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        path = folder / "config.json"
        config = {**json.loads(path.read_text(encoding="utf-8")), **changes}
        path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))

    return apply


def tensors(**changes: Any) -> Callable[[Path], object]:
    return lambda folder: save_file(changes, folder / "head_coefficients.safetensors")


WEIGHT = torch.ones(2, 3, 4)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "config.json").write_text("{"), "JSONDecodeError"),
        (lambda folder: (folder / "config.json").write_text("[]"), "AttributeError|TypeError"),
        (lambda folder: (folder / "config.json").write_bytes(b"\xff"), "UnicodeDecodeError"),
        (lambda folder: (folder / "config.json").unlink(), "config.json"),
        (lambda folder: (folder / "head_coefficients.safetensors").unlink(), "head_coefficients.safetensors"),
        (lambda folder: (folder / "head_coefficients.safetensors").write_bytes(b"x" * 50), "SafetensorError"),
        (lambda folder: os.truncate(folder / "head_coefficients.safetensors", 100), "SafetensorError"),
        (edit(format=2), "format 2 with tensors.*reads format 1"),
        (edit(format=...), "format None"),
        (edit(heads=...), "KeyError: 'heads'"),
        (edit(heads=5), r"the weights have shape \(2, 3, 4\), but the config says \(2, 3, 5\)"),
        (edit(layers=[0, 1]), r"the weights have shape \(2, 3, 4\), but the config says \(2, 2, 4\)"),
        (edit(layers=["a", "b", "c"]), "ValueError"),
        (edit(layers=3), "TypeError"),
        (edit(row_groups=[{"rows": "draft"}]), r"shape \(2, 3, 4\), but the config says \(1, 3, 4\)"),
        (edit(row_groups=[{"rows": "draft"}, {"rows": "answer"}]), "row group 'answer' reduced by 'mean' is unknown"),
        (edit(row_groups=[{"rows": "draft"}, {"rows": "draft", "x": 1}]), "TypeError"),
        (edit(training=[1]), "TypeError"),
        (tensors(weight=WEIGHT, bias=torch.ones(1)), r"with tensors \['bias', 'weight'\]"),
        (tensors(weights=WEIGHT), r"with tensors \['weights'\]"),
        (tensors(weight=torch.ones(2, 2, 4)), r"shape \(2, 2, 4\), but the config says \(2, 3, 4\)"),
        (tensors(weight=WEIGHT[0]), r"shape \(3, 4\), but the config says \(2, 3, 4\)"),
        (tensors(weight=WEIGHT * float("nan")), "not finite"),
        (tensors(weight=WEIGHT * float("inf")), "not finite"),
    ],
)
def test_loading_is_strict(folder: Path, damage: Callable[[Path], object], says: str) -> None:
    damage(folder)
    with pytest.raises(CoefficientsError, match=says):
        HeadCoefficients.from_pretrained(folder)


@pytest.mark.parametrize("name", ["/no/such/folder", "no/such/folder", "nobody/nothing", "nothing"])
def test_no_such_coefficients(name: str) -> None:
    with pytest.raises(CoefficientsError, match=f"{name!r} is neither a folder"):
        HeadCoefficients.from_pretrained(name)


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (LlamaConfig(num_hidden_layers=3, num_attention_heads=8), "3 layers x 8 heads"),
        (LlamaConfig(num_hidden_layers=4, num_attention_heads=4), "4 layers x 4 heads"),
        (LlamaConfig(num_hidden_layers=2, num_attention_heads=4), "2 layers x 4 heads"),
        (AutoConfig.for_model("qwen2", num_hidden_layers=3, num_attention_heads=4), "qwen2 with 3 layers x 4 heads"),
    ],
)
def test_another_model_is_refused_with_both_shapes(made: HeadCoefficients, config: Any, names: str) -> None:
    made.check_model(CONFIG)
    with pytest.raises(CoefficientsError, match=rf"made for some/model \(type llama, 3 layers x 4 heads\).*{names}"):
        made.check_model(config)


def test_layers_of_a_hybrid_model(tmp_path: Path) -> None:
    """Two of six layers have attention: indices say which."""
    hybrid = HeadCoefficients(torch.ones(1, 2, 4), layers=[2, 5], model_type="llama")
    hybrid.save_pretrained(tmp_path)
    loaded = HeadCoefficients.from_pretrained(tmp_path)
    assert loaded.layers == [2, 5]
    mass = {RowGroup("draft"): torch.ones(2, 4, 3)}
    assert loaded.score(mass, [2, 5]).tolist() == [8.0] * 3
    with pytest.raises(CoefficientsError, match=r"layers \[2, 5\]"):
        loaded.score(mass, [0, 1])
    loaded.check_model(LlamaConfig(num_hidden_layers=6, num_attention_heads=4))
    with pytest.raises(CoefficientsError, match="4 layers x 4 heads"):
        loaded.check_model(LlamaConfig(num_hidden_layers=4, num_attention_heads=4))


@pytest.mark.parametrize(
    ("weight", "options", "says"),
    [
        (torch.ones(3, 4), {}, r"\(row groups, layers, heads\) with 1 row groups, got \(3, 4\)"),
        (torch.ones(2, 3, 4), {}, r"with 1 row groups, got \(2, 3, 4\)"),
        (torch.full((1, 3, 4), float("nan")), {}, "not finite"),
        (torch.ones(1, 3, 4), {"layers": [0, 1]}, "2 layer indices for 3 layers"),
    ],
)
def test_impossible_coefficients(weight: torch.Tensor, options: Any, says: str) -> None:
    with pytest.raises(CoefficientsError, match=says):
        HeadCoefficients(weight, **options)


@pytest.mark.parametrize(("rows", "reduce"), [("answer", "mean"), ("draft", "sum"), ("", "mean")])
def test_unknown_row_groups(rows: Any, reduce: Any) -> None:
    with pytest.raises(CoefficientsError, match=f"row group {rows!r} reduced by {reduce!r} is unknown"):
        RowGroup(rows, reduce)


def test_row_groups_by_name() -> None:
    groups = [
        RowGroup(rows, reduce, measure)  # type: ignore[arg-type]
        for rows in ("draft", "question", "last")
        for reduce in ("mean", "max")
        for measure in ("attention", "contribution", "effective")
    ]
    assert len({group.name for group in groups}) == 18
    assert [RowGroup.from_name(group.name) for group in groups] == groups
    assert RowGroup("question", "max").name == "question-max"
    assert RowGroup("draft", "max", "contribution").name == "draft-max-contribution"
    with pytest.raises(CoefficientsError, match="no row group is called 'draft-mean'; the row groups are draft, "):
        RowGroup.from_name("draft-mean")
    with pytest.raises(CoefficientsError, match="measure 'norm' is unknown: the measures are attention, contrib"):
        RowGroup("draft", "mean", "norm")  # type: ignore[arg-type]


def test_measures_are_saved_and_files_without_them_are_attention(tmp_path: Path) -> None:
    groups = (RowGroup("draft", "mean", "contribution"), RowGroup("draft", "max", "effective"), RowGroup("last"))
    HeadCoefficients(torch.rand(3, 3, 4), groups).save_pretrained(tmp_path)
    assert HeadCoefficients.from_pretrained(tmp_path).row_groups == groups
    path = tmp_path / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    assert config["row_groups"][0] == {"rows": "draft", "reduce": "mean", "measure": "contribution"}
    for group in config["row_groups"]:
        del group["measure"]
    path.write_text(json.dumps(config), encoding="utf-8")
    assert HeadCoefficients.from_pretrained(tmp_path).row_groups == (
        RowGroup("draft"),
        RowGroup("draft", "max"),
        RowGroup("last"),
    )


@pytest.mark.parametrize(
    "rows", [["question", "question", "sources", "sources"], ["question", "last"], ["draft", "sources"]], ids=str
)
def test_coefficients_of_the_earlier_form_of_scout_are_refused(rows: list[str], tmp_path: Path) -> None:
    """The files are as version 0.1 wrote them."""
    HeadCoefficients(torch.rand(len(rows), 3, 4), [RowGroup("draft")] * len(rows)).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for group, name in zip(config["row_groups"], rows, strict=True):
        group["rows"] = name
    path.write_text(json.dumps(config), encoding="utf-8")
    says = f"coefficients of the method prompt_scout cannot be used, because {REMOVED['prompt_scout'].advice}"
    with pytest.raises(CoefficientsError) as refused:
        HeadCoefficients.from_pretrained(tmp_path)
    assert str(refused.value) == says
    with pytest.raises(CoefficientsError) as refused:
        HeadCoefficients(torch.rand(1, 3, 4), [RowGroup("question")])
    assert str(refused.value) == says


def published(weight: Any) -> dict[str, Any]:
    """The shape of the file that AT2's authors publish."""
    return {
        "state_dict": {"linear.weight": weight},
        "num_layers": 3,
        "num_heads": 4,
        "normalize": True,
        "bias": False,
    }


def test_import_of_a_published_estimator(tmp_path: Path) -> None:
    weight = torch.arange(12.0)[None] - 5
    torch.save(published(weight), tmp_path / "score_estimator.pt")
    imported = HeadCoefficients.from_at2_estimator(tmp_path / "score_estimator.pt", CONFIG, "some/model")
    assert imported.weight.shape == (1, 3, 4)
    assert [float(imported.weight[0, layer, head]) for layer, head in ((0, 0), (0, 3), (1, 0), (2, 3))] == [
        -5,
        -2,
        -1,
        6,
    ]
    assert (imported.model_name, imported.model_type, imported.row_groups) == (
        "some/model",
        "llama",
        (RowGroup("draft"),),
    )
    imported.check_model(CONFIG)
    imported.save_pretrained(tmp_path / "saved")
    assert_same(HeadCoefficients.from_pretrained(tmp_path / "saved"), imported)
    torch.save(published(weight.half()), tmp_path / "half.pt")
    assert torch.equal(HeadCoefficients.from_at2_estimator(tmp_path / "half.pt", CONFIG).weight, imported.weight)


class Touch:
    """Pickled, it is a call that makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_an_estimator_with_code_in_it_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    trace, proof = tmp_path / "ran", tmp_path / "proof"
    file = tmp_path / "score_estimator.pt"
    for place in ("state_dict", "other"):
        data: dict[str, Any] = published(torch.ones(1, 12))
        data[place] = Touch(trace)
        torch.save(data, file, _use_new_zipfile_serialization=zipped)
        with pytest.raises(CoefficientsError, match="not a published AT2 estimator that can be read safely"):
            HeadCoefficients.from_at2_estimator(file, CONFIG)
        assert not trace.exists()
    file.write_bytes(pickle.dumps(Touch(trace)))
    with pytest.raises(CoefficientsError, match="read safely"):
        HeadCoefficients.from_at2_estimator(file, CONFIG)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Touch(proof)))  # the trap works
    assert proof.exists()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"state_dict": {}}, "KeyError"),
        ([1], "TypeError"),
        (published([1.0] * 12), "AttributeError"),
        (published(torch.ones(1, 8)), r"has shape \(1, 8\); a model with 3 layers x 4 heads needs \(1, 12\)"),
        (published(torch.ones(12)), r"has shape \(12,\)"),
        (published(torch.full((1, 12), float("nan"))), "not finite"),
    ],
)
def test_files_that_are_no_estimators(tmp_path: Path, data: Any, says: str) -> None:
    torch.save(data, tmp_path / "score_estimator.pt")
    with pytest.raises(CoefficientsError, match=says):
        HeadCoefficients.from_at2_estimator(tmp_path / "score_estimator.pt", CONFIG)


def test_estimators_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("hello")
    torch.save(published(torch.ones(1, 12)), tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:-200])
    for source in (tmp_path / "text.pt", tmp_path / "cut.pt", tmp_path / "none.pt", "madrylab/at2-no-such-model"):
        with pytest.raises(CoefficientsError, match=f"^{source}: not a published AT2 estimator"):
            HeadCoefficients.from_at2_estimator(source, CONFIG)


@pytest.mark.parametrize("kind", [HeadCoefficients, ScoutCoefficients])
@pytest.mark.parametrize("config", ["[" * 100_000, '{"heads": ' + "1" * 5000 + "}"], ids=["nesting", "digits"])
def test_a_config_that_python_cannot_read(tmp_path: Path, kind: type[Any], config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(CoefficientsError, match="that can be read"):
        kind.from_pretrained(tmp_path)


def test_shipped_coefficients_load() -> None:
    shipped = shipped_coefficients()
    assert set(shipped["gemma-3-270m"]) == set(learned_methods())
    for name, methods in shipped.items():
        for path in methods.values():
            kind = ScoutCoefficients if is_scout_folder(path) else HeadCoefficients
            coefficients = kind.from_pretrained(path)
            assert coefficients.model_name == name
            assert coefficients.training


def test_first_layers_of_what_was_read() -> None:
    made = HeadCoefficients(torch.ones(1, 2, 4), layers=[0, 2], model_layers=6)
    mass = torch.arange(6.0)[:, None, None].expand(6, 4, 3)
    assert made.score({RowGroup("draft"): mass}, range(6)).tolist() == [8.0, 8.0, 8.0]
    with pytest.raises(CoefficientsError, match=r"on layers \[0, 2\], but attention was read .* on layers \[0, 1\]"):
        made.score({RowGroup("draft"): mass[:2]}, [0, 1])
    with pytest.raises(CoefficientsError, match=r"6 layers x 4 heads.*3 layers x 4 heads"):
        made.check_model(LlamaConfig(num_hidden_layers=3, num_attention_heads=4))


def test_how_deep_the_model_is_survives_saving(tmp_path: Path) -> None:
    HeadCoefficients(torch.ones(1, 2, 4), layers=[0, 1], model_layers=6).save_pretrained(tmp_path)
    assert HeadCoefficients.from_pretrained(tmp_path).model_layers == 6


@pytest.mark.parametrize(
    ("rows", "method"),
    [
        (["draft"], "at2"),
        (["draft-max", "question"], "at2"),
        (["draft-contribution"], "contribution_learned"),
        (["draft-effective", "draft-max-effective"], "effective_attention_learned"),
        (["draft", "draft-effective"], "at2"),
    ],
)
def test_coefficients_say_which_method_they_make(rows: list[str], method: str) -> None:
    groups = tuple(RowGroup.from_name(name) for name in rows)
    assert method_of(HeadCoefficients(torch.ones(len(groups), 2, 4), groups)) == method


def test_shipped_coefficients_are_filed_under_the_method_they_make() -> None:
    for methods in shipped_coefficients().values():
        for method, path in methods.items():
            kind = ScoutCoefficients if is_scout_folder(path) else HeadCoefficients
            assert method_of(kind.from_pretrained(path)) == method
