"""Files of tokenizers and processors that transformers 5 wrote, said so that version 4 and transformers.js read them.

optimum-onnx runs on version 4 alone; what version 5 calls otherwise, it reads under the older name as well.
"""

import json
from pathlib import Path
from typing import Any

TOKENIZER, PROCESSOR, PREPROCESSOR = "tokenizer_config.json", "processor_config.json", "preprocessor_config.json"
OLDER_CLASSES = {"TokenizersBackend": "PreTrainedTokenizerFast"}
NESTED = ("feature_extractor", "image_processor")


def suit_older_readers(folder: Path) -> None:
    """Mend the files in place, where there are such and they need it."""
    if (folder / TOKENIZER).is_file():
        _mend_tokenizer(folder / TOKENIZER)
    if (folder / PROCESSOR).is_file() and not (folder / PREPROCESSOR).is_file():
        _part_processor(folder / PROCESSOR, folder / PREPROCESSOR)


def _mend_tokenizer(path: Path) -> None:
    """The class by its older name; further special tokens by theirs, since version 4 wants a dict under the new one."""
    given = _read(path)
    mended = dict(given)
    named = given.get("tokenizer_class")
    if named in OLDER_CLASSES:
        mended["tokenizer_class"] = OLDER_CLASSES[named]
    if isinstance(given.get("extra_special_tokens"), list):
        mended["additional_special_tokens"] = mended.pop("extra_special_tokens")
    if mended != given:
        _write(path, mended)


def _part_processor(processor: Path, preprocessor: Path) -> None:
    """What makes tensors of recordings or images, in a file of its own as before version 5."""
    fields = _read(processor)
    found = [fields[name] for name in NESTED if isinstance(fields.get(name), dict)]
    if len(found) == 1:
        _write(preprocessor, found[0])


def _read(path: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return fields


def _write(path: Path, fields: dict[str, Any]) -> None:
    path.write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
