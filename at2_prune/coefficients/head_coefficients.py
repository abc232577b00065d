"""Defines head coefficients: one learned weight per row group, layer and head.

The score of source :math:`S` is the inner product of the coefficients :math:`\\theta` and the source's attention mass
:math:`m`. It is a sum over row groups :math:`g`, layers :math:`l` and heads :math:`h`:

.. math:: \\tau(S) = \\sum_{g, l, h} \\theta_{g,l,h}\\, m_{g,l,h}(S)

AT2 (arXiv 2504.13752, section 3) has one row group, the rows of the draft; see `at2_prune.attention.rows`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, ModelHubMixin, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from transformers import PretrainedConfig

from ..attention.rows import DRAFT_ROWS, RowGroup
from ..catalogue import REMOVED
from ..errors import CoefficientsError, InputError, reason_of
from ..files import user_path, write_atomically
from ..models.compatibility import attention_shape
from ..models.hub import check_reachable
from ..parsing import parse_json
from .model_card import model_card

__all__ = ["HeadCoefficients"]

WEIGHTS_FILE = "head_coefficients.safetensors"
CONFIG_FILE = "config.json"
FORMAT = 1


class HeadCoefficients(
    ModelHubMixin,
    library_name="at2-prune",
    tags=["at2-prune", "context-attribution"],
    repo_url="https://arxiv.org/abs/2504.13752",
):
    """Learned head coefficients for one model.

    The score of a source is :math:`\\tau(S) = \\sum_{g,l,h} \\theta_{g,l,h}\\, m_{g,l,h}(S)` over row groups, layers
    and heads (AT2, arXiv 2504.13752, section 3).

    The coefficients are saved as a safetensors file and a `config.json`. `save_pretrained`, `from_pretrained` and
    `push_to_hub` follow the conventions of Hugging Face. Loading fails if a file is missing or a
    shape is wrong. It also fails if `config.json` lacks a key. Only the key `model_layers` may be missing.

    Args:
        weight: the coefficients, `(row groups, layers, heads)`.
        row_groups: the row groups of the first axis. At least one row group must have the rows `draft`.
        layers: for each entry of the second axis, the index of the layer in the model. By default, the indices are 0,
            1, and so on.
        model_name: the name of the model that the coefficients were made for.
        model_type: the `config.model_type` of that model.
        training: the record of the training, such as data, prompt, ablations, training curve and fidelity. It may
            contain JSON values only.
        model_layers: the number of layers of the model. By default, it is one more than the largest index in `layers`.

    Raises:
        CoefficientsError: the shapes do not agree, a value is not finite, or no row group has the rows `draft`.

    Example:
        >>> coefficients = HeadCoefficients.average(layers=2, heads=4, model_type="llama")
        >>> coefficients.weight.shape
        torch.Size([1, 2, 4])
        >>> mass = {RowGroup("draft"): torch.ones(2, 4, 3)}  # (layers, heads, sources)
        >>> coefficients.score(mass)
        tensor([1., 1., 1.])
    """

    def __init__(
        self,
        weight: torch.Tensor,
        row_groups: Sequence[RowGroup] = (DRAFT_ROWS,),
        layers: Sequence[int] | None = None,
        model_name: str = "",
        model_type: str = "",
        training: Mapping[str, Any] | None = None,
        model_layers: int | None = None,
    ) -> None:
        self.weight = weight.detach().float().cpu()
        self.row_groups = tuple(row_groups)
        _check_rows([group.rows for group in self.row_groups])
        if self.weight.dim() != 3 or self.weight.shape[0] != len(self.row_groups):
            raise CoefficientsError(
                f"head coefficients must have shape (row groups, layers, heads) with {len(self.row_groups)} row "
                f"groups, got {tuple(weight.shape)}"
            )
        if not torch.isfinite(self.weight).all():
            raise CoefficientsError("head coefficients hold values that are not finite")
        self.layers = list(range(self.weight.shape[1])) if layers is None else [int(layer) for layer in layers]
        if len(self.layers) != self.weight.shape[1]:
            raise CoefficientsError(f"got {len(self.layers)} layer indices for {self.weight.shape[1]} layers")
        self.model_name = model_name
        self.model_type = model_type
        self.training = dict(training or {})
        self.model_layers = max(self.layers, default=-1) + 1 if model_layers is None else model_layers

    @classmethod
    def average(cls, layers: int, heads: int, model_type: str = "") -> HeadCoefficients:
        """Make coefficients that are all equal. Scores are then the average attention mass over layers and heads.

        Training on ablations starts from equal coefficients too.

        Args:
            layers: the number of layers of the model.
            heads: the number of attention heads of a layer.
            model_type: the `config.model_type` of the model.
        """
        return cls(torch.full((1, layers, heads), 1 / (layers * heads)), model_type=model_type)

    def score(self, mass: Mapping[RowGroup, torch.Tensor], layers: Sequence[int] | None = None) -> torch.Tensor:
        """Score sources by their attention mass.

        Args:
            mass: the attention mass of every row group, `(layers, heads, sources)`.
            layers: the indices of the layers in `mass`. By default, they are the layers of the coefficients.

        Returns:
            The scores, `(sources,)` float32. They can be compared within one question only.

        Raises:
            CoefficientsError: a row group or a layer is missing in `mass`, or the number of layers or heads is wrong.
        """
        missing = [group.name for group in self.row_groups if group not in mass]
        if missing:
            raise CoefficientsError(f"the attention mass of row groups {missing} was not read")
        read = self.layers if layers is None else list(layers)
        places = [read.index(layer) for layer in self.layers if layer in read]
        total = torch.zeros(())
        for weight, group in zip(self.weight, self.row_groups, strict=True):
            shape = tuple(mass[group].shape[:2])
            if len(places) != len(self.layers) or shape != (len(read), self.weight.shape[2]):
                raise CoefficientsError(
                    f"the coefficients made for {self.model_name or 'a model'} have shape (layers, heads) "
                    f"{tuple(self.weight.shape[1:])} on layers {self.layers}, but attention was read with shape "
                    f"{shape} on layers {read}"
                )
            total = total + torch.einsum("lh,lhs->s", weight, mass[group][places].float().cpu())
        return total

    def check_model(self, config: PretrainedConfig) -> None:
        """Check that these coefficients were made for a model of this kind.

        Raises:
            CoefficientsError: the model type, the number of layers or the number of heads differs. The message has the
                name of the model that the coefficients were made for, and the type of the given model.
        """
        shape = attention_shape(config)
        mine = (self.model_layers, self.weight.shape[2])
        other_type = self.model_type and config.model_type != self.model_type
        if other_type or any(its not in (None, own) for its, own in zip(shape, mine, strict=True)):
            raise CoefficientsError(
                f"these head coefficients were made for {self.model_name or 'another model'} (type "
                f"{self.model_type or 'unknown'!s}, {mine[0]} layers x {mine[1]} heads); this model is of type "
                f"{config.model_type} with {shape[0]} layers x {shape[1]} heads"
            )

    def save_pretrained(self, save_directory: str | os.PathLike[str], **options: Any) -> str | None:
        """Write the coefficients and their model card into a folder.

        Args:
            save_directory: the folder. It is made if it does not exist.
            **options: options of `ModelHubMixin.save_pretrained`, such as `push_to_hub`.
        """
        saved: str | None = super().save_pretrained(user_path(save_directory), **options)
        return saved

    def _save_pretrained(self, save_directory: Path) -> None:
        config = {
            "format": FORMAT,
            "model_name": self.model_name,
            "model_type": self.model_type,
            "layers": self.layers,
            "model_layers": self.model_layers,
            "heads": self.weight.shape[2],
            "row_groups": [asdict(group) for group in self.row_groups],
            "training": self.training,
        }
        weights = save({"weight": self.weight.contiguous()})  # save_file makes files that only the owner can read
        write_atomically(save_directory / WEIGHTS_FILE, weights)
        write_atomically(save_directory / CONFIG_FILE, json.dumps(config, indent=2, ensure_ascii=False) + "\n")

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Return the model card that `save_pretrained` writes beside the weights."""
        return model_card(self)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **options: Any
    ) -> HeadCoefficients:
        """Load coefficients from a folder or from the Hub.

        Args:
            pretrained_model_name_or_path: a folder that `save_pretrained` wrote, or a repository on the Hub.
            **options: options of `ModelHubMixin.from_pretrained`, such as `revision` and `token`.

        Raises:
            CoefficientsError: there are no coefficients, or the coefficients cannot be read.
        """
        pretrained_model_name_or_path = os.path.expanduser(os.fspath(pretrained_model_name_or_path))
        folder = Path(pretrained_model_name_or_path)
        if folder.is_dir() and not (folder / CONFIG_FILE).is_file():  # the mixin would only log this
            raise CoefficientsError(f"{folder}: no head coefficients that can be read (it has no {CONFIG_FILE})")
        try:
            check_reachable(pretrained_model_name_or_path, [CONFIG_FILE], options)
        except InputError as error:
            raise CoefficientsError(str(error)) from error
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **options)
        except CoefficientsError:
            raise
        # The mixin parses config.json before `_from_pretrained` runs, so errors of the parser can arrive here.
        except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
            raise CoefficientsError(
                f"{pretrained_model_name_or_path!r} is neither a folder with head coefficients that can be read "
                f"nor a repository that can be loaded from the Hub ({reason_of(error)})"
            ) from error

    @classmethod
    def _from_pretrained(  # type: ignore[override]
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **_: Any,
    ) -> HeadCoefficients:
        def locate(name: str) -> Path:
            if Path(model_id).is_dir():
                return Path(model_id) / name
            try:
                return Path(
                    hf_hub_download(
                        model_id,
                        name,
                        revision=revision,
                        cache_dir=cache_dir,
                        force_download=force_download,
                        local_files_only=local_files_only,
                        token=token,
                    )
                )
            except (EntryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
                raise CoefficientsError(
                    f"{model_id!r} is neither a folder with {name} nor a repository that can be loaded from the Hub "
                    f"({reason_of(error)})"
                ) from error

        path = locate(CONFIG_FILE)
        try:
            config = parse_json(path.read_text(encoding="utf-8"))
            weight = load_file(locate(WEIGHTS_FILE))
            rows = [group["rows"] for group in config["row_groups"]]
            groups = [RowGroup(**group) for group in config["row_groups"] if group["rows"] != "sources"]
            layers, heads, model_name, model_type, training = (
                config[key] for key in ("layers", "heads", "model_name", "model_type", "training")
            )
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise CoefficientsError(
                f"{model_id}: no head coefficients that can be read ({reason_of(error)})"
            ) from error
        _check_rows(rows)
        if config.get("format") != FORMAT or set(weight) != {"weight"}:
            raise CoefficientsError(
                f"{model_id}: it has format {config.get('format')!r} with tensors {sorted(weight)}, but this version "
                f"reads format {FORMAT} with one tensor, 'weight'"
            )
        expected = (len(groups), len(layers), heads)
        if tuple(weight["weight"].shape) != expected:
            raise CoefficientsError(
                f"{model_id}: the weights have shape {tuple(weight['weight'].shape)}, but the config says {expected}"
            )
        return cls(weight["weight"], groups, layers, model_name, model_type, training, config.get("model_layers"))

    @classmethod
    def from_at2_estimator(
        cls, source: str | os.PathLike[str], config: PretrainedConfig | None, model_name: str = ""
    ) -> HeadCoefficients:
        """Make head coefficients from an estimator that AT2's authors published. Pickled code is never executed.

        Args:
            source: the path of a `score_estimator.pt`, or a Hub id such as `madrylab/at2-phi-4-mini-instruct`.
            config: the config of the model that the estimator was made for. With None, all weights are in one layer.
            model_name: the name of the model to record. By default, it is the source.

        Raises:
            CoefficientsError: the file is not a published estimator, or the estimator was made for a model with another
                number of layers or heads.
        """
        source = os.path.expanduser(os.fspath(source))
        path = Path(source)
        try:
            check_reachable(source, ["score_estimator.pt"])
            if not path.is_file():
                path = Path(hf_hub_download(source, "score_estimator.pt"))
            data = torch.load(path, map_location="cpu", weights_only=True)
            weight = data["state_dict"]["linear.weight"].float()
        except Exception as error:  # torch.load raises errors of many types
            raise CoefficientsError(
                f"{source}: not a published AT2 estimator that can be read safely ({reason_of(error)})"
            ) from error
        layers, heads = (1, weight.numel()) if config is None else attention_shape(config)
        model_type = "" if config is None else config.model_type
        if layers is None or heads is None:
            raise CoefficientsError(
                f"{source}: the config of a {model_type!r} model does not say how many layers and heads it has, "
                "so the estimator cannot be reshaped; pass the config of the model that the estimator was made for"
            )
        if tuple(weight.shape) != (1, layers * heads):
            raise CoefficientsError(
                f"{source}: the estimator has shape {tuple(weight.shape)}; a model with {layers} layers x {heads} "
                f"heads needs {(1, layers * heads)}"
            )
        return cls(
            weight.reshape(1, layers, heads),
            model_name=model_name or source,
            model_type=model_type,
            training={"imported_from": source, "method": "AT2 as published"},
        )


def _check_rows(rows: Sequence[str]) -> None:
    """Raise `CoefficientsError` for coefficients of the method `prompt_scout`, which was removed.

    Such coefficients have no row group with the rows `draft`, or they have one with the rows `sources`. Only version
    0.1 of at2-prune could read the rows `sources`.
    """
    if "draft" not in rows or "sources" in rows:
        raise CoefficientsError(
            f"coefficients of the method prompt_scout cannot be used, because {REMOVED['prompt_scout'].advice}"
        )
