"""`at2-prune answer`"""

from __future__ import annotations

import argparse

HELP = "answer"
EXAMPLES = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(args: argparse.Namespace) -> None:
    pass
