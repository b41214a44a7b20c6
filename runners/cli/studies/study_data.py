"""Writes studies as plain data, for `list --json`. docs/command-line.md describes the keys."""

from __future__ import annotations

from ablations.planning import plan_data
from ablations.planning.plan import make_plan
from ablations.planning.request import Request
from ablations.published import PublishedTable
from ablations.registry import available_studies, get_study
from ablations.study import Study
from reports.content.published import published_value
from runners.cli.options.json_output import Json
from runners.console.tables import study_counts


def list_data(request: Request) -> Json:
    """Return all registered studies with what each needs alone."""
    base = request.base()
    plan = make_plan([get_study(name, base) for name in available_studies()], request)
    studies = []
    for study in plan.studies:
        counts = study_counts(plan, study.name)
        studies.append(
            {
                "study": study.name,
                "title": study.title,
                "question": study.question,
                "published_table": study.published,
                "rows": counts.rows,
                "seeds": counts.seeds,
                "trainings": counts.trainings,
                "evaluations": counts.evaluations,
            }
        )
    return {"preset": request.preset.name, "studies": studies}


def study_data(study: Study, preset: str) -> Json:
    """Return all that a study says, its published numbers, and the rows that it has at a preset."""
    published = {}
    for variant in study.variants:
        value = published_value(study, variant)
        if value is not None:
            published[variant.name] = {"value": value.value, "confidence": value.confidence}
    table = study.published_table
    return {
        "study": study.name,
        # As a study file has it, and as a report's manifest does.
        "definition": plan_data.study_data(study),
        "rows_at_preset": [variant.name for variant in study.at(preset).variants],
        "primary_claim": None if study.primary_claim is None else study.primary_claim.name,
        "published_table": None if table is None else _table(table),
        "published": published,
    }


def _table(table: PublishedTable) -> Json:
    return {"name": table.name, "title": table.title, "setting": table.setting}
