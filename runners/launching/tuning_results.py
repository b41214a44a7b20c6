"""Turns the state folders of a tuning into its results: a file of values per study, and the runs above the trials.

The state folders are the truth; Optuna's journal and MLflow follow them, and any launch can write this again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ablations import vocabulary as names
from ablations.errors import TuningError
from ablations.planning.optimisation import Optimisation
from ablations.planning.optimisation_plans import OptimisationPlan
from ablations.planning.tuned_values import Spent, TunedFile, TunedVariant, read_tuned_file, tuned_path, with_entries
from ablations.spec.factors import plain
from runners.launching.optimisation import EndedTrial
from runners.provenance import Commit
from runners.state.files import exclusively, write_json
from runners.state.layout import RunsFolder
from runners.state.nodes import StateStore
from runners.tracking import Tracker
from runners.tracking.groups import finish_group


@dataclass(frozen=True)
class Tuned:
    """The results of a tuning so far.

    Attributes:
        tuning: The group of trials.
        serves: Keys of the rows that share it, by study.
        budget: Trials that were asked for.
        ended: The trials that have ended, in the order of their slots.
    """

    tuning: Optimisation
    serves: Mapping[str, list[str]]
    budget: int
    ended: tuple[EndedTrial, ...]

    @property
    def best(self) -> EndedTrial | None:
        """The complete trial with the highest validation accuracy; of equals the first."""
        complete = [trial for trial in self.ended if trial.outcome == "complete"]
        # `max` returns the first of equals, and trials come in the order of their slots.
        return max(complete, key=lambda trial: trial.metrics[names.TUNING_TOP1], default=None)

    @cached_property
    def spent(self) -> Spent:
        """The number of trials by outcome, and the epochs and seconds that they took."""
        counts = Counter(trial.outcome for trial in self.ended)
        return Spent(
            budget=self.budget,
            complete=counts["complete"],
            pruned=counts["pruned"],
            diverged=counts["diverged"],
            epochs=sum(round(trial.metrics[names.TUNING_EPOCHS]) for trial in self.ended),
            # Milliseconds are enough, and a shorter number keeps the file readable.
            seconds=round(sum(trial.seconds for trial in self.ended), 3),
            distinct=self.tuning.distinct(self.budget),
        )

    def entry(self, key: str, commit: Commit, seconds: float) -> TunedVariant | None:
        """Return the tuned values of the row called `key`, or `None` if no trial was trained to the end."""
        # A group in which every trial diverged has no values; its row stays as it was tuned before, or untuned.
        if self.best is None:
            return None
        return TunedVariant(
            variant=key,
            fingerprint=self.tuning.fingerprint,
            values=dict(self.best.values),
            base=plain(self.tuning.base),
            validation_top1=self.best.metrics[names.TUNING_TOP1],
            spent=self.spent,
            factors=dict(self.tuning.factors),
            settings=plain(self.tuning.resolved_settings),
            git_commit=commit.sha,
            git_dirty=commit.dirty,
            time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)),
        )


def read_results(plan: OptimisationPlan, states: StateStore) -> list[Tuned]:
    """Return the results of each tuning of a plan, from the state folders."""
    results: list[Tuned] = []
    for tuning in plan.optimisations:
        ended: list[EndedTrial] = []
        for node in plan.nodes_of(tuning):
            trial = EndedTrial.read(states[node.fingerprint])
            if trial is not None:
                ended.append(trial)
        results.append(Tuned(tuning, plan.serves[tuning.fingerprint], plan.budget, tuple(ended)))
    return results


def write_tuned(plan: OptimisationPlan, results: list[Tuned], runs_dir: Path, commit: Commit) -> list[Path]:
    """Write the tuned values into the file of each study and return the paths. Other entries of a file are kept.

    Raises:
        OutputError: If a file cannot be written.
        TuningError: If a file that is there holds something else.
    """
    layout = RunsFolder(runs_dir)
    layout.journals.mkdir(parents=True, exist_ok=True)
    preset, time_written, paths = plan.request.preset.name, time.time(), []
    # Two tunings may add entries to the same file at once.
    with exclusively(layout.journals / "files.lock"):
        for study in plan.studies:
            entries: list[TunedVariant] = []
            for tuned in results:
                for key in tuned.serves.get(study.name, ()):
                    entry = tuned.entry(key, commit, time_written)
                    if entry is not None:
                        entries.append(entry)
            if entries:
                path = tuned_path(layout.tuning, study.name, preset)
                old = TunedFile(study=study.name, preset=preset, tuned=())
                if path.exists():
                    old = read_tuned_file(path)
                # The name of the file is made of both, and a file that was renamed by hand would get foreign entries.
                if (old.study, old.preset) != (study.name, preset):
                    raise TuningError(f"{path} is of study {old.study!r} at preset {old.preset!r}. Move it away.")
                write_json(path, with_entries(old, entries).model_dump(mode="json", exclude_none=True))
                paths.append(path)
    return paths


def track_tuned(tracker: Tracker, results: list[Tuned]) -> None:
    """Write the results to the MLflow runs above the trials.

    Raises:
        TrackingError: If the store refuses.
    """
    for tuned in results:
        spent, best = tuned.spent, tuned.best
        metrics = {
            names.TUNING_EPOCHS: float(spent.epochs),
            names.SECONDS: spent.seconds,
            f"{names.TUNING_TRIALS_PREFIX}complete": float(spent.complete),
            f"{names.TUNING_TRIALS_PREFIX}pruned": float(spent.pruned),
            f"{names.TUNING_TRIALS_PREFIX}diverged": float(spent.diverged),
        }
        values: Mapping[str, Any] = {}
        if best is not None:
            metrics[names.TUNING_TOP1] = best.metrics[names.TUNING_TOP1]
            values = best.values
        finish_group(tracker, tuned.tuning.fingerprint, values=values, metrics=metrics, is_whole=spent.is_whole)
