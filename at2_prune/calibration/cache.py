"""Learns coefficients for models without shipped coefficients, once for each model, and keeps them in the cache."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from tqdm.auto import tqdm

from ..coefficients.scout_coefficients import ScoutCoefficients
from ..errors import CacheError, CoefficientsError, InputError
from ..files import check_folder, user_path
from ..models.default_model import cache_folder
from ..models.fingerprint import fingerprint
from ..models.language_model import LanguageModel
from ..parsing import parse_switch
from ..progress import shown
from ..training.settings import TrainingData
from .calibrate import CalibrationReport, calibrate
from .questions import digest_of, shipped_data

__all__ = ["cached_folder", "calibrate_in_cache", "calibrated_coefficients", "check_cache", "switched_off"]

SWITCH = "AT2_PRUNE_CALIBRATE"
"""The environment variable that switches calibration off."""

logger = logging.getLogger(__name__)


def cached_folder(language_model: LanguageModel, embedder: str | None = None) -> Path:
    """Return the folder in the cache for the coefficients of a model.

    The folder's name depends on the model's weights. With an embedder, it depends on the embedder's path or name too.
    """
    name = fingerprint(language_model.model)
    if embedder is not None:
        path = user_path(embedder)
        where = str(path.resolve()) if path.exists() else embedder
        name += f"-{hashlib.sha256(where.encode()).hexdigest()[:16]}"
    return cache_folder() / "scout" / name


def switched_off() -> bool:
    """Return whether the environment variable `AT2_PRUNE_CALIBRATE` switches calibration off.

    Raises:
        InputError: the variable is set, but its value means neither on nor off.
    """
    said = os.environ.get(SWITCH, "").strip()
    if said and parse_switch(said) is None:
        raise InputError(f"environment variable {SWITCH} must be on or off, got {said!r:.80}")
    return parse_switch(said) is False


def check_cache(may_hold_coefficients: bool = False) -> None:
    """Check that coefficients can be kept in the cache. The check needs no model.

    Args:
        may_hold_coefficients: whether the cache may hold the coefficients already. If True and the folder `scout` of
            the cache exists, the check passes. It then does not test whether this folder can be written.

    Raises:
        CacheError: the coefficients cannot be kept in the cache.
    """
    folder = cache_folder() / "scout"
    if may_hold_coefficients and os.path.isdir(folder):
        return
    try:
        check_folder(folder)
    except (InputError, CacheError) as error:
        raise CacheError(
            f"coefficients cannot be kept in the cache ({error}): set AT2_PRUNE_CACHE to a folder that can be written"
        ) from None


def calibrated_coefficients(language_model: LanguageModel, embedder: str | None = None) -> ScoutCoefficients:
    """Return the coefficients of a model from the cache. If the cache holds none, calibrate the model first.

    The first call for a model reads about 85,000 tokens with a third of the model's layers, so it takes some time.
    A progress bar counts the questions. If several processes need the same coefficients, one process calibrates and the
    other processes wait.

    Args:
        language_model: the model.
        embedder: an embedder. With an embedder, the coefficients are those of the method scout_dense.

    Raises:
        InputError: the embedder cannot be loaded.
        ModelNotSupportedError: the model's attention cannot be read.
        CacheError: the cache cannot be written.
    """
    folder = cached_folder(language_model, embedder)
    if (found := _load(folder)) is not None:
        return found
    with _locked(language_model, folder):
        if (found := _load(folder)) is not None:  # another process has calibrated the model in the meantime
            return found
        data = shipped_data()
        logger.warning(
            "no coefficients of %s come with at2-prune for %s: at2-prune now learns them from %d questions, and keeps "
            "them in %s",
            "scout" if embedder is None else f"scout_dense with {embedder}",
            language_model.name,
            len(data.questions),
            folder,
        )
        with tqdm(total=len(data.questions), desc="calibrating", unit="question", disable=shown() is False) as bar:
            return _calibrate(language_model, [data], folder, bar.update, embedder).coefficients


def calibrate_in_cache(
    language_model: LanguageModel,
    data: Sequence[TrainingData],
    progress: Callable[[], None] = lambda: None,
    embedder: str | None = None,
) -> CalibrationReport:
    """Calibrate a model as `calibrate` does, and keep the coefficients in the cache.

    The new coefficients replace earlier coefficients of the model in the cache.

    Args:
        language_model: as in `calibrate`.
        data: as in `calibrate`.
        progress: as in `calibrate`.
        embedder: as in `calibrate`.

    Raises:
        DataError, InputError, ModelNotSupportedError, CacheError: as in `calibrate`.
    """
    folder = cached_folder(language_model, embedder)
    with _locked(language_model, folder):
        return _calibrate(language_model, data, folder, progress, embedder)


@contextmanager
def _locked(language_model: LanguageModel, folder: Path) -> Iterator[None]:
    """Lock a folder of the cache, so that only one process at a time works on it."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{folder}.lock")
        lock.acquire()
    except OSError as error:
        raise CacheError(
            f"the coefficients of {language_model.name} cannot be kept in {folder} ({error}): set AT2_PRUNE_CACHE to a "
            "folder that can be written"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _calibrate(
    language_model: LanguageModel,
    data: Sequence[TrainingData],
    folder: Path,
    progress: Callable[[], None],
    embedder: str | None,
) -> CalibrationReport:
    """Calibrate a model in a work folder, then save the coefficients in `folder` and remove the work folder.

    If the run is interrupted, the next run with the same questions uses the examples in the work folder. The name of
    the work folder depends on the questions, so a run with other questions does not use these examples.
    """
    work = folder.with_name(f"{folder.name}-{digest_of([question for one in data for question in one.questions])}")
    report = calibrate(language_model, data, work, progress, embedder)
    report.coefficients.save_pretrained(folder)
    shutil.rmtree(work, ignore_errors=True)
    return report


def _load(folder: Path) -> ScoutCoefficients | None:
    """Return the coefficients in a folder. The result is None if there are none, or if they cannot be read."""
    if not folder.is_dir():
        return None
    try:
        return ScoutCoefficients.from_pretrained(folder)
    except CoefficientsError:
        return None
