"""The coefficients of models that none come with at2-prune for. They are learned once and kept in the cache."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from filelock import FileLock
from tqdm.auto import tqdm

from ..coefficients.scout_coefficients import ScoutCoefficients
from ..errors import CacheError, CoefficientsError
from ..models.default_model import cache_folder
from ..models.language_model import LanguageModel
from ..passage_index.index import fingerprint
from ..progress import shown
from ..training.settings import TrainingData
from .calibrate import calibrate
from .questions import SHIPPED, digest_of, shipped_questions

__all__ = ["cached_folder", "calibrated_coefficients", "switched_off"]

SWITCH = "AT2_PRUNE_CALIBRATE"
"""The environment variable that switches calibration off."""

logger = logging.getLogger(__name__)


def cached_folder(language_model: LanguageModel) -> Path:
    """Return the folder in the cache for the coefficients of a model. It depends on the model's weights."""
    return cache_folder() / "scout" / fingerprint(language_model.model)


def switched_off() -> bool:
    """Return whether the environment says `AT2_PRUNE_CALIBRATE=off`."""
    return os.environ.get(SWITCH, "").strip().lower() in ("off", "false", "no", "0")


def calibrated_coefficients(language_model: LanguageModel) -> ScoutCoefficients:
    """Return the coefficients of a model from the cache. If there are none, calibrate the model first.

    The first call for a model takes about as long as reading 1,000 passages with a third of its layers. A progress bar
    shows how far it is. Of several processes that need the same coefficients, one calibrates and the others wait.

    Raises:
        ModelNotSupportedError: the model's attention cannot be read.
        CacheError: the cache cannot be written.
    """
    folder = cached_folder(language_model)
    if (found := _load(folder)) is not None:
        return found
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if (found := _load(folder)) is not None:  # another process was faster
                return found
            return _calibrate(language_model, folder)
    except OSError as error:
        raise CacheError(
            f"the coefficients of {language_model.name} cannot be kept in {folder} ({error}): set AT2_PRUNE_CACHE to a "
            "folder that can be written"
        ) from error


def _calibrate(language_model: LanguageModel, folder: Path) -> ScoutCoefficients:
    questions = shipped_questions()
    logger.warning(
        "no coefficients of scout come with at2-prune for %s: they are learned once from %d questions, and kept in %s",
        language_model.name,
        len(questions),
        folder,
    )
    work = folder.with_name(f"{folder.name}-{digest_of(questions)}")
    bar = tqdm(total=len(questions), desc="calibrating", unit="question", disable=shown() is False)
    with bar:
        report = calibrate(language_model, [TrainingData(questions, SHIPPED)], work, bar.update)
    folder.mkdir(exist_ok=True)
    report.coefficients.save_pretrained(folder)
    shutil.rmtree(work, ignore_errors=True)
    return report.coefficients


def _load(folder: Path) -> ScoutCoefficients | None:
    """Return the coefficients in a folder. Return None if there are none, or if they cannot be read any more."""
    if not folder.is_dir():
        return None
    try:
        return ScoutCoefficients.from_pretrained(folder)
    except CoefficientsError:
        return None
