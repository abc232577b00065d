"""The paragraphs that explain a page's tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..tables.cells import estimate
from ..tables.cost import has_reader

__all__ = ["EARLIER_SCOUT", "FAITHFULNESS", "KEPT", "MODES", "MODES_OF_READER", "NOT_INDEPENDENT", "about_cost"]

NOT_INDEPENDENT = (
    "All comparisons are made on the same questions, so they are not independent of one another. The intervals are not "
    "widened for the number of comparisons."
)
EARLIER_SCOUT = (
    "Scout is here the form of version 0.1, which read all passages in one prompt. This form has been removed from "
    "at2-prune. The scout of today is measured on other pages."
)
COST = (
    "These costs are measured, per question. One pass is the model's work for a forward pass over the whole prompt; a "
    "backward pass counts as two passes. A method that needs the draft pays one more pass for the draft, in which "
    "attention is read as well. The work of encoders is counted in seconds, but not in passes. Seconds depend on the "
    "other work of the machine, but passes do not. The column `seconds in all` holds means. It includes the draft if "
    "the method needs one. The writing of the answer from the kept passages is not included. Memory is the peak above "
    "the model's own memory, if the system reports the peak."
)
READ_APART = (
    "Contribution and effective attention were each read in a separate pass. The seconds of this pass are counted. The "
    "pass itself is not counted, because a pruner reads these measures while the draft is written."
)
TWO_MODELS = (
    "Two models share the work, each with its own prompt. The scorer is {scorer}, which chooses the passages. The "
    "reader is {reader}, which writes drafts and answers. The scorer reads the finished draft in a pass of its own. "
    "The seconds of both models include the reader's draft."
)
ABLATED = (
    "Ablations run in batches, in which shared prefixes run once. The cost of an ablation is its share of the cost of "
    "the batch. A surrogate with more ablations also runs all ablations of a surrogate with fewer ablations."
)
FAITHFULNESS = (
    "LDS is the rank correlation, over random ablations, between the measured log-odds of the draft and the sum of the "
    "kept sources' scores. Ablations keep different numbers of sources, so LDS depends on the level of scores as well "
    "as on their order. "
    "Top-k drop is the draft's log-probability from all sources, minus its log-probability without the k best sources. "
    "τ is Kendall's rank correlation between a method's scores and the scores of another method. "
    "Same answer is the share of questions for which the answer from the k best sources is the draft. This share is "
    "given for the scores, and for the scores after they were permuted among the sources. "
    "If the interval of the difference contains 0, this test does not show that the scores matter. "
    "τ by content and τ by position compare the scores before and after the passages are shuffled. By content, each "
    "source is matched with itself. By position, each source is matched with the source that took its place."
)
MODES = (
    "This is the whole cost of each mode, per question, in forward passes over the prompt with all passages. It is "
    "the sum of two costs: the passes to choose passages, with a draft if the mode writes a draft, and the passes to "
    "read the kept passages before the answer is written. Without pruning, all passages are read once. `auto` reads "
    "the best 1, 2, 3 and 5 passages, with their shared prefix once, and takes the most confident answer. The work of "
    "an embedder and the writing of answers are not counted. `auto` writes four answers, so it takes more time than "
    "its number of passes suggests. The part of the way to the oracle is the gain in F1 over no pruning, divided by "
    "the oracle's gain. The interval is the interval of this ratio on the same questions."
)
MODES_OF_READER = (
    " These passes are passes of the reader. The passes of the scoring model are in the table of the cost of choosing."
)
KEPT = (
    "These are the precision, recall and F1 of the gold passages among the kept passages. `both gold` is the share of "
    "questions for which every gold passage was kept."
)


def about_cost(results: Mapping[str, Any]) -> str:
    """Return the paragraph before the table of costs: how costs were measured, and the cost of the draft."""
    methods, config = results["methods"], results.get("config", {})
    parts = [COST]
    if has_reader(results):
        parts.append(TWO_MODELS.format(scorer=config["model"], reader=config["reader"]["model"]))
    elif any(name.startswith(("contribution", "effective_attention")) for name in methods):
        parts.append(READ_APART)
    if any(name.startswith("surrogate") for name in methods):
        parts.append(ABLATED)
    if any(method["uses_draft"] for method in methods.values()):
        seconds = estimate(results["draft"]["seconds"], decimals=2)
        what = "Writing the draft" if has_reader(results) else "Writing the draft and reading its attention"
        parts.append(f"{what} takes {seconds} seconds.")
    return " ".join(parts)
