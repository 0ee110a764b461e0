"""Every recipe for text classification on the demo task: quality, size and latency of what it makes, and what it costs.

    DEMOS=out/demo make bench ARGS="-k recipes"

Each folder of DEMOS is one that `edgefold demo` wrote; its number among them is the seed of its students.
RECIPES="seed,albert" chooses some, EPOCHS=1 shortens all. One thread and processor time, the teacher's outputs
included: they are a part of what a recipe costs. int8 is the faster of static and dynamic within half a point of fp32
on the validation texts; latency is of batch 1 and 128 tokens, all in turns.
"""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import pytest
import torch
from demo_teacher import FOLDER, TASK, Demo

from edgefold.checkpoints import load_student
from edgefold.cli.demo_measurement import Contestant, choose_int8, measure_times
from edgefold.jobs.compression import compress
from edgefold.ratios import paired_ratio
from edgefold.recipes.recipe import load_recipe
from edgefold.sparsity import weight_table


@dataclass
class Row:
    """One student of one recipe."""

    recipe: str
    seed: int
    metrics: dict[str, float]
    minutes: float
    zero_share: float
    forms: list[Contestant]
    """fp32, int8 static, int8 dynamic."""


def run(demo: Demo, path: Path, seed: int, out: Path) -> Row:
    begun = time.process_time()
    result = compress(demo.recipe(path, seed), out / f"{path.stem}-{seed}")
    minutes = (time.process_time() - begun) / 60
    student = load_student(result.student)
    matrices = weight_table(student, with_ranks=False)
    sizes = [torch.Size(row["shape"]).numel() for row in matrices]
    zeros = sum(row["zero_share"] * size for row, size in zip(matrices, sizes, strict=True)) / sum(sizes)
    row = Row(path.stem, seed, result.metrics, minutes, zeros, demo.export(f"{path.stem}-{seed}", student, out))
    figures = {"recipe": row.recipe, "seed": seed, "minutes": minutes, "zeros": zeros, **result.metrics}
    print(json.dumps(figures | {form.name: form.accuracy for form in row.forms}), flush=True)
    return row


def print_head(teacher: Contestant) -> None:
    print(
        f"\nteacher: test accuracy {teacher.accuracy:.4f}, {teacher.parameters / 1e6:.2f} M parameters, "
        f"{teacher.encoder_parameters / 1e6:.2f} M of them of the encoder"
    )
    print("| recipe | seed | of the teacher | parameters, encoder (M) | zeros | fp32 x | int8: of it, x | min |")
    print("|---|---|---|---|---|---|---|---|")


def print_row(row: Row, teacher: Contestant, out: Path) -> None:
    """Of int8 the form that would be chosen; the teacher is measured in turns with every row anew."""
    reports = measure_times([teacher, *row.forms], out / f"{row.recipe}-times.json", 1.0)

    def faster(contestant: Contestant) -> float:
        return paired_ratio(reports[teacher.name], reports[contestant.name]).value

    fp32, *candidates = row.forms
    int8 = choose_int8(candidates, reports, fp32)
    print(
        f"| {row.recipe} | {row.seed} | {fp32.accuracy / teacher.accuracy:.1%} | {fp32.parameters / 1e6:.2f}, "
        f"{fp32.encoder_parameters / 1e6:.2f} | {row.zero_share:.1%} | {faster(fp32):.2f} | "
        f"{int8.accuracy / teacher.accuracy:.1%}, {faster(int8):.2f} | {row.minutes:.1f} |",
        flush=True,
    )


@pytest.mark.slow
def test_every_recipe_on_the_demo_task(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    chosen = os.environ.get("RECIPES")
    paths = [path for path in sorted(FOLDER.glob("*.yaml")) if load_recipe(path).task == TASK]
    if chosen is not None:  # in the order that was asked for
        paths = [path for name in chosen.split(",") for path in paths if path.stem == name]
    assert paths, f"RECIPES={chosen} names no recipe in {FOLDER}"
    for seed, folder in enumerate(os.environ.get("DEMOS", "out/demo").split(",")):
        demo = Demo(Path(folder))
        out = tmp_path / str(seed)
        out.mkdir()
        (teacher, *_) = demo.export("teacher", demo.teacher, out)
        print_head(teacher)
        shares = []
        for path in paths:
            row = run(demo, path, seed, out)
            print_row(row, teacher, out)
            shares.append(row.metrics["share_of_teacher"])
        assert mean(shares) > 0.8
