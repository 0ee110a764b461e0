"""What `recipes/seed.yaml` begins with: plain text, and MiniLM with heads for masked tokens and pairs of segments.

edgefold demo --out out/demo                     # the classifier and the reviews of the second stage
python examples/seed_texts.py out/seed
edgefold compress examples/recipes/seed.yaml --out out/seed-student

The packaged MiniLM is an encoder without these heads. They begin at random, but for the decoder of masked tokens, which
begins as a copy of the word embeddings, and are trained here together with the body, for one epoch. It is a copy since
a decoder that is tied to them would keep the residual stream from being projected.
"""

import sys
from pathlib import Path

from edgefold.jobs.fine_tuning import FineTuned, fine_tune
from edgefold.packaged.demo import fetch_model
from edgefold.packaged.text import PlainText, load_addresses
from edgefold.recipes.data import MaskedText
from edgefold.recipes.recipe import TrainingSettings


def write_texts(addresses: PlainText, folder: Path, block_length: int) -> MaskedText:
    """One .txt file for each address, in the folders train, validation and test; of the held-out ones every second."""
    held_out = addresses.held_out
    splits = {"train": addresses.calibration, "validation": held_out[::2], "test": held_out[1::2]}
    for split, texts in splits.items():
        (folder / split).mkdir(parents=True, exist_ok=True)
        for number, text in enumerate(texts):
            (folder / split / f"{number:03}.txt").write_text(text + "\n", encoding="utf-8")
    return MaskedText(**{split: folder / split for split in splits}, pairs="nsp", block_length=block_length)


def main(
    out: str,
    addresses: PlainText | None = None,
    pretrained: Path | None = None,
    settings: TrainingSettings | None = None,
    block_length: int = 128,
) -> FineTuned:
    data = write_texts(addresses or load_addresses(), Path(out) / "data", block_length)
    settings = settings or TrainingSettings(epochs=1, learning_rate=1e-4)
    task = "masked-language-modeling"
    teacher = fine_tune(pretrained or fetch_model(), data, settings, Path(out) / "teacher", task=task)
    figures = teacher.curve[-1].figures
    print(
        f"pretrained: {teacher.folder}, on the validation data perplexity {figures['eval_perplexity']:.4g}, "
        f"pairs right {figures['eval_pair_accuracy']:.2%}"
    )
    return teacher


if __name__ == "__main__":
    main(*sys.argv[1:2])
