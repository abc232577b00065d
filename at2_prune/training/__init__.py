"""Training of coefficients: collect examples, fit coefficients, and measure the fit on held-out questions."""

from __future__ import annotations

from .collect import CollectSettings, collect_examples
from .examples import Example, ExampleStore, check_store
from .fit import Fidelity, FitSettings, fidelity, fit
from .scout import ScoutReport, check_ids, train_scout
from .scout_fit import ScoutSettings
from .settings import TrainingData, TrainingSettings, check_evidence
from .trainer import TrainingReport, train

__all__ = [
    "CollectSettings",
    "Example",
    "ExampleStore",
    "Fidelity",
    "FitSettings",
    "ScoutReport",
    "ScoutSettings",
    "TrainingData",
    "TrainingReport",
    "TrainingSettings",
    "check_evidence",
    "check_ids",
    "check_store",
    "collect_examples",
    "fidelity",
    "fit",
    "train",
    "train_scout",
]
