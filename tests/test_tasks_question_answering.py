"""Question answering: windows that hold the answer, the best span by exhaustion, and the whole job."""

from pathlib import Path
from typing import Any

import pytest
import torch
from task_jobs import SIZES, WORDS, interrupt_and_resume, make_tokenizer, write_job, write_rows

from edgefold.data.questions import Question
from edgefold.errors import InputError
from edgefold.jobs.compression import compress
from edgefold.recipes.data import QuestionData
from edgefold.recipes.recipe import load_recipe
from edgefold.tasks.question_answering import BEST, Window, best_span, encode_questions

pytestmark = pytest.mark.filterwarnings("ignore")
DATA = "{train: train.jsonl, validation: validation.jsonl, test: test.jsonl, max_length: 24, stride: 8}"
SETTINGS = QuestionData(train=Path(), validation=Path(), test=Path(), max_length=24, stride=8)


def row(number: int) -> dict[str, Any]:
    """Every fourth question has no answer; the contexts take several windows."""
    context = " ".join(WORDS[(number + k * k) % 14] for k in range(30 + number % 7))
    word = WORDS[number % 14]
    starts = [context.index(word)] if number % 4 else []
    return {"context": context, "question": word, "answers": {"text": [word] * len(starts), "answer_start": starts}}


def question(number: int) -> Question:
    found = row(number)
    answers = found["answers"]
    return Question(found["context"], found["question"], tuple(answers["text"]), tuple(answers["answer_start"]), number)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    from transformers import BertConfig, BertForQuestionAnswering

    torch.manual_seed(0)
    for split, count in (("train", 24), ("validation", 6), ("test", 6)):
        write_rows(tmp_path / f"{split}.jsonl", map(row, range(count)))
    teacher = BertForQuestionAnswering(BertConfig(**SIZES))
    return write_job(tmp_path, "question-answering", teacher, make_tokenizer(), DATA)


def test_windows_point_at_the_answer_or_at_nothing() -> None:
    """The tokens between the two positions are those of the answer; each answer is in some window."""
    tokenizer = make_tokenizer()
    questions = [question(number) for number in range(12)]
    windows = encode_questions(questions, tokenizer, SETTINGS)
    found = set()
    for i in range(len(windows)):
        encoded, number = windows[i], windows.windows[i].question
        start, end = encoded["start_positions"], encoded["end_positions"]
        assert len(encoded["input_ids"]) <= 24
        if start:
            text = tokenizer.decode(encoded["input_ids"][start : end + 1])
            assert text == questions[number].answers[0]
            found.add(number)
    assert found == {number for number in range(12) if number % 4}
    assert len(windows) > len(questions)


def test_the_best_span_is_the_best_of_all() -> None:
    generator = torch.Generator().manual_seed(0)
    spans = (None, None, *((2 * i, 2 * i + 1) for i in range(BEST - 4)), None)
    for _ in range(20):
        starts, ends = torch.randn(2, BEST, generator=generator)
        allowed = [
            (float(starts[i] + ends[j]), i, j)
            for i in range(len(spans))
            for j in range(i, min(i + 3, len(spans)))
            if spans[i] and spans[j]
        ]
        score, i, j = max(allowed)
        found = best_span(starts, ends, Window(0, spans), 3)
        assert found is not None
        assert found[0] == pytest.approx(score)
        assert found[1:] == (spans[i][0], spans[j][1])  # type: ignore[index]
    assert best_span(starts, ends, Window(0, (None,) * BEST), 3) is None


def test_a_stopped_job_resumes_and_ends_in_an_ordinary_checkpoint(recipe: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForQuestionAnswering

    result = interrupt_and_resume(recipe, tmp_path / "student")
    for split in ("untrained", "validation", "test", "teacher_test"):
        assert 0 <= result.metrics[f"{split}_exact_match"] <= result.metrics[f"{split}_f1"] <= 1
    assert {"eval_f1", "eval_exact_match"} <= set(result.curve[-1].figures)
    assert AutoModelForQuestionAnswering.from_pretrained(result.student).config.hidden_size == 12


def test_refusals(recipe: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", [row(1), {**row(2), "question": " ".join(WORDS[:13])}])
    with pytest.raises(InputError, match=r"line 2 has 13 tokens; windows of 24 that share 8 have room for 12"):
        compress(load_recipe(recipe), tmp_path / "student")
    recipe.write_text(recipe.read_text().replace("stride: 8", "stride: 13"))
    with pytest.raises(InputError, match=r"line 3: data: stride 13 is more than half of max_length 24"):
        load_recipe(recipe)
