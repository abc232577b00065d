from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import at2_prune.pipeline.config
from at2_prune.errors import DataError, InputError
from at2_prune.pipeline.config import SETTINGS, PruneConfig


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(at2_prune.pipeline.config, optionflags=doctest.ELLIPSIS).failed == 0


def test_every_field_is_checked_and_documented() -> None:
    assert list(PruneConfig().to_dict()) == list(SETTINGS)


def test_round_trip() -> None:
    config = PruneConfig(enabled=False, granularity="sentence", neighbors=1, max_tokens=300, dtype="bfloat16")
    assert PruneConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pipeline.yaml", "retriever:\n  k: 10\nat2-prune:\n  enabled: off\n  top_n: 2\n"),
        ("pipeline.yml", "enabled: false\ntop_n: 2\n"),
        ("pyproject.toml", '[project]\nname = "x"\n[tool.at2-prune]\nenabled = false\ntop_n = 2\n'),
        ("pipeline.toml", "[at2-prune]\nenabled = false\ntop_n = 2\n"),
        ("prune.toml", "enabled = false\ntop_n = 2\n"),
        ("pipeline.YAML", "at2-prune: {enabled: off, top_n: 2}\n"),
        ("PIPELINE.TOML", "enabled = false\ntop_n = 2\n"),
        ("pipeline.json", '{"retriever": {"k": 10}, "at2-prune": {"enabled": false, "top_n": 2}}'),
        ("prune.json", '{"enabled": false, "top_n": 2}'),
        ("merged.yaml", "common: &common {top_n: 9}\nat2-prune:\n  <<: *common\n  enabled: off\n  top_n: 2\n"),
    ],
)
def test_files(tmp_path: Path, name: str, text: str) -> None:
    config = PruneConfig.load(write(tmp_path / name, text), environ={})
    assert config == PruneConfig(enabled=False, top_n=2)


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.yaml", ""), ("b.yaml", "at2-prune:\n"), ("pyproject.toml", "[tool.ruff]\nline-length = 99\n")],
)
def test_nothing_said_leaves_the_defaults(tmp_path: Path, name: str, text: str) -> None:
    assert PruneConfig.load(write(tmp_path / name, text), environ={"AT2_PRUNE": ""}) == PruneConfig()


@pytest.mark.parametrize("kind", ["yaml", "toml", "pyproject", "dict"])
def test_precedence(tmp_path: Path, kind: str) -> None:
    said = {"top_n": 1, "max_new_tokens": 1, "min_documents": 1, "enabled": True}
    lines = "".join(f"{key} = {str(value).lower()}\n" for key, value in said.items())
    source: Any = {
        "yaml": lambda: write(tmp_path / "a.yaml", lines.replace(" =", ":")),
        "toml": lambda: write(tmp_path / "a.toml", lines),
        "pyproject": lambda: write(tmp_path / "pyproject.toml", f"[tool.at2-prune]\n{lines}"),
        "dict": lambda: said,
    }[kind]()
    environ = {"AT2_PRUNE": "off", "AT2_PRUNE_TOP_N": "2", "AT2_PRUNE_MAX_NEW_TOKENS": "2", "AT2_PRUNE_CACHE": "/x"}
    assert PruneConfig.load(source, environ={}) == PruneConfig(**said)
    config = PruneConfig.load(source, environ=environ, top_n=3)
    assert (config.top_n, config.max_new_tokens, config.min_documents, config.enabled) == (3, 2, 1, False)
    assert config.order == PruneConfig().order


def test_a_ready_config_is_taken_as_it_is() -> None:
    environ = {"AT2_PRUNE": "off", "AT2_PRUNE_TOP_N": "2"}
    ready = PruneConfig(top_n=7)
    assert PruneConfig.load(ready, environ=environ) == ready
    assert PruneConfig.load(ready, environ=environ, enabled=False) == PruneConfig(top_n=7, enabled=False)


