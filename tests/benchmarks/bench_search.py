"""A searched student of the demo task against a uniform one and a random search of equal cost, at equal latency.

    DEMOS=out/demo SPEEDUP=8 make bench ARGS="-k searched_student"

DEMOS and EPOCHS as for bench_recipes.py; each folder's number is the seed, counted from FIRST_SEED (0). The searched
and the random arm each train four plans for a third of the epochs and the two best of these whole; the uniform one,
every dimension at the same share, which is the last of the searched arm's four too, is trained whole once. All plans
were measured to just meet the budget before they are trained.
"""

import os
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from demo_teacher import FOLDER, Demo
from torch import Tensor, nn

from edgefold.budget.blank_students import BlankStudents
from edgefold.budget.candidates import Candidate, Depth, explore_depths
from edgefold.budget.choices import distinct, random_sizes, to_plan
from edgefold.budget.costs import CostCounter
from edgefold.budget.latency_tables import LatencyTable, measure_plans
from edgefold.budget.measured_candidates import ROUNDS, Selection, choose_measured
from edgefold.budget.onnxruntime_target import OnnxRuntimeTarget
from edgefold.budget.search_inputs import SearchInputs, read_inputs
from edgefold.checkpoints import load_student
from edgefold.jobs.compression import compress
from edgefold.plans import Plan
from edgefold.recipes.recipe import Recipe, check_recipe
from edgefold.scores.rankings import rank_correlation

SPEEDUP = float(os.environ.get("SPEEDUP", "8"))
FIRST_SEED = int(os.environ.get("FIRST_SEED", "0"))
SHORT, FULL = 4, 2
NEAR = 0.85
"""Of the budget that a random plan spends at least."""


@dataclass
class Trained:
    plan: Plan
    metrics: Mapping[str, float]
    folder: Path


class Bench:
    """A teacher, its data, what a search measures and estimates beforehand, and trainings of plans."""

    def __init__(self, recipe: Recipe, out: Path) -> None:
        self.recipe, self.out = recipe, out
        self.given: SearchInputs = read_inputs(recipe, 128)
        given = self.given
        self.depths: list[Depth] = explore_depths(
            given.teacher, given.graph, given.inputs, given.calibration, given.held_out
        )
        folder = Path(tempfile.mkdtemp(dir=out))
        self.measure = OnnxRuntimeTarget(given.teacher, folder, "fp32", batch=1, sequence=128, threads=1)
        drawn = (distinct((to_plan(d.choices, s, d.steps) for s in random_sizes(d.choices, 0)), 4) for d in self.depths)
        self.blanks = BlankStudents(given.teacher, given.inputs, graph=given.graph)
        self.plans = [Plan([]), *(plan for group in drawn for plan in group)]
        self.path = folder / "latency_table.json"

    def measured(self, plans: Sequence[Plan], number: int = 0) -> LatencyTable:
        return measure_plans(self.blanks, plans, self.measure, key={}, path=self.path, number=number)

    @cached_property
    def selection(self) -> Selection:
        """As a search makes it."""
        return choose_measured(self.depths, self.measured(self.plans), self.measured, lambda s: s / SPEEDUP, SHORT)

    def used(self, plan: Plan) -> float:
        """Of the budget, measured."""
        timing = self.measured([plan], ROUNDS + 1).entry(plan).timing
        return SPEEDUP * timing.seconds / timing.teacher_seconds

    def train(self, plan: Plan, epochs: int, name: str) -> Trained:
        content = self.recipe.model_dump(mode="json", exclude_none=True)
        training = {**content["training"], "epochs": epochs}
        recipe = check_recipe({**content, "plan": plan.to_dicts(), "training": training})
        return Trained(plan, compress(recipe, self.out / name).metrics, self.out / name)

    def contest(self, name: str, candidates: Sequence[Candidate]) -> Trained:
        """The best of all by the validation data."""
        epochs = self.recipe.training.epochs
        short = [self.train(c.plan, max(1, epochs // 3), f"{name}-short-{i}") for i, c in enumerate(candidates)]
        scores = [each.metrics["validation_accuracy"] for each in short]
        correlation = rank_correlation([-candidate.damage for candidate in candidates], scores)
        print(f"{name}: short trainings {scores}, rank correlation with the estimate {correlation}", flush=True)
        order = sorted(range(len(short)), key=lambda i: -scores[i])[:FULL]
        full = [self.train(candidates[i].plan, epochs, f"{name}-full-{i}") for i in order]
        return max(full, key=lambda each: each.metrics["validation_accuracy"])

    def ratio(self, module: nn.Module, inputs: Mapping[str, Tensor]) -> float:
        timing = self.measure(module, inputs)
        return timing.teacher_seconds / timing.seconds


def random_candidates(bench: Bench, seed: int) -> Iterator[Candidate]:
    """Plans of any depth that spend nearly all of the budget."""
    source = random.Random(seed)
    model, limit = bench.selection.model, bench.selection.table.teacher_seconds / SPEEDUP
    counters = [CostCounter(depth.graph) for depth in bench.depths]
    drawn = [random_sizes(depth.choices, seed) for depth in bench.depths]
    while True:
        place = source.randrange(len(bench.depths))
        depth, sizes = bench.depths[place], next(drawn[place])
        cost = counters[place].count(sizes)
        plan = to_plan(depth.choices, sizes, depth.steps)
        if NEAR * limit <= model.predict(cost) <= limit / NEAR and NEAR <= bench.used(plan) <= 1:
            lost = depth.lost + sum(depth.damage[name][size] for name, size in sizes.items())
            yield Candidate(plan, lost, cost)


def said(plan: Plan) -> str:
    values: list[Any] = [step for each in plan.to_dicts() for step in each.values()]
    return ", ".join(" ".join(str(value) for value in step.values()) for step in values)


def compare(folder: Path, seed: int, out: Path) -> dict[str, Trained]:
    bench = Bench(Demo(folder).recipe(FOLDER / "reviews.yaml", seed), out)
    proposed = bench.selection.candidates
    print(f"seed {seed}, of the budget: {[round(bench.used(each.plan), 3) for each in proposed]}", flush=True)
    found = {"searched": bench.contest("searched", proposed)}
    found["uniform"] = bench.train(proposed[-1].plan, bench.recipe.training.epochs, "uniform")
    found["random"] = bench.contest("random", list(islice(random_candidates(bench, seed), SHORT)))
    off = f"latency model off by {bench.selection.model.median_error:.1%}"
    print(f"\nseed {seed}, {SPEEDUP:g} x the teacher's speed in fp32; {off}")
    print("| arm | x | of the teacher, test | validation | parameters (M) | plan |\n|---|---|---|---|---|---|")
    for name, each in found.items():
        student = load_student(each.folder)
        size = sum(parameter.numel() for parameter in student.parameters()) / 1e6
        shares = [each.metrics[f"{split}_accuracy"] for split in ("test", "validation")]
        share = f"{shares[0] / each.metrics['teacher_test_accuracy']:.1%} | {shares[1]:.3f}"
        ratio = bench.ratio(student, bench.given.inputs)
        print(f"| {name} | {ratio:.2f} | {share} | {size:.2f} | {said(each.plan)} |", flush=True)
    return found


@pytest.mark.slow
def test_a_searched_student_against_uniform_and_random_ones(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    for seed, folder in enumerate(os.environ.get("DEMOS", "out/demo").split(","), FIRST_SEED):
        out = tmp_path / str(seed)
        out.mkdir()
        found = compare(Path(folder), seed, out)
        assert found["searched"].metrics["share_of_teacher"] > 0.8
