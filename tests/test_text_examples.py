"""Generation, questions, translation and recommendation among the examples: the teacher's script, then its recipe.

Each script reads a package of the same form as the real one, made here; the recipe runs, in short, on what the
script wrote.
"""

import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from task_jobs import SIZES, WORDS, make_tokenizer
from test_examples import EXAMPLES, load

from edgefold.errors import InputError
from edgefold.packaged.downloads import Package
from edgefold.recipes.recipe import check_recipe, load_recipe

pytestmark = pytest.mark.filterwarnings("ignore")


def compress_in_short(name: str, written: str, out: Path, sizes: dict[str, int], **data: int) -> Any:
    """The recipe on what the script wrote into `out`, its sizes and lengths cut down, its method as it is."""
    from edgefold.jobs.compression import compress

    recipe = load_recipe(EXAMPLES / "recipes" / f"{name}.yaml").model_dump(mode="json", exclude_none=True)
    content = json.loads(json.dumps(recipe).replace(str(EXAMPLES.parent / "out" / written), str(out)))
    for step in content["plan"]:
        for settings in (step[kind] for kind in ("project", "select") if kind in step):
            settings["size"] = sizes[settings["dimension"]]
    content["data"] |= data
    content["training"] |= {"epochs": 1, "batch_size": 8, "threads": 1}
    content["calibration"]["samples"] = 32
    result = compress(check_recipe(content), out / "student")
    assert result.metrics["fold_error"] <= 1e-5
    assert {d["student_size"] for d in result.dimensions} == set(sizes.values())
    return result