def test_the_process_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AT2_PRUNE", "off")
    monkeypatch.setenv("AT2_PRUNE_GRANULARITY", "sentence")
    assert PruneConfig.load() == PruneConfig(enabled=False, granularity="sentence")
    assert PruneConfig.from_dict({}) == PruneConfig()


@pytest.mark.parametrize("text", ["on", "ON", "true", "yes", "1", " on "])
def test_switch_on(text: str) -> None:
    assert PruneConfig.load({"enabled": False}, environ={"AT2_PRUNE": text}).enabled


@pytest.mark.parametrize("text", ["off", "Off", "false", "no", "0"])
def test_switch_off(text: str) -> None:
    assert not PruneConfig.load(environ={"AT2_PRUNE": text}).enabled


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"top_n": 0}, r"top_n must be an integer of at least 1 or auto, got 0"),
        ({"top_n": True}, r"top_n must be an integer of at least 1 or auto, got True"),
        ({"top_n": "3"}, r"top_n must be .* got '3'"),
        ({"enabled": "off"}, r"enabled must be true or false .* got 'off'"),
        ({"max_tokens": -1}, r"max_tokens must be an integer of at least 1 or none, got -1"),
        ({"granularity": "token"}, r"granularity must be 'passage' or 'sentence', got 'token'"),
        ({"order": ["score"]}, r"order must be 'original' or 'score'"),
        ({"method": "bm26"}, r"method must be 'scout',? .*or '\w+', got 'bm26'"),
        ({"dtype": "int8"}, r"dtype must be 'float32', 'bfloat16' or 'float16', got 'int8'"),
        ({"model": ""}, r"model must be a text that is not blank, got ''"),
        ({"title_key": ""}, r"title_key must be a text that is not blank"),
        ({"method": "bm25", "coefficients": "x"}, r"coefficients='x': the method bm25 has no coefficients"),
        (
            {"method": "cross_encoder"},
            "method='cross_encoder' needs a reranker: set cross_encoder to a folder with model.onnx and ",
        ),
        ({"method": "cross_encoder", "cross_encoder": " "}, "cross_encoder must be a text that is not blank, got ' '"),
        ({"neighbors": 1}, r"neighbors=1 needs granularity='sentence'"),
        ({"top_k": 3}, r"unknown key 'top_k', did you mean 'top_n'\? Allowed: enabled, method"),
        ({3: 3}, r"unknown key 3\. Allowed"),
    ],
)
def test_mistakes_name_key_value_and_what_is_allowed(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PruneConfig.from_dict(values)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"AT2_PRUNE": "maybe"}, r"environment variable AT2_PRUNE must be true or false .*on or off\), got 'maybe'"),
        ({"AT2_PRUNE_TOP_N": "two"}, r"environment variable AT2_PRUNE_TOP_N must be an integer .* got 'two'"),
        ({"AT2_PRUNE_TOPN": "2"}, r"unknown environment variable AT2_PRUNE_TOPN, did you mean AT2_PRUNE_TOP_N\?"),
        ({"AT2_PRUNE_ENABLED": "off"}, r"unknown .* AT2_PRUNE_ENABLED, did you mean AT2_PRUNE\?"),
    ],
)
def test_mistakes_in_the_environment(environ: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PruneConfig.load(environ=environ)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "top_n: [", r"a\.yaml: not valid YAML"),
        ("a.yaml", "- 1\n", r"a\.yaml: expected keys and values, got list"),
        ("a.yaml", "at2-prune: 3\n", r"section at2-prune: expected keys and values, got int"),
        ("a.toml", "top_n = ", r"a\.toml: not valid TOML"),
        ("a.ini", "", r"a config file must end in \.yaml, \.yml, \.json or \.toml"),
        ("a.json", "{", r"a\.json: not valid JSON"),
        ("a.json", "[" * 100_000, r"a\.json: not valid JSON \(nested too deeply\)"),
        ("a.json", "[1]", r"a\.json: expected keys and values, got list"),
        ("a.toml", "tool = 3\n", r"a\.toml, table \[tool\]: expected keys and values, got int"),
        ("pyproject.toml", "[tool]\nat2-prune = 3\n", r"table \[tool\.at2-prune\]: expected keys and values, got int"),
        ("pyproject.toml", "[tool.at2_prune]\nenabled = false\n", r"\[tool\.at2_prune\] must be named at2-prune"),
        ("a.toml", "[at2_prune]\nenabled = false\n", r"\[at2_prune\] must be named at2-prune"),
        ("a.toml", "[tool.ruff]\n[AT2-Prune]\nenabled = false\n", r"\[AT2-Prune\] must be named at2-prune"),
        ("a.yaml", "at2_prune:\n  enabled: false\n", r"the section at2_prune must be named at2-prune"),
        ("a.json", '{"at2_prune": {}}', r"the section at2_prune must be named at2-prune"),
        ("a.yaml", "top_n: 2\norder: score\ntop_n: 5\n", r"a\.yaml: not valid YAML \(the key 'top_n' is given twice"),
        ("a.yaml", "at2-prune:\n  top_n: 2\nat2-prune:\n  top_n: 5\n", r"the key 'at2-prune' is given twice"),
        ("a.json", '{"top_n": 2, "top_n": 5}', r"a\.json: not valid JSON \(the key 'top_n' is given twice"),
        ("a.toml", "top_n = 2\ntop_n = 5\n", r"a\.toml: not valid TOML"),
        ("a.yaml", "[" * 3000, r"a\.yaml: not valid YAML \(nested too deeply\)"),
        ("a.toml", "a = " + "[" * 3000, r"a\.toml: not valid TOML \(nested too deeply\)"),
        ("a.yaml", "top_n: " + "1" * 5000, r"a\.yaml: not valid YAML \(a number has too many digits\)"),
        ("a.toml", "top_n = " + "1" * 5000, r"a\.toml: not valid TOML \(a number has too many digits\)"),
        ("a.json", '{"top_n": ' + "1" * 5000 + "}", r"a\.json: not valid JSON \(a number has too many digits\)"),
        ("a.yaml", "top_n: 2024-99-99\n", r"a\.yaml: not valid YAML \(month must be"),
        ("a.yaml", "top_n: !!bool maybe\n", r"a\.yaml: not valid YAML \(a value does not fit its tag; remove the tag"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        PruneConfig.load(write(tmp_path / name, text), environ={})


@pytest.mark.parametrize(("name", "text"), [("a.yaml", "top_n: 7\n"), ("a.toml", "top_n = 7\n")])
def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path, name: str, text: str) -> None:
    assert PruneConfig.load(write(tmp_path / name, "\ufeff" + text), environ={}).top_n == 7


def test_a_path_may_begin_with_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.yaml", "top_n: 7\ntitle_key: name\n")
    config = PruneConfig.load("~/a.yaml", environ={})
    assert (config.top_n, config.title_key) == (7, "name")
    with pytest.raises(DataError, match="cannot be read"):
        PruneConfig.load("~nobody-of-this-name/a.yaml", environ={})


def test_mistakes_in_files_name_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "top_n: none\n")
    with pytest.raises(InputError, match=r"a\.yaml: top_n must be an integer of at least 1 or auto, got 'none'"):
        PruneConfig.load(path, environ={})
    with pytest.raises(DataError, match=r"missing\.toml: cannot be read"):
        PruneConfig.load(tmp_path / "missing.toml", environ={})


def test_optional_values_can_be_unset_in_the_environment() -> None:
    assert PruneConfig.load({"max_tokens": 5}, environ={"AT2_PRUNE_MAX_TOKENS": "none"}).max_tokens is None


def test_reading_a_config_does_not_import_torch() -> None:
    code = "import sys; from at2_prune import PruneConfig; PruneConfig.load(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
