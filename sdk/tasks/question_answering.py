"""Question answering: the span of a context that answers a question, or none."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForQuestionAnswering, DataCollatorWithPadding

from edgefold.data.questions import Question, read_questions
from edgefold.errors import InputError
from edgefold.recipes.data import QuestionData
from edgefold.scores.answers import exact_match, word_f1
from edgefold.tasks.batches import EncodedRows, run_over
from edgefold.tasks.opening import padding_tokenizer, teacher_opener
from edgefold.tasks.task import Collate, Metric, Row, Splits, Task

LABELS = ("start_positions", "end_positions")
BEST = 20
"""Starts, and ends, of which the best pair is looked for."""


@dataclass(frozen=True)
class Window:
    """Where the tokens of one window over a context stand in it."""

    question: int
    spans: tuple[tuple[int, int] | None, ...]
    """First character of each token and the one after its last; None for tokens that are not of the context."""


class QuestionWindows(EncodedRows):
    """The windows over the contexts of some questions, each a row."""

    def __init__(self, rows: list[Row], windows: Sequence[Window], questions: Sequence[Question], longest: int) -> None:
        super().__init__(rows)
        self.windows = windows
        self.questions = questions
        self.longest = longest


def encode_questions(questions: Sequence[Question], tokenizer: Any, data: QuestionData) -> QuestionWindows:
    """Windows of `max_length` tokens that share `stride`; one without the answer points at its first token.

    Raises:
        InputError: a tokenizer that is not fast, or a question too long for a window.
    """
    _check(questions, tokenizer, data)
    encoded = tokenizer(
        [question.question for question in questions],
        [question.context for question in questions],
        truncation="only_second",
        max_length=data.max_length,
        stride=data.stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    names = [name for name in tokenizer.model_input_names if name in encoded]
    rows, windows = [], []
    for i, number in enumerate(encoded["overflow_to_sample_mapping"]):
        parts = encoded.sequence_ids(i)
        offsets = encoded["offset_mapping"][i]
        window = Window(number, tuple(o if part == 1 else None for o, part in zip(offsets, parts, strict=True)))
        start, end = locate(questions[number], window)
        rows.append({**{name: encoded[name][i] for name in names}, LABELS[0]: start, LABELS[1]: end})
        windows.append(window)
    return QuestionWindows(rows, windows, questions, data.max_answer_length)


def locate(question: Question, window: Window) -> tuple[int, int]:
    """The first and last token of the first answer; 0, 0 where there is none, or it is not wholly in the window."""
    if not question.answers:
        return 0, 0
    first = question.starts[0]
    last = first + len(question.answers[0])
    covering = [i for i, span in enumerate(window.spans) if span and span[0] < last and span[1] > first]
    context = [span for span in window.spans if span]
    if not covering or context[0][0] > first or context[-1][1] < last:
        return 0, 0
    return covering[0], covering[-1]


def evaluate_answers(model: nn.Module, dataset: QuestionWindows, collate: Collate) -> dict[str, float]:
    """F1 and exact match, averaged over the questions; where some have no answer, none may be the answer."""
    best: dict[int, tuple[float, str]] = {}
    none: dict[int, float] = {}
    for rows, _, outputs in run_over(model, dataset, collate, LABELS):
        for row, starts, ends in zip(rows, outputs.start_logits.cpu(), outputs.end_logits.cpu(), strict=True):
            window = dataset.windows[row]
            number = window.question
            none[number] = min(none.get(number, float("inf")), float(starts[0] + ends[0]))
            found = best_span(starts, ends, window, dataset.longest)
            if found and found[0] > best.get(number, (float("-inf"), ""))[0]:
                text = dataset.questions[number].context[found[1] : found[2]]
                best[number] = found[0], text
    may_be_none = any(not question.answers for question in dataset.questions)
    answers = [
        "" if may_be_none and none[i] > best.get(i, (float("-inf"), ""))[0] else best.get(i, (0.0, ""))[1]
        for i in range(len(dataset.questions))
    ]
    pairs = list(zip(answers, (question.answers for question in dataset.questions), strict=True))
    return {
        "f1": sum(word_f1(answer, right) for answer, right in pairs) / len(pairs),
        "exact_match": sum(exact_match(answer, right) for answer, right in pairs) / len(pairs),
    }


def best_span(starts: Tensor, ends: Tensor, window: Window, longest: int) -> tuple[float, int, int] | None:
    """The largest start + end logit of a span in the context of at most `longest` tokens, with its characters.

    Args:
        starts, ends: (sequence,). Of each, the `BEST` largest are tried.
    """
    outside = torch.tensor([span is None for span in window.spans] + [True] * (len(starts) - len(window.spans)))
    first, last = (logits.masked_fill(outside, float("-inf")).topk(min(BEST, len(logits))) for logits in (starts, ends))
    length = last.indices[None] - first.indices[:, None] + 1
    scores = first.values[:, None] + last.values[None]
    scores = scores.masked_fill((length < 1) | (length > longest), float("-inf"))
    place = int(scores.argmax())
    row, column = divmod(place, scores.shape[1])
    score = float(scores[row, column])
    if score == float("-inf"):
        return None
    begin, end = (window.spans[int(found)] or (0, 0) for found in (first.indices[row], last.indices[column]))
    return score, begin[0], end[1]


def _check(questions: Sequence[Question], tokenizer: Any, data: QuestionData) -> None:
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"{type(tokenizer).__name__} cannot tell where its tokens stand; give the teacher a fast tokenizer "
            "(tokenizer.json)."
        )
    room = data.max_length - data.stride - tokenizer.num_special_tokens_to_add(pair=True) - 1
    for question, ids in zip(
        questions,
        tokenizer([question.question for question in questions], add_special_tokens=False)["input_ids"],
        strict=True,
    ):
        if len(ids) > room:
            raise InputError(
                f"The question in line {question.line} has {len(ids)} tokens; windows of {data.max_length} that share "
                f"{data.stride} have room for {room}. Raise data.max_length, lower data.stride, or shorten it."
            )


def _read(data: QuestionData, teacher: nn.Module) -> Splits:
    return Splits(*map(read_questions, data.paths.values()))


def _start_teacher(folder: Path, data: QuestionData) -> nn.Module:
    return teacher_opener(AutoModelForQuestionAnswering, is_trained=False)(folder)


QUESTION_ANSWERING = Task(
    metrics=(Metric("f1"), Metric("exact_match")),
    open_teacher=teacher_opener(AutoModelForQuestionAnswering),
    start_teacher=_start_teacher,
    read=_read,
    encode=encode_questions,
    collator=lambda tokenizer, data, teacher: DataCollatorWithPadding(padding_tokenizer(tokenizer)),
    evaluate=evaluate_answers,
    texts=lambda questions: (text for question in questions for text in (question.question, question.context)),
    label_names=LABELS,
    is_cacheable=False,
)
