"""`at2-prune models`"""

from __future__ import annotations

import argparse

HELP = "models"
EXAMPLES = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(args: argparse.Namespace) -> None:
    pass
