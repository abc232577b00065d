from __future__ import annotations

import copy
from typing import Any

from at2_prune.models.language_model import LanguageModel
from at2_prune.passages import Passage
from at2_prune.pruning.pruner import AT2Pruner

PASSAGES = [
    Passage("Canberra is the capital of Australia. It is a city.", title="Canberra"),
    Passage("Sydney is larger than Canberra.", title="Sydney"),
    Passage("Perth lies in the west."),
    Passage("Dr. Li left. She did not say why. Nobody asked."),
]
QUESTION = "Which city is the capital?"


def with_options(pruner: AT2Pruner, **options: Any) -> AT2Pruner:
    scorer: Any = pruner.scorer
    return AT2Pruner.from_pretrained(pruner.language_model, scorer.coefficients, **{"max_new_tokens": 8, **options})


def small(pruner: AT2Pruner, context: int, **options: Any) -> AT2Pruner:
    """The same model with a shorter context."""
    model = copy.deepcopy(pruner.language_model.model)
    model.config.max_position_embeddings = context
    language_model = LanguageModel(model, pruner.language_model.tokenizer, name="tiny")
    scorer: Any = pruner.scorer
    return AT2Pruner.from_pretrained(language_model, scorer.coefficients, **{"max_new_tokens": 8, **options})
