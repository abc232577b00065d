"""The errors that this package raises on purpose.

A message says what was wrong, with which value, and what to do. The command line prints the message of an
`AT2PruneError` on stderr and exits with code 2. Any other error is a bug and keeps its traceback.
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
    """Base class of the errors that a user can cause and correct."""


class InputError(AT2PruneError, ValueError):
    """An argument has a value that cannot be used."""


class EmptyDraftError(InputError):
    """The draft is empty: the model wrote nothing or only thoughts, or the given text was empty."""


class ContextTooLongError(InputError):
    """The question and the passages do not fit into the model's context window."""


class DataError(InputError):
    """A file cannot be read, or its content is wrong. The message names the file and, if known, the line and field."""


class CoefficientsError(AT2PruneError, ValueError):
    """Head coefficients are missing, cannot be read, or were made for another model."""


class ModelNotSupportedError(AT2PruneError):
    """The model cannot be used, for example because its attention cannot be read."""


class CacheError(AT2PruneError, OSError):
    """A file that this package writes to disk cannot be written or read."""


class MissingExtraError(AT2PruneError, ImportError):
    """An optional dependency is not installed. The message holds the pip command that installs it.

    Args:
        package: the package that is missing.
        extra: the extra of at2-prune that installs it.
        purpose: the thing that needs the package. The message begins with these words.
        command: the command to show instead of the one that installs the extra.
    """

    def __init__(self, package: str, extra: str, purpose: str, command: str | None = None) -> None:
        command = command or f'pip install "at2-prune[{extra}]"'
        super().__init__(f"{purpose} needs {package}, which is not installed: {command}")
