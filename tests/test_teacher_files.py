"""The cache on disk gives back what the teacher said, appears whole or not at all, and refuses to be stale."""

import copy
import errno
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgefold.errors import InputError
from edgefold.fingerprints import fingerprint_data, fingerprint_model
from edgefold.teachers import files as teacher_files
from edgefold.teachers.cache import TeacherCache
from edgefold.teachers.files import TeacherFiles, record_teacher
from edgefold.teachers.rows import TeacherOutputs

LENGTHS = [3, 5, 2, 4]
KEY = {"the teacher": "a", "the data": "b"}


def batch_of(ids: list[int], left: bool = False) -> dict[str, Tensor]:
    longest = max(LENGTHS[i] for i in ids)
    rows = [[1] * LENGTHS[i] + [0] * (longest - LENGTHS[i]) for i in ids]
    return {"attention_mask": torch.tensor([row[::-1] if left else row for row in rows])}


def said_of(ids: list[int], left: bool = False) -> TeacherOutputs:
    """Values that depend on the example and the token alone, with rubbish at padding."""
    mask = batch_of(ids, left)["attention_mask"]
    place = (mask.cumsum(1) - 1).float()
    value = torch.where(mask.bool(), torch.tensor(ids)[:, None] + place / 4, torch.tensor(99.0))
    attention = torch.where(
        mask[:, None, :, None].bool() & mask[:, None, None, :].bool(), value[:, None, :, None], 99.0
    )
    return TeacherOutputs(
        torch.tensor([[float(i), -float(i)] for i in ids]),
        {"norm": value[..., None].expand(-1, -1, 2), "pooler": torch.tensor(ids)[:, None].float()},
        {1: attention.expand(-1, 3, -1, -1)},
    )


def record(folder: Path) -> None:
    groups = iter([[0, 1], [2, 3]])
    record_teacher(folder, KEY, [batch_of([0, 1]), batch_of([2, 3])], lambda batch: said_of(next(groups)), 4)


def never() -> TeacherOutputs:
    raise AssertionError("the teacher was asked again")


@pytest.mark.parametrize("left", [False, True])
def test_what_is_fetched_is_what_was_said_whatever_the_padding(left: bool, tmp_path: Path) -> None:
    record(tmp_path / "cache")
    files = TeacherFiles(tmp_path / "cache", KEY)
    assert len(files) == 4
    for ids in ([0, 1], [3, 2], [1, 2, 0], [2]):
        batch = batch_of(ids, left)
        found, expected, mask = (
            files.fetch(batch, torch.tensor(ids), never),
            said_of(ids, left),
            batch["attention_mask"],
        )
        assert torch.equal(found.logits, expected.logits)
        assert torch.equal(found.hidden["pooler"], expected.hidden["pooler"])
        assert torch.equal(found.hidden["norm"][mask.bool()], expected.hidden["norm"][mask.bool()])
        counted = (mask[:, None, :, None] * mask[:, None, None, :]).bool().expand_as(found.attentions[1])
        assert torch.equal(found.attentions[1][counted], expected.attentions[1][counted])


def test_memory_and_disk_give_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    outputs = TeacherOutputs(torch.randn(2, 3), {"norm": torch.randn(2, 5, 4)}, {0: torch.rand(2, 2, 5, 5)})
    batch, memory = batch_of([0, 1]), TeacherCache(2**20)
    record_teacher(tmp_path / "cache", KEY, [batch], lambda _: outputs, 2)
    memory.fetch(batch, torch.tensor([0, 1]), lambda: outputs)
    both = [
        cache.fetch(batch, torch.tensor([0, 1]), never).named()
        for cache in (memory, TeacherFiles(tmp_path / "cache", KEY))
    ]
    assert both[0].keys() == both[1].keys()
    assert all(torch.equal(both[0][name], both[1][name]) for name in both[0])


def test_nothing_is_read_before_it_is_wanted(tmp_path: Path) -> None:
    record(tmp_path / "cache")
    assert all(isinstance(values, np.memmap) for values in TeacherFiles(tmp_path / "cache", KEY)._maps.values())


def test_a_stale_cache_is_refused_by_the_name_of_what_changed(tmp_path: Path) -> None:
    record(tmp_path / "cache")
    with pytest.raises(InputError, match="is stale: the data changed since it was made"):
        TeacherFiles(tmp_path / "cache", {**KEY, "the data": "c"})
    with pytest.raises(InputError, match="is stale: the teacher and the places changed"):
        TeacherFiles(tmp_path / "cache", {"the teacher": "c", "the data": "b", "the places": "d"})


def test_damage_is_refused(tmp_path: Path) -> None:
    record(tmp_path / "cache")
    with (tmp_path / "cache" / "1.bin").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match=r"is damaged: 1\.bin should have 56 bytes"):
        TeacherFiles(tmp_path / "cache", KEY)
    with pytest.raises(InputError, match=r"is no teacher cache: it has no readable index\.json"):
        TeacherFiles(tmp_path, KEY)


