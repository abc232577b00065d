"""Training head coefficients: collect ablations, fit, measure on held-out questions."""

from __future__ import annotations

from .collect import CollectSettings, collect_examples
from .evidence import EvidenceSettings, fit_evidence
from .examples import Example, ExampleStore
from .fit import Fidelity, FitSettings, fidelity, fit
from .trainer import TrainingReport, train

__all__ = [
    "CollectSettings",
    "EvidenceSettings",
    "Example",
    "ExampleStore",
    "Fidelity",
    "FitSettings",
    "TrainingReport",
    "collect_examples",
    "fidelity",
    "fit",
    "fit_evidence",
    "train",
]
