"""Tuned values: plain JSON files, one per study and preset, that `tune` writes and `run --tuned` reads.

A file can be committed and read by a person. It is trusted no more than a study file: what it says must be settings
of the factors that are tuned, and it counts only for the very training that was tuned.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from ablations.errors import SpecError, TuningError
from ablations.factors import Factor, plain, resolve_proposed
from ablations.invocation import as_named, named_studies, suggested_command
from ablations.settings import explain
from ablations.spec import Frozen, TrialSpec
from ablations.tuning import Tuning
from ablations.vocabulary import slug

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]
_SHOWN = 3


class Spent(Frozen):
    """What a tuning took.

    Attributes:
        budget: Trials that were asked for.
        complete, pruned, diverged: How the trials ended.
        epochs: Epochs trained, over all trials.
        seconds: Time of the trials, one after the other.
        distinct: How many settings there are to try at all, if they are fewer than the budget.
    """

    budget: Count
    complete: Count
    pruned: Count
    diverged: Count
    epochs: Count
    seconds: Seconds
    distinct: Count | None = None

    @property
    def is_whole(self) -> bool:
        """Whether as many trials have ended as were asked for, or as there are."""
        return self.trials == (self.budget if self.distinct is None else self.distinct)

    @property
    def trials(self) -> int:
        """Trials that have ended."""
        return self.complete + self.pruned + self.diverged


class TunedVariant(Frozen):
    """What tuning has found for one row.

    Attributes:
        variant: The row's key: the variant's name, with the inspected network in front if there is one.
        fingerprint: Of the group that was tuned.
        values: What was found, by setting.
        base: What these settings were before.
        validation_top1: Accuracy in % on the validation split with these values, of one training.
        spent: What it took.
        factors: What was proposed.
        settings: All settings before tuning.
        git_commit, git_dirty: The code that tuned.
        time: When, ISO 8601.
    """

    variant: str
    fingerprint: str
    values: dict[str, Any]
    base: dict[str, Any]
    validation_top1: float
    spent: Spent
    factors: dict[str, Factor]
    settings: dict[str, Any]
    git_commit: str
    git_dirty: bool
    time: str


class TunedFile(Frozen):
    """The file of one study at one preset."""

    format: Literal["dyconv-ablations tuned values 1"] = "dyconv-ablations tuned values 1"
    study: str
    preset: str
    tuned: Annotated[tuple[TunedVariant, ...], Field(strict=False)]


def tuned_path(folder: Path, study: str, preset: str) -> Path:
    """Returns the file of a study's tuned values in a folder."""
    return folder / f"{slug(study)}.{slug(preset)}.json"


@dataclass(frozen=True)
class TunedValues:
    """All that is known to be tuned, from the files of a folder.

    Attributes:
        folder: Where the files are.
        files: Their contents.
    """

    folder: Path
    files: tuple[TunedFile, ...]

    def find(self, tuning: Tuning, preset: str) -> TunedVariant:
        """Returns what was found for the training of a row.

        Raises:
            TuningError: If it has not been tuned, or its settings have changed since; with what to do.
        """
        found = self._by_fingerprint.get(tuning.fingerprint)
        if found is None:
            raise TuningError(self._why_missing(tuning, preset))
        return found

    @cached_property
    def _by_fingerprint(self) -> dict[str, TunedVariant]:
        return {entry.fingerprint: entry for file in self.files for entry in file.tuned}

    def _why_missing(self, tuning: Tuning, preset: str) -> str:
        (study, (key, *_)), *_ = tuning.serves.items()
        entries = [
            entry
            for file in self.files
            if (file.study, file.preset) == (study, preset)
            for entry in file.tuned
            if entry.variant == key
        ]
        tune = f"Tune it: {suggested_command('tune', [as_named(study)], preset=preset)}"
        where = f"study {study!r}, variant {key!r}"
        if not entries:
            return f"{where} has not been tuned at preset {preset} (looked in {self.folder}). {tune}"
        changed = _changes(entries[-1], tuning)
        return f"{where} has been tuned before its settings changed: {changed}. {tune}"


def _changes(entry: TunedVariant, tuning: Tuning) -> str:
    now = plain(tuning.resolved_settings)
    keys = [key for key in sorted({*now, *entry.settings}) if now.get(key) != entry.settings.get(key)]
    listed = [f"{key} was {entry.settings.get(key)!r:.40} and is {now.get(key)!r:.40}" for key in keys[:_SHOWN]]
    if len(keys) > _SHOWN:
        listed.append(f"and {len(keys) - _SHOWN} more")
    factors = "its nuisance factors or their ranges are others"
    return "; ".join(listed) or (
        factors if entry.factors != tuning.factors else "the data, a plug-in or the code's results have"
    )


def tuned_from_data(files: Iterable[Any], origin: Path) -> TunedValues:
    """Returns tuned values from the contents of files, which were carried to here some other way.

    Args:
        files: What the files hold.
        origin: What to name if a value is missing there.

    Raises:
        ValueError: If one is none of tuned values.
    """
    return TunedValues(origin, tuple(TunedFile.model_validate(file) for file in files))


def read_tuned(place: Path) -> TunedValues:
    """Returns the tuned values in a folder, or in one file.

    Raises:
        TuningError: If there are none, or a file is none of tuned values.
    """
    paths = [place] if place.is_file() else sorted(place.glob("*.json"))
    if not paths:
        raise TuningError(f"there are no tuned values in {place}. {_where_from()}")
    return TunedValues(place, tuple(read_tuned_file(path) for path in paths))


def _where_from() -> str:
    if not named_studies():
        return "Name the file or folder that the verb tune has written."
    return f"Tune first: {suggested_command('tune', without=['tuned_from'])}"


def read_tuned_file(path: Path) -> TunedFile:
    """Returns one file of tuned values.

    Raises:
        TuningError: If it cannot be read or is none.
    """
    try:
        return TunedFile.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise TuningError(f"{path}: {error.strerror or error}") from None
    except ValidationError as error:
        raise TuningError(f"{path} holds no tuned values: {explain(error).splitlines()[0]}") from None
    except (ValueError, RecursionError) as error:
        raise TuningError(f"{path} holds no tuned values: not JSON: {error}") from None


def with_entries(file: TunedFile, entries: Iterable[TunedVariant]) -> TunedFile:
    """Returns a file with some entries in place of what it said of the same variants and settings."""
    fresh = {(entry.variant, entry.fingerprint): entry for entry in entries}
    kept = {(entry.variant, entry.fingerprint): entry for entry in file.tuned}
    return file.model_copy(update={"tuned": tuple({**kept, **fresh}.values())})


def apply(entry: TunedVariant, tuning: Tuning) -> TrialSpec:
    """Returns what a row trains with its tuned values, with seed 0.

    Raises:
        TuningError: If the values are not those of the factors that are tuned.
    """
    values = entry.values
    wrong = [key for key in {*values, *tuning.factors} if key not in values or key not in tuning.factors]
    outside = [key for key in values if key in tuning.factors and not tuning.factors[key].contains(values[key])]
    if wrong or outside:
        what = f"values of {', '.join(tuning.factors)}" if wrong else f"{outside[0]} within its range"
        raise TuningError(f"the tuned values of {entry.variant!r} are {values!r:.200}, expected {what}. Tune it again.")
    try:
        return resolve_proposed(tuning.general, tuning.own, values, seed=0)
    except SpecError as error:
        raise TuningError(f"the tuned values of {entry.variant!r} do not fit: {error}. Tune it again.") from None


Found = Mapping[tuple[str, str], TunedVariant]
"""Study and key of a row → what was found for it."""
