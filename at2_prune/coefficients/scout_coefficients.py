"""Defines the learned coefficients of scout, which are weights of the features of the passage index."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import ModelCard, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from transformers import PretrainedConfig

from ..errors import CoefficientsError, InputError
from ..files import user_path, write_atomically
from ..models.compatibility import attention_shape
from ..models.hub import check_reachable
from ..parsing import parse_json
from ..passage_index.features import LINKS, QUESTION
from .calibration import Calibration
from .scout_card import scout_card

__all__ = ["CosineFeature", "ScoutCoefficients", "holds_scout", "is_scout_folder"]

WEIGHTS_FILE = "scout_coefficients.safetensors"
CONFIG_FILE = "config.json"
CARD_FILE = "README.md"
FORMAT = 1
COSINE_FORMAT = 2
"""The format of coefficients with a weight for an embedder's cosine. Earlier versions cannot read this format."""
KIND = "passage_index"
FOLLOWED = 4
"""The number of first choices that a score takes into account; see `ScoutCoefficients`. They are the most probable
first choices. A link is computed only if at least one of its two sources is among them."""


@dataclass(frozen=True)
class CosineFeature:
    """The weights of the cosine feature, and the embedder that the weights were learned with.

    The cosine is that of a source's embedding and the question's embedding.
    """

    first: float
    """The weight in the first choice."""
    following: float
    """The weight in the second choice."""
    embedder: str
    """The name of the embedder: a Hub id or a path."""
    probe: tuple[float, ...]
    """The result of `Embedder.probe`. It shows whether a loaded embedder is the embedder of the training."""


