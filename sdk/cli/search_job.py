"""The search behind `edgefold search`, and what it says of the student that it found."""

import json
from pathlib import Path

from edgefold.budget.device_search import search
from edgefold.budget.goals import Budget
from edgefold.budget.onnxruntime_target import Precision
from edgefold.budget.search import Effort
from edgefold.budget.trials import SearchResult
from edgefold.cli.answers import Answer
from edgefold.cli.progress import shown_progress
from edgefold.cli.tables import make_table
from edgefold.recipes.recipe import Recipe


def run_search(
    recipe: Recipe,
    budget: Budget,
    out: Path,
    *,
    keep: float,
    precision: Precision,
    batch: int,
    sequence: int,
    threads: int,
    effort: Effort,
    device: str,
    cuda_graph: bool,
) -> Answer:
    """Search for a student, and say what was found; status 3 where no student meets both goals.

    Raises:
        As `edgefold.search`.
    """
    with shown_progress() as progress:
        result = search(
            recipe,
            budget,
            out,
            keep=keep,
            device=device,
            cuda_graph=cuda_graph,
            precision=precision,
            batch=batch,
            sequence=sequence,
            threads=threads,
            effort=effort,
            progress=progress,
        )
    return Answer(json.loads(result.model_dump_json()), _texts(result, out), 0 if result.met else 3)


def _texts(result: SearchResult, out: Path) -> tuple[object, ...]:
    columns = ("trial", "epochs", "learning rate", "plan", "damage", "predicted ms", "measured ms", "of teacher")
    rows = []
    for trial in result.trials:
        measured = "-" if trial.timing is None else f"{result.seconds(trial) * 1e3:.2f}"
        share = "-" if trial.share is None else f"{trial.share:.1%}"
        figures = (f"{trial.damage:.3f}", f"{trial.predicted_seconds * 1e3:.2f}", measured, share)
        rows.append((trial.name, trial.epochs, f"{trial.learning_rate:.2g}", trial.described, *figures))
    correlation = "unknown" if result.rank_correlation is None else f"{result.rank_correlation:.2f}"
    facts = (
        f"The latency model is off by {result.latency_error:.1%} (median) on plans it was not fitted to; the rank "
        f"correlation of estimated damage with the quality of short trainings is {correlation}."
    )
    verdict = (
        f"{result.winner} meets {result.budget} and keeps {result.best.rank:.1%}. "
        if result.met
        else f"Missed: {result.advice} "
    )
    return (
        make_table(f"{result.budget}, {result.shape}; teacher {result.teacher_seconds * 1e3:.2f} ms", columns, rows),
        facts,
        f"{verdict}The student is in {out / 'trials' / result.winner}, the recipe in {out / 'recipe.yaml'}, the front "
        f"in {out / 'search.html'}.",
    )
