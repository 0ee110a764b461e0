"""search(...): measure the device, estimate every choice, train the most promising plans, keep the best student."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgefold.budget.blank_students import BlankStudents
from edgefold.budget.candidates import Candidate, Depth, explore_depths
from edgefold.budget.choices import distinct, random_sizes, to_plan
from edgefold.budget.costs import Cost, CostCounter
from edgefold.budget.even_candidates import choose
from edgefold.budget.goals import Budget
from edgefold.budget.latency_models import LEAST, LatencyModel
from edgefold.budget.latency_tables import LatencyTable, Measure, Timing, measure_plans
from edgefold.budget.measured_candidates import Selection, choose_measured
from edgefold.budget.search_folders import claim_folder
from edgefold.budget.search_inputs import SearchInputs, read_inputs
from edgefold.budget.search_page import render_search
from edgefold.budget.studies import Study
from edgefold.budget.trials import SearchResult, Trial
from edgefold.checkpoints import load_student
from edgefold.errors import GateError, InputError
from edgefold.jobs.compression import compress
from edgefold.jobs.training_runs import Progress, no_progress
from edgefold.plans import Plan
from edgefold.recipes.recipe import Recipe, check_recipe, dump_recipe
from edgefold.scores.rankings import rank_correlation
from edgefold.staging import staged_file
from edgefold.tasks.table import TASKS


@dataclass(frozen=True)
class Goal:
    """What the student is to be."""

    budget: Budget
    keep: float = 0.99
    """Of the teacher's quality on the validation data."""
    precision: str = "fp32"
    batch: int = 1
    sequence: int = 128
    """Tokens of each row; of images nothing is changed."""

    def __post_init__(self) -> None:
        if not 0 < self.keep < 10:
            raise InputError(f"keep={self.keep} is not a share of the teacher's quality, such as 0.99.")


@dataclass(frozen=True)
class Target:
    """Where latency is measured, and what its times depend on: they are not taken for those of another."""

    measure: Measure
    key: Mapping[str, str]


