"""The options of `at2-prune eval`."""

from __future__ import annotations

import argparse

from at2_prune.cli.options import add_model_options, add_settings, k_or_auto, positive

from .method_choice import MAIN, RIVALS

__all__ = ["add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _add_data_options(parser.add_argument_group("data"))
    _add_method_options(parser.add_argument_group("methods"))
    faithfulness = parser.add_argument_group("faithfulness")
    faithfulness.add_argument(
        "--faithfulness",
        type=positive,
        metavar="N",
        help="measure on the first N questions how faithful scores are: LDS, top-k drop, and three tests "
        "(default: not measured)",
    )
    faithfulness.add_argument(
        "--sentences",
        type=positive,
        metavar="N",
        help="measure faithfulness with sentences as sources, on the first N questions (default: not measured)",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="write the results into this folder")
    parser.add_argument(
        "--document",
        metavar="FILE",
        help="also write the results to this Markdown page, with the figures beside the page; the folder of the page "
        "must exist (default: no page)",
    )
    parser.add_argument(
        "--cache",
        metavar="FILE",
        help="the file that keeps results between runs; the folder of the file must exist (default: a file in the "
        "user's cache)",
    )
    add_model_options(parser, reader=True)


def _add_data_options(data: argparse._ArgumentGroup) -> None:
    data.add_argument(
        "--data",
        metavar="FILE_OR_ID",
        help="questions with answers and gold passages: a file in the format of HotpotQA, 2WikiMultihopQA or MuSiQue, "
        "your own JSON lines with question, passages, answer and gold, or a Hub data set (default: the sample "
        "questions)",
    )
    data.add_argument(
        "--split", help="the split of a Hub data set (default: train, or validation for multi-hop data sets)"
    )
    data.add_argument(
        "--ids",
        metavar="FILE",
        help="a file with one id on each line. Only the questions with these ids are used, in the order of the file "
        "(default: all questions)",
    )
    data.add_argument("--limit", type=positive, metavar="N", help="use the first N questions (default: all)")
    data.add_argument("--offset", type=int, default=0, metavar="N", help="leave out the first N questions (default: 0)")
    data.add_argument(
        "--seed",
        type=int,
        metavar="S",
        help="shuffle the questions with this seed, before --limit (default: the order of the data)",
    )
    data.add_argument(
        "--type",
        nargs="+",
        metavar="T",
        help="use only questions of these types, such as bridge or comparison (default: all)",
    )
    data.add_argument(
        "--shuffle-passages",
        type=int,
        metavar="S",
        help="shuffle the passages of each question with this seed. The order of passages can change answers (default: "
        "the order of the data)",
    )
    data.add_argument("--skip-invalid", action="store_true", help="leave out rows that cannot be used, and count them")


def _add_method_options(methods: argparse._ArgumentGroup) -> None:
    methods.add_argument(
        "--methods",
        nargs="+",
        metavar="M",
        help=f"the methods to compare. all: every method that can run here (default: {', '.join(RIVALS)}, and those of "
        f"{' and '.join(MAIN)} that have coefficients for the model; at least one of these two must have them)",
    )
    methods.add_argument(
        "--k",
        type=k_or_auto,
        nargs="+",
        default=[1, 2, 3, 5],
        metavar="K",
        help="the numbers of passages to keep. auto: the reader answers from the best 1, 2, 3 and 5 passages, and the "
        "most confident answer is taken (default: 1 2 3 5)",
    )
    methods.add_argument(
        "--coefficients",
        nargs="+",
        default=[],
        metavar="[NAME=]DIR_OR_ID",
        help="coefficients, and the name of the method that uses them. Without a name, the kind of coefficients "
        "decides the method: scout for coefficients of at2-prune train-scout. For head coefficients, the measure "
        "decides: at2 for attention, contribution_learned for contribution, effective_attention_learned for effective "
        "attention (default: the coefficients that at2-prune ships for the model)",
    )
    add_settings(methods, "embedder", "cross_encoder")
