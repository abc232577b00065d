"""The built wheel, installed by pip into clean environments: with each framework alone, with all, with none.

An environment has at2-prune from the wheel and, linked from the environment that runs the tests, every distribution
that pip would bring for the extras asked for, and no other.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable, Iterable
from email.message import Message
from email.parser import HeaderParser
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from at2_prune import LanguageModel, __version__

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ADAPTERS = {
    "langchain": "langchain_at2_prune",
    "llama-index": "llama_index.postprocessor.at2_prune",
    "haystack": "haystack_at2_prune",
}
SIBLING = "llama_index/postprocessor/sibling/__init__.py"

Run = Callable[[str], str]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as files:
        name = next(name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(files.read(name).decode())


def requirements(wheel: Path) -> list[str]:
    return metadata(wheel).get_all("Requires-Dist", [])


def needed(lines: Iterable[str], extras: set[str], found: dict[tuple[str, str], None]) -> None:
    """Adds to `found` what pip installs for these requirements, as (distribution, extra)."""
    for line in lines:
        requirement = Requirement(line)
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            continue
        name = canonicalize_name(requirement.name)
        new = [(name, extra) for extra in ("", *requirement.extras) if (name, extra) not in found]
        found.update(dict.fromkeys(new))
        try:
            further = distribution(name).requires or []
        except PackageNotFoundError:
            pytest.skip(f"{name} is not installed here")
        if new:
            needed(further, set(requirement.extras), found)


def link(name: str, site: Path) -> None:
    """A distribution's files in another environment; of the namespace package llama_index, its parts."""
    installed = distribution(name)
    for file in installed.files or ():
        if file.parts[0] in ("..", "__pycache__"):
            continue
        deep = file.parts[0] == "llama_index"
        part = Path(*file.parts[: 2 if deep else 1])
        target = site / part
        if not target.is_symlink():
            target.parent.mkdir(exist_ok=True)
            target.symlink_to(Path(str(installed.locate_file(part))).resolve())


@pytest.fixture(scope="session")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    made: dict[tuple[str, ...], Run] = {}

    def environment(*extras: str) -> Run:
        """What runs code in the environment of `pip install at2-prune[extras]`."""
        if extras in made:
            return made[extras]
        folder = tmp_path_factory.mktemp("-".join(extras) or "neither")
        venv.create(folder, symlinks=True)
        python = folder / "bin" / "python"
        found = subprocess.check_output([python, "-Ic", "import sysconfig; print(sysconfig.get_path('purelib'))"])
        site = Path(found.decode().strip())
        everything: dict[tuple[str, str], None] = {}
        needed(requirements(wheel), set(extras), everything)
        for name in {name for name, _ in everything}:
            link(name, site)
        (site / SIBLING).parent.mkdir(parents=True)
        (site / SIBLING).write_text("NAME = 'another integration'\n")
        install = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-index", "--no-deps", wheel]
        subprocess.run(install, check=True, capture_output=True)

        def run(code: str) -> str:
            environ = {"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", "HOME": str(folder)}
            done = subprocess.run([python, "-Ic", code], capture_output=True, text=True, env=environ, cwd=folder)
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        return made.setdefault(extras, run)

    return environment


@pytest.fixture
def tiny_folder(tiny_lm: LanguageModel, tmp_path: Path) -> str:
    tiny_lm.model.save_pretrained(tmp_path)
    tiny_lm.tokenizer.save_pretrained(tmp_path)
    return str(tmp_path)


SETTINGS = """
import json
options = dict(model={model!r}, method="average_attention", top_n=2, max_new_tokens=4)
texts = ["Dinant lies on the Meuse.", "Ghent is a city.", "Adolphe Sax was born in Dinant.", "A reed is a plant."]
"""
PRUNE = {
    "langchain": """
from langchain_at2_prune import AT2DocumentCompressor
from langchain_core.documents import Document
kept = AT2DocumentCompressor(**options).compress_documents([Document(text) for text in texts], "Which river?")
print(json.dumps([document.page_content for document in kept]))
""",
    "llama-index": """
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.at2_prune import AT2Postprocessor
nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts]
kept = AT2Postprocessor(**options).postprocess_nodes(nodes, query_str="Which river?")
print(json.dumps([node.text for node in kept]))
""",
    "haystack": """
from haystack import Document
from haystack_at2_prune import AT2DocumentPruner
documents = [Document(content=text) for text in texts]
kept = AT2DocumentPruner(**options).run("Which river?", documents)["documents"]
print(json.dumps([document.content for document in kept]))
""",
}


def test_what_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        names = [name for name in files.namelist() if ".dist-info/" not in name]
    assert {name.split("/")[0] for name in names} == {
        "at2_prune",
        "at2_prune_eval",
        "haystack_at2_prune",
        "langchain_at2_prune",
        "llama_index",
    }
    ours = "llama_index/postprocessor/at2_prune/"
    assert all(name.startswith(ours) for name in names if name.startswith("llama_index/"))
    packages = ("at2_prune/", "at2_prune_eval/", "langchain_at2_prune/", "haystack_at2_prune/", ours)
    assert {f"{package}py.typed" for package in packages} <= set(names)
    kept = {path.relative_to(ROOT).as_posix() for path in (ROOT / "at2_prune" / "data").rglob("*") if path.is_file()}
    assert kept <= set(names)


def test_the_version_is_the_package_s(wheel: Path) -> None:
    assert metadata(wheel)["Version"] == __version__


@pytest.mark.parametrize("extra", ADAPTERS)
def test_one_framework_alone(environment: Callable[..., Run], tiny_folder: str, extra: str) -> None:
    run = environment(extra)
    kept = json.loads(run(SETTINGS.format(model=tiny_folder) + PRUNE[extra]))
    assert len(kept) == 2
    for other in ADAPTERS.keys() - {extra}:
        assert missing(run, ADAPTERS[other]) == f'pip install "at2-prune[{other}]"'


def test_all(environment: Callable[..., Run], tiny_folder: str) -> None:
    run = environment(*ADAPTERS)
    kept = list(map(json.loads, run(SETTINGS.format(model=tiny_folder) + "".join(PRUNE.values())).splitlines()))
    assert kept == [kept[0]] * len(ADAPTERS)


def test_neither(environment: Callable[..., Run]) -> None:
    run = environment()
    assert run("from at2_prune import AT2Pruner, PruneConfig; print(AT2Pruner.__name__)") == "AT2Pruner"
    for extra, adapter in ADAPTERS.items():
        assert missing(run, adapter) == f'pip install "at2-prune[{extra}]"'


@pytest.mark.parametrize("extras", [("llama-index",), ("langchain", "llama-index")])
def test_other_integrations_of_llama_index(environment: Callable[..., Run], extras: tuple[str, ...]) -> None:
    code = """
import llama_index, llama_index.postprocessor, llama_index.core
import llama_index.postprocessor.at2_prune, llama_index.postprocessor.sibling
from llama_index.core.postprocessor import LLMRerank
print(llama_index.__file__, llama_index.postprocessor.__file__, llama_index.postprocessor.sibling.NAME)
"""
    assert environment(*extras)(code) == "None None another integration"


def missing(run: Run, adapter: str) -> str:
    """The pip command in the error of an adapter whose framework is not there."""
    code = f"""
from at2_prune.errors import MissingExtraError
try:
    import {adapter}
except MissingExtraError as error:
    print(error)
"""
    found = re.search(r"not installed: (pip install .*)$", run(code))
    return found[1] if found else "no error"
