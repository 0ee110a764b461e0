"""edgefold.search(...): a recipe and a budget in, the student that meets it on a device out."""

import tempfile
from pathlib import Path

from edgefold.budget.goals import Budget, parse_budget
from edgefold.budget.onnxruntime_target import OnnxRuntimeTarget, Precision, check_runs_there
from edgefold.budget.search import Effort, Goal, Target
from edgefold.budget.search import search as search_on
from edgefold.budget.trials import SearchResult
from edgefold.jobs.training_runs import Progress, no_progress
from edgefold.recipes.recipe import Recipe, load_recipe
from edgefold.tasks.table import TASKS


def search(
    recipe: Recipe | Path | str,
    budget: Budget | str,
    out: Path | str,
    *,
    keep: float = 0.99,
    device: str = "cpu",
    cuda_graph: bool = False,
    precision: Precision = "fp32",
    batch: int = 1,
    sequence: int = 128,
    threads: int = 1,
    effort: Effort | None = None,
    progress: Progress = no_progress,
) -> SearchResult:
    """Find a student within a budget on a device that keeps a share of its teacher's quality.

    The same as `edgefold search`; `edgefold.budget.search.search` takes any other target. In ONNX Runtime; on a CPU
    with one thread times are the processor's.

    Args:
        recipe: its plan is replaced, everything else holds for every trial; a file's is read.
        budget: such as "latency=5ms", "speedup=4x", "size=10MB" or "flops=200M".
        out: a folder for the search; given again, the search goes on.
        keep: of the teacher's quality, on the validation data.
        device: "cpu" or "cuda" of this machine, or ssh://user@host[:port].
        cuda_graph: on "cuda", whether the kernels of a pass are launched as one graph.
        precision: of the latency, "fp16" on a GPU alone and "int8" not there; quality is the student's in float32.
        sequence: tokens of each of the `batch` rows.

    Raises:
        InputError: bad data, a precision or a graph that the device does not run, or `out` holds something else.
        GateError: no plan is within the budget.
        DeviceError: the device cannot be reached.
    """
    job = recipe if isinstance(recipe, Recipe) else load_recipe(Path(recipe))
    wanted = parse_budget(budget) if isinstance(budget, str) else budget
    check_runs_there(precision, device, cuda_graph)
    job.check_paths()
    goal = Goal(wanted, keep, precision, batch, sequence)
    teacher = TASKS[job.task].open_teacher(job.teacher)
    with tempfile.TemporaryDirectory(prefix="edgefold-search-") as folder:
        measure = OnnxRuntimeTarget(
            teacher,
            Path(folder),
            precision,
            batch=batch,
            sequence=sequence,
            threads=threads,
            device=device,
            cuda_graph=cuda_graph,
        )
        return search_on(job, goal, Target(measure, measure.key), Path(out), effort=effort, progress=progress)