@dataclass(frozen=True)
class ScoutCoefficients:
    r"""Learned coefficients of scout for one model.

    The method scout assumes that two supporting sources are chosen, one after the other. Let :math:`x(S)` be the
    features of source S from the question's rows. The first choice is S with probability :math:`p(S) =
    \mathrm{softmax}_S\ \theta \cdot x(S)`. If the first choice was R, the second choice is S with probability

    .. math:: p(S \mid R) = \mathrm{softmax}_{S \ne R}\ \big(\eta \cdot x(S) + \varphi \cdot \lambda(S, R)\big),

    where :math:`\lambda(S, R)` are the features of the link between R and S. The score of a source is its expected
    reciprocal rank in the two choices, :math:`p(S) + \tfrac12 \sum_R p(R)\, p(S \mid R)`. The sum runs over the
    `FOLLOWED` most probable first choices R. In the sum, their probabilities :math:`p(R)` are scaled to a sum of 1.

    With `cosine`, the logits of both choices have one more term: a weight times the cosine of the source's embedding
    and the question's embedding. These coefficients belong to the method scout_dense.
    """

    first: torch.Tensor
    """:math:`\\theta`, the weights of the features `passage_index.features.QUESTION` in the first choice, `(6, layers,
    heads)`."""
    following: torch.Tensor
    """:math:`\\eta`, the weights of the same features in the second choice, `(6, layers, heads)`."""
    links: torch.Tensor
    """:math:`\\varphi`, the weights of the features `passage_index.features.LINKS`, `(6, link layers, heads)`."""
    layers: tuple[int, ...]
    link_layers: tuple[int, ...]
    model_name: str = ""
    model_type: str = ""
    model_layers: int = 0
    training: dict[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None
    """The calibration, which turns scores into probabilities. Coefficients of earlier versions have no calibration."""
    cosine: CosineFeature | None = None
    """The weights of an embedder's cosine. They are None for the method scout."""

    def __post_init__(self) -> None:
        for name, tensor, groups, layers in (
            ("first", self.first, QUESTION, self.layers),
            ("following", self.following, QUESTION, self.layers),
            ("links", self.links, LINKS, self.link_layers),
        ):
            if tensor.dim() != 3 or tuple(tensor.shape[:2]) != (len(groups), len(layers)):
                raise CoefficientsError(
                    f"scout's coefficients {name!r} must have shape ({len(groups)}, {len(layers)}, heads), got "
                    f"{tuple(tensor.shape)}"
                )
            if not bool(torch.isfinite(tensor).all()):
                raise CoefficientsError(f"scout's coefficients {name!r} hold values that are not finite")
        if not set(self.link_layers) <= set(self.layers):
            raise CoefficientsError(f"link layers {list(self.link_layers)} are not among layers {list(self.layers)}")

    @property
    def method(self) -> str:
        """The name of the method that these coefficients belong to."""
        return "scout" if self.cosine is None else "scout_dense"

    @property
    def embedder_name(self) -> str | None:
        """The embedder whose cosine is a feature, or None."""
        return None if self.cosine is None else self.cosine.embedder

    def first_scores(self, features: torch.Tensor, cosines: torch.Tensor | None = None) -> torch.Tensor:
        """Return the first score of each source, which is the logit of the first choice.

        Args:
            features: the features of the question's rows, `(6, layers, heads, sources)`.
            cosines: the cosine of each source, `(sources,)`. It is used if these coefficients have a weight for it.

        Returns:
            `(sources,)` float64.

        Raises:
            CoefficientsError: the coefficients have a weight for the cosine, and `cosines` is None.
        """
        return _weighed(self.first, features) + self._of_cosines("first", cosines)

    def part_scores(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits that compare parts of the same passage, `(parts,)` float64.

        They are first scores without the cosine, because all parts of a passage have the cosine of the passage.
        """
        return _weighed(self.first, features)

    def score(
        self,
        features: torch.Tensor,
        links_of: Callable[[list[int]], torch.Tensor],
        followed: int = FOLLOWED,
        cosines: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Score sources by their expected reciprocal rank in the two choices.

        Args:
            features: the features of the question's rows, `(6, layers, heads, sources)`.
            links_of: a function that takes the indices of some sources. It returns the features of the links between
                these sources and all sources, `(some, 6, link layers, heads, sources)`.
            followed: the number of first choices in the sum.
            cosines: as in `first_scores`.

        Returns:
            The scores, `(sources,)` float64. A score lies between 0 and 1.

        Raises:
            CoefficientsError: as in `first_scores`.
        """
        first = self.first_scores(features, cosines).softmax(0)
        if len(first) < 2:
            return first
        own = _weighed(self.following, features) + self._of_cosines("following", cosines)
        leading = first.topk(min(followed, len(first)))
        second = torch.zeros_like(first)
        some, shares = leading.indices.tolist(), leading.values / leading.values.sum()
        for source, share, links in zip(some, shares, links_of(some), strict=True):
            later = own + _weighed(self.links, links)
            later[source] = -torch.inf
            second += share * later.softmax(0)
        return first + second / 2

    def _of_cosines(self, choice: Literal["first", "following"], cosines: torch.Tensor | None) -> torch.Tensor | float:
        if self.cosine is None:
            return 0.0
        if cosines is None:
            raise CoefficientsError(
                f"these coefficients need the cosines of the embedder {self.cosine.embedder}: use the method "
                "scout_dense with this embedder"
            )
        return getattr(self.cosine, choice) * cosines.double()

    def check_model(self, config: PretrainedConfig) -> None:
        """Check that these coefficients were made for a model of this kind.

        Raises:
            CoefficientsError: the model type, the number of layers or the number of heads differs. The message has the
                name of the model that the coefficients were made for, and the type of the given model.
        """
        layers, heads = attention_shape(config)
        mine = self.model_layers, self.first.shape[2]
        if (
            (self.model_type and config.model_type != self.model_type)
            or layers not in (None, mine[0])
            or heads not in (None, mine[1])
        ):
            raise CoefficientsError(
                f"these coefficients of scout were made for {self.model_name or 'another model'} (type "
                f"{self.model_type or 'unknown'}, {mine[0]} layers x {mine[1]} heads); this model is of type "
                f"{config.model_type} with {layers} layers x {heads} heads"
            )

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the coefficients and their model card into a folder. The folder is made if it does not exist."""
        path = user_path(folder)
        path.mkdir(parents=True, exist_ok=True)
        tensors = {"first": self.first, "following": self.following, "links": self.links}
        config = {
            "kind": KIND,
            "format": FORMAT if self.cosine is None else COSINE_FORMAT,
            "model_name": self.model_name,
            "model_type": self.model_type,
            "model_layers": self.model_layers,
            "layers": list(self.layers),
            "link_layers": list(self.link_layers),
            "question_features": list(QUESTION),
            "link_features": list(LINKS),
            "training": self.training,
        }
        if self.calibration is not None:
            config["calibration"] = self.calibration.to_dict()
        if self.cosine is not None:
            config["cosine"] = asdict(self.cosine)
        write_atomically(path / WEIGHTS_FILE, save({name: t.float().contiguous() for name, t in tensors.items()}))
        write_atomically(path / CONFIG_FILE, json.dumps(config, indent=2, ensure_ascii=False) + "\n")
        write_atomically(path / CARD_FILE, str(self.generate_model_card()))

    def generate_model_card(self) -> ModelCard:
        """Return the model card that `save_pretrained` writes beside the weights."""
        return scout_card(self)

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], **options: Any) -> ScoutCoefficients:
        """Load coefficients from a folder or from the Hub.

        Raises:
            CoefficientsError: there are no such coefficients, or the coefficients cannot be read.
        """

        def locate(file: str) -> Path:
            folder = user_path(name)
            return folder / file if folder.is_dir() else Path(hf_hub_download(str(name), file, **options))

        try:
            config: Mapping[str, Any] = parse_json(locate(CONFIG_FILE).read_text(encoding="utf-8"))
            wanted = (KIND, COSINE_FORMAT if "cosine" in config else FORMAT, list(QUESTION), list(LINKS))
            found = tuple(config.get(key) for key in ("kind", "format", "question_features", "link_features"))
            if found != wanted:
                raise CoefficientsError(
                    f"{name}: this version reads coefficients of kind {KIND}, format {wanted[1]}, with the features "
                    f"{', '.join([*QUESTION, *LINKS])}; the kind of these coefficients is {found[0]}, "
                    f"their format is {found[1]}, and their features may differ: train new coefficients with at2-prune "
                    "train-scout"
                )
            tensors = load_file(locate(WEIGHTS_FILE))
            return cls(
                tensors["first"],
                tensors["following"],
                tensors["links"],
                _integers(config["layers"]),
                _integers(config["link_layers"]),
                config["model_name"],
                config["model_type"],
                int(config["model_layers"]),
                config["training"],
                Calibration.from_dict(config["calibration"]) if "calibration" in config else None,
                _cosine(config["cosine"]) if "cosine" in config else None,
            )
        except CoefficientsError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise CoefficientsError(f"{name}: no coefficients of scout that can be read ({error})") from error


def is_scout_folder(folder: str | os.PathLike[str]) -> bool:
    """Return whether a folder holds coefficients of scout, and not head coefficients."""
    return (user_path(folder) / WEIGHTS_FILE).is_file()


def holds_scout(name: str | os.PathLike[str]) -> bool:
    """Return whether a folder, or a repository on the Hub, holds coefficients of scout, and not head coefficients.

    The Hub is asked only if there is no file or folder of this name. The file `config.json` names the kind of
    coefficients. If the Hub does not have this file, or cannot be reached, the result is False.
    """
    if user_path(name).exists():
        return is_scout_folder(name)
    try:
        check_reachable(name, [CONFIG_FILE])
        config = parse_json(Path(hf_hub_download(str(name), CONFIG_FILE)).read_text(encoding="utf-8"))
    except (InputError, HfHubHTTPError, OSError, ValueError):
        return False
    return isinstance(config, Mapping) and config.get("kind") == KIND


def _cosine(values: Mapping[str, Any]) -> CosineFeature:
    first, following = float(values["first"]), float(values["following"])
    if not (math.isfinite(first) and math.isfinite(following)):
        raise ValueError("the weights of the cosine are not finite")
    return CosineFeature(first, following, str(values["embedder"]), tuple(map(float, values["probe"])))


def _integers(values: Sequence[Any]) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


def _weighed(weight: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    if features.shape[:3] != weight.shape:
        raise CoefficientsError(
            f"the coefficients have shape {tuple(weight.shape)}, but the features have shape "
            f"{tuple(features.shape[:3])}"
        )
    return torch.einsum("flh,flhs->s", weight.double(), features.double())
