"""`at2-prune score`"""

from __future__ import annotations

import argparse

HELP = "score"
EXAMPLES = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(args: argparse.Namespace) -> None:
    pass
