"""The errors that this package raises on purpose.

A message says what was wrong, with which value, and what to do. The command line prints the message of an
`AT2PruneError` on stderr and exits with code 2. It also handles an interrupt, and a stdout that cannot be written. Any
other error is a bug and keeps its traceback.
"""

from __future__ import annotations

import importlib.util

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
    "OnlyThoughtsError",
    "need_package",
    "reason_of",
]


class AT2PruneError(Exception):
    """Base class of the errors that a user can cause and correct."""


class InputError(AT2PruneError, ValueError):
    """An argument has a value that cannot be used."""


class EmptyDraftError(InputError):
    """There is nothing to attribute, because a draft or an answer is empty or holds only thoughts.

    The error is also raised if the sources are the model's thoughts, and the model wrote no thoughts.
    """


class OnlyThoughtsError(AT2PruneError):
    """There is no answer to return, because a reasoning model spent all its tokens on thoughts."""


class ContextTooLongError(InputError):
    """The question and the passages do not fit into the model's context window."""


class DataError(InputError):
    """A file cannot be read, or the data in it cannot be used.

    If the faulty file or data set is known, the message names it. If the line and the field are known, the message
    names them too.
    """


class CoefficientsError(AT2PruneError, ValueError):
    """Coefficients are missing, cannot be read, or were made for another model."""


class ModelNotSupportedError(AT2PruneError):
    """The model cannot be used, for example because its attention cannot be read."""


class CacheError(AT2PruneError, OSError):
    """A file that this package writes to disk cannot be written or read, or the installed default model is damaged."""


class MissingExtraError(AT2PruneError, ImportError):
    """An optional dependency is not installed or is too old. The message holds the pip command that installs it.

    Args:
        package: the package that is missing.
        extra: the extra of at2-prune that installs the package.
        purpose: the feature that needs the package. The message begins with these words.
        command: the pip command to show; by default the command that installs the extra.
    """

    def __init__(self, package: str, extra: str, purpose: str, command: str | None = None) -> None:
        command = command or f'pip install "at2-prune[{extra}]"'
        super().__init__(f"{purpose} needs {package}, which is not installed: {command}")


def need_package(package: str, extra: str, purpose: str, pip_name: str | None = None) -> None:
    """Raise `MissingExtraError` if a package is not installed. Call this function before a long computation.

    Args:
        package: the name under which Python imports the package.
        extra: see `MissingExtraError`.
        purpose: see `MissingExtraError`.
        pip_name: the package's name in messages. The default is the value of `package`.
    """
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(pip_name or package, extra, purpose)


def reason_of(error: BaseException) -> str:
    """Return the type and the first line of an error from another package, for use in a message of one line.

    Example:
        >>> reason_of(ValueError("no such file\\nTry another one."))
        'ValueError: no such file'
    """
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