def seal(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_wheel(path: Path, files: dict[str, str]) -> str:
    """Returns its checksum."""
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return seal(path)


def sentence(number: int, count: int = 7) -> str:
    return " ".join(WORDS[(number * k + k) % 14] for k in range(1, count + 1))


def test_generation(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    from edgefold.packaged.text import PlainText

    config = LlamaConfig(**{**SIZES, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3})
    LlamaForCausalLM(config).save_pretrained(tmp_path / "pretrained")
    make_tokenizer().save_pretrained(tmp_path / "pretrained")
    text = PlainText(tuple(sentence(i, 90) for i in range(12)), tuple(sentence(i, 90) for i in range(12, 20)))
    script = load("generation_teacher")
    script.main(str(tmp_path / "out"), 3000, tmp_path / "pretrained", text)
    written = [path.read_text() for path in sorted((tmp_path / "out" / "data" / "train").iterdir())]
    assert written == [known[:250] + "\n" for known in text.calibration]
    with pytest.raises(InputError, match="11 characters to train with are less than one for each of the 12 addresses"):
        script.main(str(tmp_path / "none"), 11, tmp_path / "pretrained", text)

    result = compress_in_short("generation", "generation", tmp_path / "out", {"hidden": 12, "ffn": 16}, block_length=16)
    assert result.metrics["test_perplexity"] > 1
    assert AutoModelForCausalLM.from_pretrained(result.student).config.hidden_size == 12


def test_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForQuestionAnswering, BertConfig, BertModel

    BertModel(BertConfig(**SIZES)).save_pretrained(tmp_path / "pretrained")
    make_tokenizer().save_pretrained(tmp_path / "pretrained")
    script = load("question_teacher")
    with tarfile.open(tmp_path / "tiny.tar.gz", "w:gz") as archive:
        for name in script.FILES:
            content = json.dumps({"data": [article(i) for i in range(10)]}).encode()
            entry = tarfile.TarInfo(script.INNER + name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    monkeypatch.setattr(script, "PACKAGE", Package("tiny==1", "tiny.tar.gz", seal(tmp_path / "tiny.tar.gz"), ()))
    monkeypatch.setattr(script, "default_cache", lambda: tmp_path)
    script.main(str(tmp_path / "out"), 12, 1, tmp_path / "pretrained")
    assert not (tmp_path / "tiny.tar.gz").exists()
    rows = {split: (tmp_path / "out" / "data" / f"{split}.jsonl").read_text().splitlines() for split in script.SPLITS}
    assert {split: len(lines) for split, lines in rows.items()} == {"test": 3, "validation": 3, "train": 24}
    assert json.loads(rows["test"][0])["answers"] == {"text": ["worda"], "answer_start": [0]}

    sizes = {"hidden": 12, "ffn": 16, "heads": 2}
    result = compress_in_short("questions", "questions", tmp_path / "out", sizes, max_length=32, stride=8)
    assert 0 <= result.metrics["test_exact_match"] <= result.metrics["test_f1"] <= 1
    assert AutoModelForQuestionAnswering.from_pretrained(result.student).config.hidden_size == 12


def article(number: int) -> dict[str, Any]:
    """A short paragraph with a question that keeps one of three answers, one that keeps none, and a long paragraph."""
    context = f"worda {sentence(number)}"
    right, moved, blank = ({"text": t, "answer_start": s} for t, s in (("worda", 0), ("worda", 1), (" ", 5)))
    questions = [
        {"question": sentence(number, 3), "answers": [right, right, moved, blank]},
        {"question": sentence(number, 2), "answers": [moved]},
    ]
    long = {"context": f"worda {sentence(number, 20)}", "qas": questions}
    return {"title": str(number), "paragraphs": [{"context": context, "qas": questions}, long]}


def test_translation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForSeq2SeqLM

    script = load("translation_teacher")
    entries = [f'#: a.py:1\nmsgid "{sentence(i)} {i}"\nmsgstr ""\n"{i} "\n"{sentence(i)}"\n' for i in range(70)]
    others = ['#, fuzzy\nmsgid "a"\nmsgstr "b"\n', f'msgid "{sentence(1, 13)}"\nmsgstr "b"\n', 'msgid "c"\nmsgstr ""\n']
    catalogue = "\n".join(['msgid ""\nmsgstr ""\n"Language: es\\n"\n', *entries, *others])
    files = {"tiny/locale/es/LC_MESSAGES/tiny.po": catalogue, "tiny/locale/de/LC_MESSAGES/tiny.po": "none"}
    monkeypatch.setattr(script, "WHEELS", {"tiny-1": write_wheel(tmp_path / "tiny-1-py3-none-any.whl", files)})
    monkeypatch.setattr(script, "SIZES", {**script.SIZES, "d_model": 24, "d_kv": 6, "num_heads": 4, "d_ff": 48})
    monkeypatch.setattr(script, "default_cache", lambda: tmp_path)
    script.main(str(tmp_path / "out"), 1)
    rows = {path.stem: path.read_text().splitlines() for path in (tmp_path / "out").glob("*.jsonl")}
    assert {split: len(lines) for split, lines in rows.items()} == {"train": 62, "validation": 4, "test": 4}
    pairs = [json.loads(line) for lines in rows.values() for line in lines]
    assert {"source": f"{sentence(3)} 3", "target": f"3 {sentence(3)}"} in pairs
    assert len({pair["source"] for pair in pairs}) == 70

    sizes = {"hidden": 12, "ffn": 16, "heads": 2}
    result = compress_in_short("translation", "translation", tmp_path / "out", sizes, max_target_length=8)
    assert 0 <= result.metrics["test_chrf"] <= 1
    config = AutoModelForSeq2SeqLM.from_pretrained(result.student).config
    assert (config.d_model, config.num_layers, config.num_decoder_layers) == (12, 3, 2)


def test_recommendation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = load("recommendation_teacher")
    ratings = [(user, i, 1 + (user + i) % 5, 100 - i) for user in range(1, 7) for i in range(1, 21)]
    people = [(user, 10 * user, "MF"[user % 2], ("cook", "artist")[user % 2], "00000") for user in range(1, 7)]
    files = {
        f"recbole/dataset_example/ml-100k/ml-100k.{kind}": "\n".join("\t".join(map(str, row)) for row in ("x", *rows))
        for kind, rows in (("inter", ratings), ("user", people))
    }
    checksum = write_wheel(tmp_path / "tiny.whl", files)
    monkeypatch.setattr(script, "PACKAGE", Package("tiny==1", "tiny.whl", checksum, ()))
    monkeypatch.setattr(script, "default_cache", lambda: tmp_path)
    script.main(str(tmp_path / "out"), 1)
    lines = {split: (tmp_path / "out" / f"{split}.csv").read_text().splitlines() for split in ("train", "validation")}
    assert {split: len(text) for split, text in lines.items()} == {"train": 1 + 6 * 16, "validation": 1 + 6 * 2}
    assert lines["train"][:2] == ["user,film,decade,gender,occupation,label", "1,20,1,1,0,0"]

    sizes = {"hidden": 8, "ffn.0": 24}
    result = compress_in_short("recommendation", "recommendation", tmp_path / "out", sizes)
    assert 0 <= result.metrics["test_area_under_curve"] <= 1
