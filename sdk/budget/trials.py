"""What a search wrote down: every plan that was trained, and what came of it."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from edgefold.budget.latency_tables import Timing


class Trial(BaseModel):
    """A plan that was trained."""

    model_config = ConfigDict(extra="forbid")
    name: str
    """Its folder below trials."""
    plan: list[dict[str, Any]]
    epochs: int
    learning_rate: float
    damage: float
    """The share of the variance of the teacher's outputs that it was estimated to miss before training."""
    predicted_seconds: float
    parameters: int
    quality: float
    """The task's main metric on the validation data."""
    share: float | None
    """Of the teacher's quality; None where that is no number."""
    timing: Timing | None = None
    spent: float | None = None
    """What was measured of the budget: seconds on a machine of the teacher's median speed, bytes or operations."""
    met: bool = False
    """Whether budget and quality are both met."""

    @property
    def described(self) -> str:
        """The plan in a few words."""
        steps = [arguments for step in self.plan for arguments in step.values()]
        return ", ".join(" ".join(str(value) for value in arguments.values()) for arguments in steps)

    @property
    def rank(self) -> float:
        """The larger the better."""
        return float("-inf") if self.share is None else self.share


class SearchResult(BaseModel):
    """All that a search found out."""

    model_config = ConfigDict(extra="forbid")
    schema_version: int = 1
    budget: str
    limit: float
    """The most that may be spent: seconds, bytes or operations."""
    is_timed: bool
    """Whether they are seconds."""
    keep: float
    metric: str
    teacher_quality: float
    teacher_seconds: float
    precision: str
    batch: int
    sequence: int | None
    """Tokens of a row; None where there are none."""
    latency_error: float
    """Median relative error of the latency model for plans that it was not fitted to."""
    rank_correlation: float | None
    """Spearman's, of least damage with the best quality after the short trainings: how far to trust the estimate."""
    trials: list[Trial]
    winner: str
    """The trial that met budget and quality, or else came nearest."""
    met: bool

    @property
    def shape(self) -> str:
        """Of what was measured, in words."""
        tokens = "" if self.sequence is None else f"{self.sequence} tokens, "
        return f"batch {self.batch}, {tokens}{self.precision}"

    @property
    def best(self) -> Trial:
        return next(trial for trial in self.trials if trial.name == self.winner)

    def seconds(self, trial: Trial) -> float:
        """Measured where it was, on a machine that gives the teacher its median time; else as the model predicts."""
        timing = trial.timing
        if timing is None:
            return trial.predicted_seconds
        return self.teacher_seconds * timing.seconds / timing.teacher_seconds

    @property
    def advice(self) -> str:
        """What would have to give where the search failed; empty where it did not."""
        best = self.best
        if self.met:
            return ""
        if best.spent is not None and best.spent > self.limit:
            return f"{best.name} uses {best.spent / self.limit:.2f} times the budget; allow as much more."
        return (
            f"The best student within the budget keeps {best.rank:.1%} of the teacher's {self.metric} on the "
            f"validation data, not {self.keep:.1%}: lower --keep, raise the budget, train for more epochs, or try more "
            "plans."
        )