@dataclass(frozen=True)
class Effort:
    """How long to look."""

    measured_plans: int = 12
    short_trials: int = 4
    """Trainings for a third of the epochs: of the plans of least damage, and, where there are more than four, for one
    half of what `Study` suggests after them."""
    full_trials: int = 2
    """The best of them, which are trained whole until one meets the goal."""
    seed: int = 0

    @property
    def plans(self) -> int:
        """How many plans are trained at all."""
        return min(self.short_trials, max(FEW, self.short_trials // 2))


NEAR = 0.05
"""Of a limit, within which one measurement decides nothing."""
FEW = 4
"""Short trainings up to which each is of another plan."""


def search(
    recipe: Recipe,
    goal: Goal,
    target: Target,
    out: Path,
    *,
    effort: Effort | None = None,
    progress: Progress = no_progress,
) -> SearchResult:
    """Find a student within a budget that keeps a share of its teacher's quality.

    Blank students are measured on the target, and a latency model is fitted to them; what every choice loses is
    estimated without training; the plans of least damage within the budget, and the one that gives every dimension the
    same share, are measured themselves, and chosen anew until they meet it. Then they are trained for a third of the
    recipe's epochs, and the best of these whole, until one meets both goals. Everything lies in `out`:
    latency_table.json, trials/, search.json, search.html with the front, and recipe.yaml, the recipe with the winning
    plan. A search that was killed and is started again on the same folder goes on with what it finds there.

    Args:
        recipe: its plan is replaced, everything else holds for every trial.

    Raises:
        InputError: bad data, or `out` holds a search of another recipe, goal or target.
        GateError: even the smallest plan is beyond the budget.
    """
    return _Search(recipe, goal, target, out.absolute(), effort or Effort(), progress).run()


@dataclass(frozen=True)
class _Short:
    """A short training and what it was of."""

    candidate: Candidate
    rate: float
    trial: Trial


@dataclass
class _Search:
    recipe: Recipe
    goal: Goal
    target: Target
    out: Path
    effort: Effort
    progress: Progress
    trials: list[Trial] = field(default_factory=list)

    def run(self) -> SearchResult:
        self.recipe.check_paths()
        for key in ("stages", "gates"):
            if getattr(self.recipe, key):
                raise InputError(f"A search chooses the sizes itself and trains in one stage; leave `{key}` out.")
        self._claim_folder()
        self._refuse_what_is_met()
        depths = self._explore()
        table = self._measure(depths)
        selection = self._choose(depths, table)
        chosen, table, model = selection.candidates, selection.table, selection.model
        limit = self.goal.budget.limit(table.teacher_seconds)
        if not chosen:
            raise GateError(self._out_of_reach(depths, table, model))
        short = self._shortly(chosen, selection)
        order = sorted(short, key=lambda each: -each.trial.rank)
        for each in order[: self.effort.full_trials]:
            trial = self._train(each.candidate, each.rate, self.recipe.training.epochs, "full", selection)
            self._judge(trial, each.candidate, table, limit)
            if trial.met:
                break
        return self._conclude([each.trial for each in short], table, model, limit)

    def _claim_folder(self) -> None:
        """Write down what is searched for; refuse a folder where something else was."""
        wanted = {
            "recipe": self.recipe.model_dump(mode="json", exclude={"plan"}),
            "budget": str(self.goal.budget),
            "precision": self.goal.precision,
            "shape": [self.goal.batch, self.goal.sequence],
            "effort": vars(self.effort),
        }
        claim_folder(self.out, wanted)

    @cached_property
    def task(self) -> Any:
        return TASKS[self.recipe.task]

    @cached_property
    def given(self) -> SearchInputs:
        return read_inputs(self.recipe, self.goal.sequence)

    @cached_property
    def blanks(self) -> BlankStudents:
        return BlankStudents(self.given.teacher, self.given.inputs, self.goal.batch, self.given.graph)

    def _explore(self) -> list[Depth]:
        torch.manual_seed(self.recipe.training.seed)
        given = self.given
        return explore_depths(
            given.teacher,
            given.graph,
            given.inputs,
            given.calibration,
            given.held_out,
            lambda done, total: self.progress("estimate", done, total, {}),
        )

    def _measure(self, depths: Sequence[Depth]) -> LatencyTable:
        """The teacher and, at every depth, plans drawn at random, on the target."""
        count = -(-self.effort.measured_plans // len(depths))
        drawn = (
            distinct((to_plan(d.choices, s, d.steps) for s in random_sizes(d.choices, self.effort.seed)), count)
            for d in depths
        )
        plans = [Plan([]), *(plan for plan in chain.from_iterable(drawn) if plan.steps)]
        if len(plans) < LEAST:
            raise InputError(
                f"A search needs {LEAST} different plans or more, and this model has {len(plans)}: "
                f"{', '.join(c.dimension for c in depths[0].choices) or 'nothing'} is all that is worth a choice, in "
                "few sizes. Write a plan by hand, and train it with `edgefold compress`."
            )
        return self._measured(plans)

    def _refuse_what_is_met(self) -> None:
        """Before anything is estimated: the teacher's cost is counted, its time, where a clock decides, measured."""
        budget, unchanged = self.goal.budget, Plan([])
        if budget.is_timed:
            table = self._measured([unchanged])
            cost, seconds = table.entry(unchanged).cost, table.teacher_seconds
        else:
            cost, seconds = self.blanks.build(unchanged).cost, 0.0
        spent = budget.spent(cost, seconds, self.goal.precision)
        if spent <= (limit := budget.limit(seconds)):
            raise InputError(
                f"The teacher meets {budget} as it is: it uses {spent / limit:.0%} of it. Give a budget that it misses."
            )

    def _out_of_reach(self, depths: Sequence[Depth], table: LatencyTable, model: LatencyModel) -> str:
        """What the smallest plan of any depth comes to."""
        budget, spent = self.goal.budget, []
        for depth in depths:
            cost = CostCounter(depth.graph, self.goal.batch).count({c.dimension: c.sizes[0] for c in depth.choices})
            spent.append(budget.spent(cost, model.predict(cost), self.goal.precision))
        share = min(spent) / budget.limit(table.teacher_seconds)
        reached = f"{budget.value / share:.2g} times as fast" if budget.kind == "speedup" else f"{share:.2g} times that"
        return (
            f"No plan meets {budget}: even the smallest is beyond it, {reached} as far as can be told. Ask for that, "
            "or start from another teacher."
        )

    def _measured(self, plans: Sequence[Plan], number: int = 0) -> LatencyTable:
        return measure_plans(
            self.blanks,
            plans,
            self.target.measure,
            key=self.target.key,
            path=self.out / "latency_table.json",
            progress=lambda done, total: self.progress("measure", done, total, {}),
            number=number,
        )

    def _choose(self, depths: Sequence[Depth], table: LatencyTable) -> Selection:
        """The plans to be trained; where a clock decides, only such as were measured to meet the budget."""
        budget, count, batch = self.goal.budget, self.effort.plans, self.goal.batch
        if budget.is_timed:
            return choose_measured(depths, table, self._measured, budget.limit, count, batch)
        model = table.fit()

        def spent(cost: Cost) -> float:
            return budget.spent(cost, model.predict(cost), self.goal.precision)

        return Selection(choose(depths, spent, budget.limit(table.teacher_seconds), count, batch), table, model)

    def _shortly(self, chosen: Sequence[Candidate], selection: Selection) -> list["_Short"]:
        """The trainings that tell the plans apart; of two alike the second costs nothing."""
        epochs = max(1, self.recipe.training.epochs // 3)
        study = Study(self.out / "trials.db", [each.plan for each in chosen], self.effort.seed)
        found = []
        for number in range(self.effort.short_trials):
            suggestion = study.ask(number)
            candidate = chosen[suggestion.plan]
            trial = self._train(candidate, suggestion.rate, epochs, "short", selection)
            study.tell(suggestion, trial.share, trial.predicted_seconds)
            found.append(_Short(candidate, suggestion.rate, trial))
        return found

    def _train(self, candidate: Candidate, rate: float, epochs: int, kind: str, selection: Selection) -> Trial:
        """Train a plan, or read what a search that was stopped has trained of it.

        A trial's folder is named by plan and learning rate: should the estimates come out otherwise the next time, no
        plan gets the figures of another.
        """
        recipe = self._recipe(candidate.plan, rate, epochs)
        said = json.dumps([candidate.plan.to_dicts(), recipe.training.learning_rate])
        name = f"{kind}-{hashlib.sha256(said.encode()).hexdigest()[:8]}"
        folder = self.out / "trials" / name
        if not (folder / "metrics.json").is_file():
            begun = folder.with_name(f".{name}.unfinished").exists()
            compress(recipe, folder, resume=begun, progress=self.progress)
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        metric = self.task.metrics[0]
        quality = float(metrics[f"validation_{metric.name}"])
        trial = Trial(
            name=name,
            plan=candidate.plan.to_dicts(),
            epochs=epochs,
            learning_rate=recipe.training.learning_rate,
            damage=candidate.damage,
            predicted_seconds=selection.model.predict(candidate.cost),
            timing=selection.timing(candidate),
            parameters=candidate.cost.parameters,
            quality=quality,
            share=metric.share_of_teacher(quality, self.given.teacher_quality),
        )
        self.trials.append(trial)
        total = self.effort.short_trials + self.effort.full_trials
        self.progress("search", len(self.trials), total, {"quality": quality, "damage": candidate.damage})
        return trial

    def _recipe(self, plan: Plan, rate: float, epochs: int) -> Recipe:
        content = self.recipe.model_dump(mode="json", exclude_none=True)
        settings = content["training"]
        training = {**settings, "epochs": epochs, "learning_rate": rate * settings["learning_rate"]}
        return check_recipe({**content, "plan": plan.to_dicts(), "training": training})

    def _judge(self, trial: Trial, candidate: Candidate, table: LatencyTable, limit: float) -> None:
        """Measure a student that was trained whole on the target; whether it meets both goals."""
        student = load_student(self.out / "trials" / trial.name)
        trial.parameters = sum(parameter.numel() for parameter in student.parameters())
        trial.timing = self._time(student, table, limit)
        seconds = table.teacher_seconds * trial.timing.seconds / trial.timing.teacher_seconds
        cost = self.blanks.build(candidate.plan).cost
        cost = replace(cost, parameters=trial.parameters)  # of a vocabulary that was trimmed, too
        trial.spent = self.goal.budget.spent(cost, seconds, self.goal.precision)
        trial.met = trial.spent <= limit and trial.rank >= self.goal.keep

    def _time(self, student: nn.Module, table: LatencyTable, limit: float) -> Timing:
        """Near a limit that a clock decides the median of three measurements."""
        timings = [self.target.measure(student, self.given.inputs)]
        used = table.teacher_seconds * timings[0].seconds / timings[0].teacher_seconds / limit
        if self.goal.budget.is_timed and abs(used - 1) < NEAR:
            timings += [self.target.measure(student, self.given.inputs) for _ in range(2)]
        return sorted(timings, key=lambda each: each.seconds / each.teacher_seconds)[len(timings) // 2]

    def _conclude(self, short: Sequence[Trial], table: LatencyTable, model: LatencyModel, limit: float) -> SearchResult:
        full = [trial for trial in self.trials if trial.spent is not None]
        within = [trial for trial in full if trial.spent is not None and trial.spent <= limit]
        winner = max(within or full, key=lambda trial: (trial.met, trial.rank))
        result = SearchResult(
            budget=str(self.goal.budget),
            limit=limit,
            is_timed=self.goal.budget.is_timed,
            keep=self.goal.keep,
            metric=self.task.metrics[0].name,
            teacher_quality=self.given.teacher_quality,
            teacher_seconds=table.teacher_seconds,
            precision=self.goal.precision,
            batch=self.goal.batch,
            sequence=self.goal.sequence if self.given.has_tokens else None,
            latency_error=model.median_error,
            rank_correlation=rank_correlation([-trial.damage for trial in short], [trial.rank for trial in short]),
            trials=self.trials,
            winner=winner.name,
            met=winner.met,
        )
        content = self.recipe.model_dump(mode="json", exclude_none=True)
        training = {**content["training"], "learning_rate": winner.learning_rate}
        recipe = check_recipe({**content, "plan": winner.plan, "training": training})
        dump_recipe(recipe, self.out / "recipe.yaml")
        with staged_file(self.out / "search.json") as staging:
            staging.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
        render_search(result, self.out / "search.html")
        return result
