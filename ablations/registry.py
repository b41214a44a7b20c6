"""The registry finds a study by its name: a built-in one, one of a plug-in, or one in a YAML file.

Duplicate names and typos are errors.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.errors import AblationError, StudyError, UnknownNameError
from ablations.files.study_file import is_study_file, load_study, split_row
from ablations.presets import get_preset
from ablations.spec.trial import TrialSpec, resolve
from ablations.study import Study

if TYPE_CHECKING:
    from ablations.planning.request import Request

Builder = Callable[[TrialSpec], Study]
"""A function from the network and data of a preset to a study: some have a row per resolution of the network."""

_BUILT_IN = (
    "aggregation",
    "resolution",
    "temperature",
    "kernels",
    "placement",
    "parts",
    "condconv",
    "methods",
    "annealing",
    "longer",
    "sum_to_one",
    "squeeze_excitation",
    "backbones",
    "trained_aggregation",
    "reduction",
    "attention_profile",
    "deployment",
    "variance",
    "cost",
)
_builders: dict[str, Builder] = {}


def register_study(study: Study | Builder, *, name: str | None = None) -> None:
    """Add a study under its name, or a function that builds one under `name`.

    Raises:
        StudyError: If the name is taken, or a function comes without one.
    """
    if isinstance(study, Study):
        key, builder = study.name, _constant(study)
    elif name is None:
        raise StudyError("a function that builds a study needs a name. Give register_study(..., name=...).")
    else:
        key, builder = name, study
    if key in _builders or key in _BUILT_IN:
        raise StudyError(f"a study called {key!r} is registered already. Choose another name.")
    _builders[key] = builder


def _constant(study: Study) -> Builder:
    return lambda base: study


def available_studies() -> tuple[str, ...]:
    """Return the names of all registered studies, the built-in ones first."""
    return (*_BUILT_IN, *_builders)


def study_name(name: str) -> str:
    """Return the name of a study: `name` itself, or the name that is written in the file `name`.

    Raises:
        StudyError: If the file cannot be read as a study.
    """
    return _study_of_file(name, _usual_base).name if is_study_file(name) else name


def split_name(name: str) -> tuple[str, str]:
    """Return the study (or its file) and the row, or a pattern of rows, that a name names; no row if it is a study.

    `temperature/tau_30`, `temperature/tau_*`, `my_study.yaml/wider`. The part before a slash is a registered study, or
    ends like a study's file; where neither is so, it is taken for the name of a study up to the last slash.

    Raises:
        StudyError: If nothing follows the slash.
    """
    if name in available_studies() or is_study_file(name):
        return name, ""
    study, row = split_row(name)
    if study == name and "/" in name:
        study, _, row = name.rpartition("/")
        # The longest first: a row may have a slash in its name, and so may a plug-in's study.
        for known in sorted(available_studies(), key=len, reverse=True):
            if name.startswith(f"{known}/"):
                study, row = known, name.removeprefix(f"{known}/")
                break
    if study != name and not row:
        raise StudyError(f"{name!r} names no row. Leave out the slash, or name a row after it.")
    return study, row


def get_study(name: str, base: TrialSpec) -> Study:
    """Return the study called `name`, built for `base`; a name that ends in `.yaml` or `.yml` is a file.

    Raises:
        UnknownNameError: If there is no such study, with the nearest names.
        StudyError: If the file cannot be read as a study.
    """
    if is_study_file(name):
        return _study_of_file(name, lambda: base)
    if name in _builders:
        return _builders[name](base)
    if name not in _BUILT_IN:
        raise UnknownNameError("study", name, available_studies())
    # Only the studies that are asked for are imported.
    module = importlib.import_module(f"ablations.studies.{name}")
    built: Study = module.build(base) if hasattr(module, "build") else module.STUDY
    return built


def _usual_base() -> TrialSpec:
    """Return the network and data of the preset that is taken where none is named."""
    return resolve([get_preset("quick").settings], {}, seed=0)


def _study_of_file(name: str, base: Callable[[], TrialSpec]) -> Study:
    """Return the study in a file; `base` returns the network and data for a registered study that it extends."""
    study = load_study(Path(name), lambda extended: get_study(extended, base()))
    # Results are recorded under the name of the study, so that two studies of one name would be mixed.
    if study.name in available_studies():
        raise StudyError(f"{name}: the name {study.name!r} belongs to a registered study. Choose another name.")
    return study


def find_studies(names: Sequence[str], all_studies: bool, request: Request) -> list[Study]:
    """Return the named studies, or all of them, each once.

    Raises:
        AblationError: If none is named, or one is unknown.
        StudyError: If a row is named.
    """
    for name in names:
        study, row = split_name(name)
        if row and (study in available_studies() or is_study_file(study)):
            raise StudyError(f"{name!r} names a row, and this is done for whole studies. Name the study: {study}.")
    return _find_whole(names, all_studies, request)


def find_rows(
    names: Sequence[str], all_studies: bool, request: Request
) -> tuple[list[Study], dict[str, tuple[str, ...]]]:
    """Return the studies that are named, or of which rows are named, and the rows of those that are not named whole.

    Args:
        names: Names of studies, files, and either with a row or a pattern of rows (`split_name`).

    Returns:
        The studies, each once, and the names or patterns of rows by the name of their study.

    Raises:
        AblationError: If none is named, or one is unknown. Whether there are such rows is not looked at here.
    """
    patterns: dict[str, dict[str, None]] = {}
    whole = set(available_studies()) if all_studies else set()
    for name in names:
        word, row = split_name(name)
        patterns.setdefault(word, {})
        if row:
            patterns[word][row] = None
        else:
            whole.add(word)
    studies = _find_whole(list(patterns), all_studies, request)
    rows: dict[str, tuple[str, ...]] = {}
    # The studies come in the order of the names, and those of `all_studies` after them.
    for word, study in zip(patterns, studies, strict=False):
        if word not in whole:
            rows[study.name] = tuple(patterns[word])
    return studies, rows


def _find_whole(names: Sequence[str], all_studies: bool, request: Request) -> list[Study]:
    if not names and not all_studies:
        registered = ", ".join(available_studies())
        raise AblationError(f"no study is named. Known are: {registered}; or give a YAML file, or --all.")
    # Each once, in the order in which they were named.
    chosen = dict.fromkeys([*names, *(available_studies() if all_studies else ())])
    # Each file is read once: parsing thousands of rows takes seconds.
    from_files = {name: _study_of_file(name, request.base) for name in chosen if is_study_file(name)}
    if len(from_files) == len(chosen) and all(study.trains_nothing for study in from_files.values()):
        # Nothing is trained, so that the training of the preset need not fit the data, whose test images are enough.
        return list(from_files.values())
    base = request.base()
    return [from_files[name] if name in from_files else get_study(name, base) for name in chosen]
