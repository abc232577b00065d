"""Parse the command line and run a command. Each command is a module with `HELP`, `EXAMPLES`, `add_arguments`, `run`.

A command module imports torch and transformers only inside `run`, so that `--help` is quick. Other packages add
commands through the entry point group `at2_prune.commands`.
"""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from types import ModuleType
from typing import NoReturn

from .. import __version__
from ..errors import AT2PruneError
from . import answer, calibrate, cite, index, models, score, serve, train, train_scout

__all__ = ["main"]

OURS = ("at2_prune", "at2_prune_eval")
COMMANDS = {
    "answer": answer,
    "score": score,
    "cite": cite,
    "index": index,
    "train": train,
    "train-scout": train_scout,
    "calibrate": calibrate,
    "models": models,
    "serve": serve,
}
NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EIO)
"""The error numbers of a write to a full disk or a broken device."""
GROUP = "at2_prune.commands"
"""The entry point group of command modules. The name of an entry point is the name of its command."""


def commands() -> dict[str, ModuleType]:
    """Return the command modules by name: the commands of this package, then the commands of entry points."""
    registered = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return COMMANDS | {point.name: point.load() for point in registered}


class _Parser(argparse.ArgumentParser):
    """A parser that reports a wrong option in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"at2-prune: {_one_line(message)}; see {self.prog} --help\n")


class _LogHandler(logging.Handler):
    """Writes log messages to stderr, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="at2-prune",
        description="Keep the retrieved passages that a model's attention points to, and answer from them.",
        epilog="Help for one command: at2-prune COMMAND --help",
    )
    parser.add_argument("--version", action="version", version=f"at2-prune {__version__}")
    parser.add_argument("--verbose", action="store_true", help="write more log messages to stderr")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in commands().items():
        command = subparsers.add_parser(
            name,
            help=module.HELP.replace("%", "%%"),  # argparse formats the help text
            description=module.HELP,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        # The attributes of the parsed arguments, and the option of each: --answer of cite is parsed into `draft`.
        options = {one.dest: one.option_strings[-1] for one in command._actions if one.option_strings}
        command.set_defaults(run=module.run, option_of=options)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    The exit code is 0 on success, and 1 if the program that reads stdout has ended. The code is 2 after an
    `AT2PruneError`, or if stdout cannot be written. It is 130 after an interrupt. An error with code 2 prints one line
    on stderr.

    Raises:
        SystemExit: an option is wrong (code 2), or `--help` or `--version` was given (code 0).
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    _refuse_empty(parser, args)
    handler = _LogHandler()
    handler.addFilter(lambda record: args.verbose or record.levelno >= logging.WARNING or _is_ours(record.name))
    level = logging.INFO if args.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(name)s: %(message)s", handlers=[handler])
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not args.verbose:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if isinstance(sys.stdout, io.TextIOWrapper):  # the terminal's encoding may lack a character
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = args.run(args) or 0
        sys.stdout.flush()
        return code
    except AT2PruneError as error:
        print(f"at2-prune: {_one_line(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        kept = "train, train-scout, calibrate, index, eval and study keep finished work"
        print(f"at2-prune: interrupted; {kept}: give the same command again to continue", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the program that reads stdout has ended, for example `head`
        _drop_stdout()
        return 1
    except OSError as error:
        # A failed write to a file raises an `AT2PruneError`, so an `OSError` of these numbers comes from stdout.
        if error.errno not in NO_ROOM:
            raise
        _drop_stdout()
        print(f"at2-prune: cannot write the output: {error.strerror}", file=sys.stderr)
        return 2


def _refuse_empty(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse an option with an empty value, such as `--html "$PAGE"` where PAGE is not set.

    An empty question is not refused here: `read_input` checks the question.
    """
    for name, value in vars(args).items():
        if name != "question" and (value == "" or (isinstance(value, list) and "" in value)):
            parser.error(f"{args.option_of.get(name, name)} is empty: give a value, or leave the option out")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _drop_stdout() -> None:
    """Redirect stdout to the null device. The interpreter flushes stdout when it ends, and that would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_ours(logger: str) -> bool:
    """Return whether a logger belongs to at2-prune.

    Another package may set a low level on its own logger. Without this check, the messages of that logger would appear.
    """
    return logger.split(".")[0] in OURS
