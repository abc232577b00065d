"""`at2-prune demo`"""

from __future__ import annotations

import argparse

HELP = "demo"
EXAMPLES = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(args: argparse.Namespace) -> None:
    pass