def test_a_recording_that_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    def say(batch: Any) -> TeacherOutputs:
        if (tmp_path / "again").exists():
            raise KeyboardInterrupt
        (tmp_path / "again").touch()
        return said_of([0, 1])

    with pytest.raises(KeyboardInterrupt):
        record_teacher(tmp_path / "cache", KEY, [batch_of([0, 1]), batch_of([2, 3])], say, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(teacher_files.shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(InputError, match=r"need about 0\.0 GiB more at .*cache, where 0\.0 GiB are free"):
        record(tmp_path / "cache")
    monkeypatch.undo()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(InputError, match=r"The disk is full: .* nothing was left there"):
        record(tmp_path / "cache")
    assert not list(tmp_path.iterdir())


def test_data_that_change_are_refused(tmp_path: Path) -> None:
    record(tmp_path / "cache")
    with pytest.raises(InputError, match="has 5 tokens where the teacher's kept outputs have 3"):
        TeacherFiles(tmp_path / "cache", KEY).fetch(batch_of([1]), torch.tensor([0]), never)


def test_fingerprints_change_with_every_bit() -> None:
    model = nn.Linear(2, 2)
    other = copy.deepcopy(model)
    assert fingerprint_model(model) == fingerprint_model(other)
    with torch.no_grad():
        other.bias[1] = torch.nextafter(other.bias[1], torch.tensor(9.0))
    assert fingerprint_model(model) != fingerprint_model(other)


def test_fingerprints_tell_configurations_apart_but_not_folders(make_bert: Callable[..., Any]) -> None:
    model = make_bert()
    before = fingerprint_model(model)
    model.config._name_or_path = "elsewhere"
    assert fingerprint_model(model) == before
    model.config.num_attention_heads = 4
    assert fingerprint_model(model) != before


def different() -> Iterator[Any]:
    yield [{"ids": [1, 2]}, {"ids": [3]}]
    yield [{"ids": [1]}, {"ids": [2, 3]}]
    yield [{"ids": [1, 2], "mask": [1, 1]}, {"ids": [3]}]
    yield [{"ids": [1.0, 2]}, {"ids": [3]}]
    yield [{"ids": torch.tensor([1, 2])}, {"ids": torch.tensor([3])}]
    yield [{"ids": torch.tensor([1, 2]).int()}, {"ids": torch.tensor([3]).int()}]
    yield [{"ids": np.array([1, 2])}, {"ids": np.array([3])}]
    yield [{"ids": "1, 2"}, {"ids": "3"}]
    yield [{"ids": None}]


def test_fingerprints_of_data_tell_all_contents_apart_but_for_labels() -> None:
    prints = [fingerprint_data(examples) for examples in different()]
    assert len(set(prints)) == len(prints)
    assert prints == [fingerprint_data(examples) for examples in different()]
    labelled = [{"ids": [1, 2], "labels": 0}, {"ids": [3], "labels": 1}]
    assert fingerprint_data(labelled, ["labels"]) == prints[0]
    with pytest.raises(InputError, match="The data hold a object, whose content has no fingerprint"):
        fingerprint_data([{"ids": object()}])


def test_the_trainer_records_once_and_refuses_another_teacher(
    make_bert: Callable[..., Any], text_batch: Callable[..., Any], tmp_path: Path
) -> None:
    from transformers import TrainingArguments

    from edgefold.distillation import Objective
    from edgefold.training import CompressionTrainer

    teacher = make_bert(num_hidden_layers=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).float()
    whole = text_batch(8, 9)
    rows = [{**{name: value[i] for name, value in whole.items()}, "labels": i % 2} for i in range(8)]
    losses = []
    for folder in (None, tmp_path / "cache", tmp_path / "cache"):
        settings: dict[str, Any] = {"max_steps": 4, "logging_steps": 1, "save_strategy": "no", "report_to": []}
        args = TrainingArguments(str(tmp_path / "out"), use_cpu=True, disable_tqdm=True, **settings)
        student = copy.deepcopy(teacher).requires_grad_(True)  # a trainer freezes its teacher
        with torch.no_grad():
            student.classifier.weight.mul_(2)
            student.bert.embeddings.word_embeddings.weight.mul_(1.1)
        objective = Objective(attention=1.0)
        trainer = CompressionTrainer(
            student, teacher=teacher, objective=objective, args=args, train_dataset=rows, teacher_cache_folder=folder
        )
        trainer.args.remove_unused_columns = False
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
        made = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*")}
        assert bool(made) == (folder is not None)
    assert losses[1] == losses[2]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
    with torch.no_grad():
        teacher.classifier.bias.add_(1)
    for half, changed in ((False, "the teacher"), (True, "the teacher and the precision")):
        args = TrainingArguments(str(tmp_path / "out"), use_cpu=True, disable_tqdm=True, bf16=half, **settings)
        with pytest.raises(InputError, match=f"is stale: {changed} changed"):
            CompressionTrainer(
                student,
                teacher=teacher,
                objective=objective,
                args=args,
                train_dataset=rows,
                teacher_cache_folder=folder,
            ).train()
