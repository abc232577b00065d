"""Let a model write questions about passages, as examples without labels that scout's coefficients are learned from.

    $ python research/model_questions.py corpus.jsonl --model MODEL --out runs/model_written.jsonl
    $ at2-prune train-scout --model MODEL --data runs/model_written.jsonl --holdout 0 --out runs/model_written
    $ python research/without_labels.py --fit labelled=runs/labelled model=runs/model_written --test runs/hotpotqa

The corpus is a file of passages: JSON Lines of {title, text}. Passages, linked pairs and similar passages are chosen as
`at2-prune calibrate --passages` chooses them. Only the text of the question is the model's. A text without a question
mark is no question and is left out. Each question is written to the file when it is ready, so an interrupted run goes
on from there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm.auto import tqdm

from at2_prune.calibration import pseudo_questions
from at2_prune.models.language_model import LanguageModel
from at2_prune.models.prompts import EncodedPrompt
from at2_prune.passages import Passage

EXAMPLES = """Each question below can be answered from the passages above it, and from no others.

Passage: Torvald Bridge
Torvald Bridge is a steel arch bridge in Hestad. It was designed by Anna Kvist and opened in 1931.
Question: In which year did the bridge designed by Anna Kvist open?

Passage: Marlowe Tide
Marlowe Tide is a 1987 novel by Ruth Ebersole about a lighthouse keeper.
Passage: Ruth Ebersole
Ruth Ebersole (born 1949) is a Canadian writer who grew up in Truro, where she taught mathematics.
Question: What subject did the author of Marlowe Tide teach?

Passage: Common pika beetle
The common pika beetle lives in dry grassland. Its larvae feed on the roots of clover for two years.
Question: What do the larvae of the common pika beetle eat?

"""
"""Three worked examples, written for this project."""
TOKENS = 40


def prompt_of(evidence: Sequence[Passage]) -> str:
    """Return the prompt that asks for a question about these passages."""
    shown = "".join(f"Passage: {one.title or 'untitled'}\n{one.text}\n" for one in evidence)
    return f"{EXAMPLES}{shown}Question:"


def write_question(model: LanguageModel, evidence: Sequence[Passage]) -> str | None:
    """Return the question that the model writes, or None if its first line holds no question mark."""
    ids = model.tokenizer(prompt_of(evidence))["input_ids"]
    prompt = EncodedPrompt(ids, [], [], [], [], (0, 0))
    generations, _ = model.generate([prompt], TOKENS)
    text = str(model.tokenizer.decode(generations[0].ids, skip_special_tokens=True))
    line = text.strip().split("\n", 1)[0]
    question, mark, _ = line.partition("?")
    return question + mark if mark and question.strip() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--model", metavar="ID_OR_PATH")
    parser.add_argument("--dtype")
    parser.add_argument("--count", type=int, default=100, metavar="N", help="questions to ask for (default: 100)")
    args = parser.parse_args()
    lines = args.corpus.read_text(encoding="utf-8").splitlines()
    corpus = [Passage(row["text"], title=row["title"]) for row in map(json.loads, lines)]
    done = {json.loads(line)["id"] for line in args.out.read_text().splitlines()} if args.out.exists() else set()
    model = LanguageModel.load(args.model, dtype=args.dtype)
    asked = pseudo_questions(corpus, args.count)
    with args.out.open("a", encoding="utf-8") as file:
        for made in tqdm(asked, unit="question"):
            if made.id in done:
                continue
            text = write_question(model, [made.passages[i] for i in made.gold])
            if text is None:
                continue
            passages = [{"title": one.title, "text": one.text} for one in made.passages]
            row = {"id": made.id, "question": text, "gold": list(made.gold), "passages": passages}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
    print(f"{len(args.out.read_text().splitlines())} questions of {len(asked)} that were asked for")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
