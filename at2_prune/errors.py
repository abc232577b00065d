"""Every error this package raises on purpose.

Each message says what was wrong, with which value, and what to do about it. The command line turns any
`AT2PruneError` into one line on stderr and exit code 2; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

__all__ = [
    "AT2PruneError",
    "CacheError",
    "CoefficientsError",
    "ContextTooLongError",
    "DataError",
    "EmptyDraftError",
    "InputError",
    "MissingExtraError",
    "ModelNotSupportedError",
]


class AT2PruneError(Exception):
    """Base class of the errors a user can cause and mend."""


class InputError(AT2PruneError, ValueError):
    """A value that was passed in cannot be used."""


class EmptyDraftError(InputError):
    """There is no draft to attribute: the model wrote nothing, or only thoughts, or the text given was empty."""


class ContextTooLongError(InputError):
    """Question and passages do not fit into the model's context window."""


class DataError(InputError):
    """A data file does not have the shape it should have; the message names the file, the line and the field."""


class CoefficientsError(AT2PruneError, ValueError):
    """Head coefficients that cannot be read, or that were made for another model."""


class ModelNotSupportedError(AT2PruneError):
    """The model's attention cannot be read."""


class CacheError(AT2PruneError, OSError):
    """A file this package keeps on disk cannot be written or read."""


class MissingExtraError(AT2PruneError, ImportError):
    """An optional dependency is not installed; the message holds the pip command that installs it."""

    def __init__(self, package: str, extra: str, purpose: str, command: str | None = None) -> None:
        command = command or f'pip install "at2-prune[{extra}]"'
        super().__init__(f"{purpose} needs {package}, which is not installed: {command}")
