"""This module makes the report in a bundle again, from the records in the bundle and by the code at hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ablations.datasets.registry import stated_facts
from ablations.planning.plan import Plan
from reports.archive.bundle import open_bundle
from reports.bundles.checking import planned_in
from reports.bundles.packing import DATA_FILE
from reports.bundles.surroundings import read_facts
from reports.collect.results import Results
from reports.collect.runs import collect
from reports.collect.stores.opening import bundle_address
from reports.content.blocks import Document
from reports.content.maker import Maker
from reports.make import make_report, study_document
from reports.verify import as_of_then, computing_of_then


def remake_report(
    path: Path, formats: Sequence[str], folder: Path, maker: Maker, *, stem: str | None = None, brief: bool = False
) -> dict[str, Path]:
    """Write the report in a bundle again, in each of the formats, and return the files by format.

    With `brief`, it is shortened to two pages.

    The same code makes the same bytes. Another version may word and draw them otherwise, from the same numbers.

    Raises:
        BundleError: If the file cannot be read, is no bundle, or was changed.
        AblationError: If it names something that is not known here: a plug-in, a setting of a later version.
        OutputError: If the folder cannot be written.
    """
    with _as_of_then(path) as (plan, results):
        address = bundle_address(path)
        return make_report(plan, address, formats, folder, results=results, maker=maker, stem=stem, brief=brief)


def remade_document(path: Path) -> tuple[Document, Plan]:
    """Return the report in a bundle as a document, without its manifest, and its plan.

    Raises:
        BundleError: If the file cannot be read, is no bundle, or was changed.
        AblationError: If it names something that is not known here: a plug-in, a setting of a later version.
    """
    with _as_of_then(path) as (plan, results):
        return study_document(plan, results), plan


@contextmanager
def _as_of_then(path: Path) -> Iterator[tuple[Plan, Results]]:
    """Give the plan of a bundle and its results as of the time of its report."""
    # A bundle that was changed makes no report: its numbers would look as if they had been checked.
    bundle = open_bundle(path)
    # For the whole time: a plan asks for the facts of its data when they are needed.
    with stated_facts(read_facts(bundle.read(DATA_FILE))):
        plan, stored = planned_in(bundle)
        # The report as of its time: with the launches, looks and computing that it stated.
        results, _, _ = as_of_then(collect(plan, bundle_address(path)), stored)
        # Reports of earlier versions state no computing, and theirs is made of the runs in the bundle.
        if "computing" in stored:
            results, _ = computing_of_then(results, stored["computing"])
        yield plan, results
