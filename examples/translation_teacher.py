"""What `recipes/translation.yaml` compresses: a small T5, trained from nothing to say OpenStack's messages in Spanish.

python examples/translation_teacher.py out/translation    # fetches 14 MB once: three wheels, Apache-2.0
edgefold compress examples/recipes/translation.yaml --out out/translator
"""

import json
import re
import sys
import zipfile
from pathlib import Path

from tokenizers import ByteLevelBPETokenizer, Tokenizer, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration, set_seed

from edgefold.jobs.fine_tuning import fine_tune
from edgefold.packaged.downloads import Package, default_cache, fetch
from edgefold.recipes.data import PairData
from edgefold.recipes.recipe import TrainingSettings
from edgefold.staging import staged_folder

WHEELS = {
    "horizon-27.0.0": "8a981dae4fb6626e71553aa185f6e429b0b1efb86b04b0a72c3b18ee04f1f990",
    "nova-34.0.0": "8b46997836961762608e6e46e6d4945325d8a1fb8004e79e552e55839061f10c",
    "openstack_heat-27.0.1": "6eb3e0e15da4e86a3f3c21543efcf65c5848412eb1864423ce4cff56c435897f",
}
OPTIONS = ("--only-binary", ":all:", "--ignore-requires-python")  # nothing of them is run
ENTRY = re.compile(r'\n\n(?:#(?!, fuzzy).*\n)*msgid (".*")\nmsgstr (".*")')
SIZES = {"d_model": 192, "d_kv": 32, "num_heads": 6, "d_ff": 512, "num_layers": 3, "decoder_start_token_id": 0}
SPLITS = {"test": (0,), "validation": (1,), "train": range(2, 20)}


def read_pairs(path: Path) -> dict[str, str]:
    """The finished messages of a wheel's catalogues (.po), whose long lines are broken into several strings."""
    with zipfile.ZipFile(path) as wheel:
        texts = [wheel.read(name).decode().replace('"\n"', "") for name in wheel.namelist() if "/es/LC" in name]
    both = [map(json.loads, entry) for text in texts for entry in ENTRY.findall(text)]
    return {source: target for source, target in both if target.strip() and 1 <= len(source.split()) <= 12}


def make_model(texts: list[str], folder: Path) -> None:
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=3000, special_tokens=["<pad>", "</s>"], show_progress=False)
    bpe.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    whole = Tokenizer.from_str(bpe.to_str())
    fast = PreTrainedTokenizerFast(tokenizer_object=whole, pad_token="<pad>", eos_token="</s>")
    fast.save_pretrained(folder)
    model = T5ForConditionalGeneration(T5Config(vocab_size=len(fast), scale_decoder_outputs=False, **SIZES))
    model.shared.weight.data /= 50  # AdamW moves small embeddings faster than T5's
    model.save_pretrained(folder)


def main(out: str, epochs: int = 20) -> None:
    pairs: dict[str, str] = {}
    for name, sha256 in WHEELS.items():
        package = Package(name.replace("-", "=="), f"{name}-py3-none-any.whl", sha256, OPTIONS)
        pairs |= read_pairs(fetch(package, default_cache()))
    rows = [json.dumps({"source": source, "target": pairs[source]}) + "\n" for source in sorted(pairs)]
    with staged_folder(out) as folder:
        for split, numbers in SPLITS.items():
            chosen = [row for i, row in enumerate(rows) if i % 20 in numbers]
            (folder / f"{split}.jsonl").write_text("".join(chosen), encoding="utf-8")
        set_seed(0)
        make_model([text for row in chosen for text in json.loads(row).values()], folder / "untrained")
    data = PairData(**{split: Path(out, f"{split}.jsonl") for split in SPLITS}, max_target_length=64)
    settings = TrainingSettings(epochs=epochs, learning_rate=1e-3)
    teacher = fine_tune(Path(out, "untrained"), data, settings, Path(out, "teacher"), task="translation")
    print(f"teacher: {teacher.folder}, chrF on the validation data {teacher.curve[-1].figures['eval_chrf']:.3f}")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:3])) if len(sys.argv) > 1 else sys.exit(__doc__)
