"""The command `at2-prune study`, which compares readers x data sets x methods x k on one page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from at2_prune.cli.options import positive
from at2_prune.errors import InputError
from at2_prune.files import check_folder

from ..study.settings import load_study

if TYPE_CHECKING:
    from tqdm.auto import tqdm

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

STAGES = ("rank", "answer", "page")
HELP = "Run readers x data sets x methods x k from a YAML file, and write one page with pooled intervals."
EXAMPLES = """examples:
  at2-prune study research/study.yaml --out runs/study
  at2-prune study research/study.yaml --out runs/study --stage rank               (each stage on its own machine)
  at2-prune study research/study.yaml --out runs/study --stage answer --only "qwen/*" --batch-size 128
  at2-prune study research/study.yaml --out runs/study --stage page               (needs only the files in DIR)

To continue an interrupted stage, give the same command again. docs/evaluation.md describes the YAML file."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", metavar="FILE", help="the study, in YAML")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="the folder for the study's files and page"
    )
    parser.add_argument("--stage", choices=STAGES, help="run only this stage (default: all three stages)")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME/DATA",
        help="with --stage rank, run only these methods and data sets; with --stage answer, run only these readers and "
        "data sets. * stands for any name (default: all)",
    )
    parser.add_argument(
        "--batch-size",
        type=positive,
        metavar="N",
        help="answer up to N prompts at once (default: the batch_size of the study on a GPU, and 1 on a CPU)",
    )


def run(args: argparse.Namespace) -> None:
    from ..study.folder import StudyFolder

    if args.only and args.stage not in ("rank", "answer"):
        raise InputError("--only needs --stage rank or --stage answer")
    study = load_study(args.study)
    folder = StudyFolder(check_folder(args.out), study, args.study)
    stages = [args.stage] if args.stage else list(STAGES)
    if not getattr(args, "verbose", False) and stages != ["page"]:
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
    if "rank" in stages:
        from ..study.rank import rank

        with _Bar() as bar:
            rank(folder, args.only, bar)
    if "answer" in stages:
        from ..study.answer import answer

        with _Bar() as bar:
            answer(folder, args.only, args.batch_size, bar)
    if "page" in stages:
        from ..study.page import write_page

        print(f"page: {write_page(folder)}")


class _Bar:
    """Shows the progress of a stage, with one bar for each part of the stage."""

    def __init__(self) -> None:
        self._bar: tqdm[None] | None = None

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, title: str, done: int, total: int) -> None:
        from tqdm.auto import tqdm

        if self._bar is None or self._bar.desc != title:
            self.__exit__()
            self._bar = tqdm(total=total, desc=title)
        self._bar.update(done - self._bar.n)
