"""This module writes what a plan was made of as plain data, and makes the plan again from it.

Reports carry it in their manifest, and a frozen plan holds it: whoever has the data and the code has the plan.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ablations import vocabulary as names
from ablations.errors import StudyError
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.planning.tuned_values import TunedFile, TunedValues, tuned_from_data
from ablations.presets import get_preset
from ablations.protocol.stopping import StoppingRule
from ablations.spec.fingerprint import canonical_json, digest
from ablations.study import Study

Json = dict[str, Any]


def request_data(plan: Plan) -> Json:
    """Return what a plan was made of: its request and its studies, as plain data."""
    request = plan.request
    data: Json = {
        "preset": request.preset.name,
        # Through JSON, so that a tuple is a list here as it will be in the file.
        "overrides": json.loads(json.dumps(dict(request.overrides))),
        "seeds": request.seeds,
        "canary": request.canary,
        "tuned": tuned_data(plan),
        # Whole studies: a preset or an override leaves rows out again when the plan is made anew.
        "studies": [study_data(study.whole) for study in plan.studies],
    }
    # Only where there are any: a report without them is the same bytes as before studies could be left out.
    if plan.left_out:
        data["left_out"] = list(plan.left_out)
    if request.stopping is not None:
        data["stopping"] = {"max_seeds": request.stopping.max_seeds}
    if request.seeds_by_study:
        data["seeds_by_study"] = dict(request.seeds_by_study)
    # By their names, whatever patterns they were asked for with.
    if plan.rows_by_study:
        data["rows"] = plan.rows_by_study
    if request.seed is not None:
        data["seed"] = request.seed
    # The studies are those of the sweep already; whoever asks again needs the values, too.
    if request.sweeps:
        data["sweeps"] = {key: list(texts) for key, texts in request.sweeps.items()}
    return data


def part_tags(plan: Plan, study: Study) -> dict[str, str]:
    """Return the tags of a study's summary run that say which part of it was asked for; none for the whole."""
    tags: dict[str, str] = {}
    rows = plan.rows_by_study.get(study.name)
    if rows:
        text = canonical_json(rows)
        tags[names.TAG_ROWS] = text if len(text) <= names.LONGEST_TAG else digest(rows)
    if plan.request.seed is not None and not study.trains_nothing:
        tags[names.TAG_ONLY_SEED] = str(plan.request.seed)
    return tags


def study_data(study: Study) -> Json:
    """Return a study as plain data, from which `Study.model_validate_json` makes an equal one."""
    # Without defaults, so that a study frozen today equals itself after a field with a default has been added.
    data: Json = study.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return data


def tuned_data(plan: Plan) -> list[Json] | None:
    """Return the tuned settings of a plan's rows as plain data, a file per study; `None` if they were not tuned."""
    if plan.request.tuned is None:
        return None
    files = []
    for study in plan.studies:
        # Values themselves and not their folder: that may be overwritten by the next tuning.
        entries = tuple(entry for (name, _), entry in plan.tuned.items() if name == study.name)
        file = TunedFile(study=study.name, preset=plan.request.preset.name, tuned=entries)
        files.append(json.loads(file.model_dump_json(exclude_none=True)))
    return files


def plan_of(data: Mapping[str, Any], origin: str) -> Plan:
    """Return the plan that the data of a request make, here and now.

    Args:
        origin: The name of the file that holds the data, for messages.

    Raises:
        StudyError: If it is not the data of a request.
        AblationError: If it names something that is not known here: a study's settings, a data set.
    """
    try:
        preset = get_preset(data["preset"])
        request = Request(
            preset,
            data["overrides"],
            data["seeds"],
            data["canary"],
            _tuned(data, origin),
            stopping=_stopping(data),
            seeds_by_study=_seeds_by_study(data),
            rows={str(study): tuple(map(str, keys)) for study, keys in data.get("rows", {}).items()},
            seed=data.get("seed"),
            sweeps={str(key): tuple(map(str, texts)) for key, texts in data.get("sweeps", {}).items()},
        )
        # Through JSON text: pydantic's strict mode accepts a list for a tuple only there.
        studies = [Study.model_validate_json(json.dumps(study)) for study in data["studies"]]
        left_out = tuple(data.get("left_out", ()))
    # pydantic's ValidationError is a ValueError, and errors of our own say more and pass through.
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StudyError(f"what {origin} asks for cannot be read: {_first_lines(error)}") from None
    return replace(make_plan(studies, request), left_out=left_out)


def _tuned(data: Mapping[str, Any], origin: str) -> TunedValues | None:
    files = data.get("tuned")
    if files is None:
        return None
    return tuned_from_data(files, Path(origin))


def _stopping(data: Mapping[str, Any]) -> StoppingRule | None:
    if "stopping" not in data:
        return None
    return StoppingRule(int(data["stopping"]["max_seeds"]))


def _seeds_by_study(data: Mapping[str, Any]) -> dict[str, int]:
    return {str(study): int(seeds) for study, seeds in data.get("seeds_by_study", {}).items()}


def _first_lines(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    return f"{type(error).__name__}: {' '.join(lines[:3])}"
