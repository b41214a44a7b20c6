"""Tuned values are plain JSON files, one per study and preset, that `tune` writes and `run --tuned` reads.

A file can be committed and read by a person. It is trusted no more than a study file: its values must be of the factors
that are tuned, and they count only for the very training that was tuned.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from ablations.errors import TuningError
from ablations.invocation import named_studies, suggested_command
from ablations.spec.factors import Factor
from ablations.spec.parts import Frozen
from ablations.spec.settings import explain
from ablations.vocabulary import slug

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]


class Spent(Frozen):
    """The effort of a tuning.

    Attributes:
        budget: Trials that were asked for.
        complete, pruned, diverged: Number of trials by their outcome.
        epochs: Epochs trained, over all trials.
        seconds: Time of the trials, one after the other.
        distinct: Number of distinct settings to try, if that is less than the budget.
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
        """True if as many trials have ended as were asked for, or as there are distinct settings."""
        if self.distinct is not None:
            return self.trials == self.distinct
        return self.trials == self.budget

    @property
    def trials(self) -> int:
        """Number of trials that have ended."""
        return self.complete + self.pruned + self.diverged


class TunedVariant(Frozen):
    """The result of tuning one row.

    Attributes:
        variant: The row's key: the variant's name, with the inspected network in front if there is one.
        fingerprint: Fingerprint of the group that was tuned.
        values: The tuned values, by setting.
        base: The values of these settings before.
        validation_top1: Accuracy in % on the validation split with these values, of one training.
        settings: All settings before tuning.
        git_commit, git_dirty: The code that tuned.
        time: The time of the tuning, ISO 8601.
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
    """Return the file of a study's tuned values in a folder."""
    return folder / f"{slug(study)}.{slug(preset)}.json"


@dataclass(frozen=True)
class TunedValues:
    """The tuned values of all files in a folder."""

    folder: Path
    files: tuple[TunedFile, ...]

    def get(self, fingerprint: str) -> TunedVariant | None:
        """Return the result for the training with this fingerprint, `None` if it has not been tuned."""
        return self._by_fingerprint.get(fingerprint)

    def of_variant(self, study: str, preset: str, variant: str) -> list[TunedVariant]:
        """Return the results for a variant of a study at a preset, also for settings that it no longer has."""
        results: list[TunedVariant] = []
        for file in self.files:
            if (file.study, file.preset) == (study, preset):
                results += [entry for entry in file.tuned if entry.variant == variant]
        return results

    @cached_property
    def _by_fingerprint(self) -> dict[str, TunedVariant]:
        by_fingerprint: dict[str, TunedVariant] = {}
        for file in self.files:
            for entry in file.tuned:
                by_fingerprint[entry.fingerprint] = entry
        return by_fingerprint


def tuned_from_data(files: Iterable[Any], origin: Path) -> TunedValues:
    """Return tuned values from the contents of files that were kept elsewhere, such as beside a report.

    Args:
        origin: The path that messages name.

    Raises:
        ValueError: If a file does not hold tuned values.
    """
    return TunedValues(origin, tuple(map(TunedFile.model_validate, files)))


def read_tuned(path: Path) -> TunedValues:
    """Return the tuned values in a folder, or in one file.

    Raises:
        TuningError: If there are none, or a file does not hold tuned values.
    """
    # Sorted, as the order of a folder differs between machines, and later files win over earlier ones.
    files = [path] if path.is_file() else sorted(path.glob("*.json"))
    if not files:
        remedy = "Name the file or folder that the verb tune has written."
        if named_studies():
            remedy = f"Tune first: {suggested_command('tune', without=['tuned_from'])}"
        raise TuningError(f"there are no tuned values in {path}. {remedy}")
    return TunedValues(path, tuple(map(read_tuned_file, files)))


def read_tuned_file(path: Path) -> TunedFile:
    """Return one file of tuned values.

    Raises:
        TuningError: If it cannot be read or does not hold tuned values.
    """
    try:
        return TunedFile.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise TuningError(f"{path}: {error.strerror or error}") from None
    except ValidationError as error:
        raise TuningError(f"{path} holds no tuned values: {explain(error).splitlines()[0]}") from None
    # `json` raises RecursionError for brackets that are nested too deep.
    except (ValueError, RecursionError) as error:
        raise TuningError(f"{path} holds no tuned values: not JSON: {error}") from None


def with_entries(file: TunedFile, entries: Iterable[TunedVariant]) -> TunedFile:
    """Return a file with some entries in place of its earlier ones for the same variants and settings."""
    # Entries for other settings of a variant stay, as a user may return to these.
    tuned = {(entry.variant, entry.fingerprint): entry for entry in (*file.tuned, *entries)}
    return file.model_copy(update={"tuned": tuple(tuned.values())})


TunedRows = Mapping[tuple[str, str], TunedVariant]
"""Results of tuning by study and key of the row."""
