"""What estimates leave open, by optuna: which of the proposed plans to train, and how fast; kept in SQLite."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgefold.errors import InputError
from edgefold.plans import Plan

RATES = (1 / 3, 3.0)
"""Learning rates that are tried, in units of the recipe's."""


@dataclass(frozen=True)
class Suggestion:
    """A training that is worth its time."""

    number: int
    plan: int
    """Its place among the plans."""
    rate: float
    """The learning rate in units of the recipe's."""


class Study:
    """Trainings of some plans, with the quality and the time that came of them.

    First every plan in its order at the recipe's learning rate, then what the tree-structured Parzen estimator draws
    for both objectives, more quality in less time (Bergstra et al., 2011; Ozaki et al., 2022; optuna).
    """

    def __init__(self, path: Path, plans: Sequence[Plan], seed: int) -> None:
        """Open the study of these plans, or begin it.

        Args:
            path: of the SQLite file.

        Raises:
            InputError: optuna is not installed, or the file is none of its.
        """
        self._optuna = _import_optuna()
        self._count = len(plans)
        known = json.dumps([plan.to_dicts() for plan in plans])
        name = hashlib.sha256(known.encode()).hexdigest()[:16]
        try:
            self._study = self._optuna.create_study(
                storage=f"sqlite:///{path}",
                study_name=name,
                directions=["maximize", "minimize"],
                load_if_exists=True,
            )
        except Exception as error:  # those of SQLAlchemy and optuna share no base
            raise InputError(f"{path} is no study that optuna can read ({type(error).__name__}); delete it.") from error
        begun = len(self._study.get_trials(deepcopy=False))
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed + begun, n_startup_trials=self._count)
        for index in range(begun, self._count):
            self._study.enqueue_trial({"plan": index, "rate": 1.0})

    def ask(self, number: int) -> Suggestion:
        """The training of this number: what was begun under it, in this run or one before, or a new one."""
        trials = self._study.get_trials(deepcopy=False)
        if number < len(trials) and trials[number].params:
            parameters = trials[number].params
        else:
            distributions = self._optuna.distributions
            trial = self._study.ask(
                {
                    "plan": distributions.CategoricalDistribution(range(self._count)),
                    "rate": distributions.FloatDistribution(*RATES, log=True),
                }
            )
            number, parameters = trial.number, trial.params
        return Suggestion(number, parameters["plan"], parameters["rate"])

    def tell(self, suggestion: Suggestion, share: float | None, seconds: float) -> None:
        """What came of it: the share of the teacher's quality (None where there is none), and seconds of a pass."""
        if share is None:
            self._study.tell(suggestion.number, state=self._optuna.trial.TrialState.FAIL, skip_if_finished=True)
        else:
            self._study.tell(suggestion.number, [share, seconds], skip_if_finished=True)


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise InputError("A search needs optuna: pip install 'edgefold[search]'.") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
