"""This module makes the files of a bundle about what is around the runs: the code, the machine and the data sets."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ablations.datasets.facts import DatasetFacts
from ablations.errors import BundleError
from ablations.planning.plan import Plan
from ablations.spec.inspected import MeasuredData
from reports.collect.results import Results
from reports.content.plan_words import data_digests


@dataclasses.dataclass(frozen=True)
class _StatedFacts:
    test_only: bool
    facts: DatasetFacts


_FACTS = TypeAdapter(list[_StatedFacts])


def environment(results: Results) -> dict[str, Any]:
    """Return the environment in which a bundle is packed, and those in which its runs were measured."""
    distributions: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        # Left-overs of an installation may have no name. The first of two with one name is the one that is imported.
        if name:
            distributions.setdefault(str(name), distribution.version)
    measured: dict[str, int] = {}
    for versions in results.runs["versions"]:
        # Thousands of runs were measured on a few kinds of machine, which are counted rather than listed.
        kind = json.dumps(versions, sort_keys=True)
        measured[kind] = measured.get(kind, 0) + 1
    return {
        "packed_with": {
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
            "distributions": dict(sorted(distributions.items())),
        },
        "measured_on": [{"runs": count, "versions": json.loads(kind)} for kind, count in sorted(measured.items())],
    }


def data_sets(plan: Plan) -> dict[str, Any]:
    """Return the digest of each data set of a plan, and its facts, from which the plan can be made without the data."""
    stated: dict[tuple[str, bool], DatasetFacts] = {}
    for node in plan.nodes:
        # A network from elsewhere needs the test split alone, whose facts may be known without those of the rest.
        stated.setdefault((node.spec.data.name, isinstance(node.spec.data, MeasuredData)), node.spec.data.facts)
    facts = []
    for (_, test_only), data_facts in sorted(stated.items()):
        facts.append({"test_only": test_only, "facts": dataclasses.asdict(data_facts)})
    return {"digests": data_digests(plan), "facts": facts}


def read_facts(text: bytes) -> Mapping[tuple[str, bool], DatasetFacts]:
    """Return the facts that `data_sets` wrote, by name and by whether they are of the test split alone.

    Raises:
        BundleError: If there are none in the text.
    """
    try:
        stated: Iterable[_StatedFacts] = _FACTS.validate_python(json.loads(text)["facts"])
    except (KeyError, TypeError, ValueError, RecursionError, ValidationError):
        raise BundleError("the file about data sets in the bundle cannot be read. Get an unchanged copy.") from None
    return {(entry.facts.name, entry.test_only): entry.facts for entry in stated}
