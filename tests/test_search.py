"""A search ends with a student that meets its goals or with what would have to give, and loses nothing when killed."""

import json
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn
from typer.testing import CliRunner

from edgefold.budget import onnxruntime_target
from edgefold.budget import search as module
from edgefold.budget.goals import parse_budget
from edgefold.budget.latency_tables import Timing
from edgefold.budget.search import Effort, Goal, Target, search
from edgefold.budget.trials import SearchResult
from edgefold.checkpoints import load_student
from edgefold.cli.application import app
from edgefold.errors import GateError, InputError
from edgefold.recipes.gates import GateSettings
from edgefold.recipes.recipe import Recipe, load_recipe

EFFORT = Effort(measured_plans=4, short_trials=2, full_trials=2)
HALF = Goal(parse_budget("speedup=2x"), keep=0.01, sequence=16)
TEACHER_SECONDS = 1e-3


def size_of(model: nn.Module) -> int:
    return sum(parameter.numel() for name, parameter in model.named_parameters() if "embeddings" not in name)


def kinds(names: Iterable[str]) -> list[str]:
    return [name.partition("-")[0] for name in names]


class Clock:
    """A device whose passes take as long as there are weights."""

    def __init__(self, teacher_size: int) -> None:
        self.measured = 0
        self._teacher_size = teacher_size

    def __call__(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Timing:
        self.measured += 1
        seconds = TEACHER_SECONDS * size_of(model) / self._teacher_size
        return Timing(seconds=seconds, teacher_seconds=TEACHER_SECONDS)


@pytest.fixture(scope="module")
def recipe(job: Path) -> Recipe:
    return load_recipe(job / "recipe.yaml")


@pytest.fixture(scope="module")
def shallow_job(job: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with one layer, so that there is one depth to explore."""
    from transformers import AutoConfig, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("shallow") / "job"
    shutil.copytree(job, folder)
    config = AutoConfig.from_pretrained(job / "teacher", num_hidden_layers=1)
    BertForSequenceClassification(config).save_pretrained(folder / "teacher")
    return folder


def clock_for(recipe: Recipe) -> Target:
    from transformers import AutoModelForSequenceClassification

    teacher = AutoModelForSequenceClassification.from_pretrained(recipe.teacher)
    return Target(Clock(size_of(teacher)), {"device": "a clock"})


@pytest.fixture
def target(recipe: Recipe) -> Target:
    return clock_for(recipe)


@dataclass(frozen=True)
class Resumed:
    """A search that was killed after its first trial and started again: what was trained and measured by each."""

    out: Path
    result: SearchResult
    trained: list[list[str]]
    measured: list[int]


@pytest.fixture(scope="module")
def resumed(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    out, target = tmp_path_factory.mktemp("resumed") / "search", clock_for(recipe)
    compress, names = module.compress, list[str]()
    assert isinstance(target.measure, Clock)

    def counted(recipe: Recipe, out: Path, **arguments: Any) -> Any:
        names.append(out.name)
        return compress(recipe, out, **arguments)

    def kill(stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
        if (stage, done) == ("search", 1):
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(module, "compress", counted)
        with pytest.raises(KeyboardInterrupt):
            search(recipe, HALF, target, out, effort=EFFORT, progress=kill)
        before, measured = list(names), target.measure.measured
        result = search(recipe, HALF, target, out, effort=EFFORT)
    return Resumed(out, result, [before, names[len(before) :]], [measured, target.measure.measured - measured])


def test_the_winner_meets_budget_and_quality(resumed: Resumed) -> None:
    out, result = resumed.out, resumed.result
    assert result.met
    assert result.advice == ""
    assert result.limit == pytest.approx(TEACHER_SECONDS / 2)
    assert result.best.spent is not None
    assert result.best.spent <= result.limit
    assert kinds(trial.name for trial in result.trials) == ["short", "short", "full"]
    page = (out / "search.html").read_text()
    assert result.best.described in page
    assert page.count('<circle class="student"') == 2  # one whole, on two canvases
    assert json.loads((out / "search.json").read_text()) == json.loads(result.model_dump_json())
    student = load_student(out / "trials" / result.winner)
    assert sum(parameter.numel() for parameter in student.parameters()) == result.best.parameters
    assert [step.to_step() for step in load_recipe(out / "recipe.yaml").plan]
    assert load_recipe(out / "recipe.yaml").to_plan().to_dicts() == result.best.plan


def test_a_killed_search_loses_no_finished_trial(resumed: Resumed) -> None:
    before, after = resumed.trained
    assert kinds(before) == ["short"]
    assert kinds(after) == ["short", "full"]
    assert len({*before, *after}) == 3
    assert resumed.measured[0] > 1 + EFFORT.measured_plans  # the candidates, too
    assert resumed.measured[1] in (1, 3)  # the winner, thrice where it is near the limit; the table was there


@pytest.mark.filterwarnings("ignore")
def test_a_quality_that_is_out_of_reach_ends_with_the_nearest_student(
    recipe: Recipe, target: Target, resumed: Resumed, tmp_path: Path
) -> None:
    """The trials of the same search for less are taken as they are."""
    out = tmp_path / "search"
    shutil.copytree(resumed.out, out)
    result = search(recipe, replace(HALF, keep=9.0), target, out, effort=EFFORT)
    assert not result.met
    assert kinds(trial.name for trial in result.trials) == ["short", "short", "full", "full"]
    assert result.best.rank == max(trial.rank for trial in result.trials if trial.spent is not None)
    assert "lower --keep, raise the budget" in result.advice


def test_a_budget_below_the_smallest_plan_is_refused(shallow_job: Path, tmp_path: Path) -> None:
    recipe, goal = load_recipe(shallow_job / "recipe.yaml"), replace(HALF, budget=parse_budget("speedup=100000x"))
    with pytest.raises(GateError, match=r"even the smallest is beyond it, .* times as fast as far as can be told"):
        search(recipe, goal, clock_for(recipe), tmp_path / "search", effort=EFFORT)


def test_a_folder_with_something_else_is_refused(recipe: Recipe, target: Target, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no search"):
        search(recipe, HALF, target, tmp_path, effort=EFFORT)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "request.json").write_text("{}")
    with pytest.raises(InputError, match="holds another search"):
        search(recipe, HALF, target, tmp_path / "other", effort=EFFORT)


def test_what_chooses_sizes_beside_the_search_is_refused(recipe: Recipe, target: Target, tmp_path: Path) -> None:
    gates = GateSettings(where=("ffn",), keep=0.5)
    with pytest.raises(InputError, match="leave `gates` out"):
        search(recipe.model_copy(update={"gates": gates}), HALF, target, tmp_path / "search", effort=EFFORT)
    assert not (tmp_path / "search").exists()


@pytest.mark.filterwarnings("ignore")
def test_more_trials_than_plans_try_other_learning_rates(
    recipe: Recipe, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FEW", 1)
    effort = Effort(measured_plans=4, short_trials=2, full_trials=1)
    result = search(recipe, HALF, target, tmp_path / "search", effort=effort)
    usual = recipe.training.learning_rate
    first, second, full = (trial.learning_rate for trial in result.trials)
    assert (first, full) == (usual, pytest.approx(result.best.learning_rate))
    assert second != usual
    assert usual / 3 <= second <= usual * 3
    assert load_recipe(tmp_path / "search" / "recipe.yaml").training.learning_rate == result.best.learning_rate


def briefly(benchmark: Callable[..., Any]) -> Callable[..., Any]:
    """The same measurement in a tenth of the time, where no figure counts."""
    return lambda *given, **named: benchmark(*given, **{**named, "min_duration_s": 0.07, "warmup_s": 0.02})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_command_searches_on_this_machine(
    shallow_job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime_target, "benchmark_artifacts", briefly(onnxruntime_target.benchmark_artifacts))
    recipe, out = shallow_job / "recipe.yaml", tmp_path / "search"
    arguments = ["search", str(recipe), "--out", str(out), "--keep", "0.01", "--json"]
    found = CliRunner().invoke(
        app, [*arguments, "--budget", "size=20kB", "--sequence", "16", "--trials", "1", "--measured", "5"]
    )
    assert found.exit_code == 0, found.stderr
    document = json.loads(found.stdout)
    assert document["met"]
    assert document["trials"][-1]["spent"] <= 20_000
    assert document["latency_error"] >= 0


def test_the_command_refuses_what_is_no_budget(job: Path, tmp_path: Path) -> None:
    arguments = ["search", str(job / "recipe.yaml"), "--out", str(tmp_path / "search"), "--budget", "5ms"]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 2
    assert "latency=5ms" in refused.stderr
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize("budget", ["size=1GB", "flops=1T", "latency=1s", "speedup=0.9x"])
def test_a_budget_that_the_teacher_meets_is_refused(budget: str, shallow_job: Path, tmp_path: Path) -> None:
    recipe, target = load_recipe(shallow_job / "recipe.yaml"), clock_for(load_recipe(shallow_job / "recipe.yaml"))
    goal = replace(HALF, budget=parse_budget(budget))
    with pytest.raises(InputError, match=r"The teacher meets .* as it is: it uses"):
        search(recipe, goal, target, tmp_path / "search", effort=EFFORT)
    assert isinstance(target.measure, Clock)
    assert target.measure.measured == int(goal.budget.is_timed)  # the teacher, before anything is estimated
