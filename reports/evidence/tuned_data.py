"""What the rows of a plan were tuned to, as plain data that a report carries. No MLflow."""

from __future__ import annotations

import json
from typing import Any

from ablations.planning.plan import Plan
from ablations.planning.tuned_values import TunedFile


def tuned_data(plan: Plan) -> list[dict[str, Any]] | None:
    """Returns what the rows of a plan were tuned to as plain data, a file per study; `None` if they were not."""
    if plan.request.tuned is None:
        return None
    files = []
    for study in plan.studies:
        entries = tuple(entry for (name, _), entry in plan.tuned.items() if name == study.name)
        file = TunedFile(study=study.name, preset=plan.request.preset.name, tuned=entries)
        files.append(json.loads(file.model_dump_json(exclude_none=True)))
    return files
