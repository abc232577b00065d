"""`at2-prune evaluate`"""

from __future__ import annotations

import argparse

HELP = "evaluate"
EXAMPLES = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(args: argparse.Namespace) -> None:
    pass
