"""This module reads the YAML file of a study of foreign results, and joins it with the names that the results have.

Every error of the file has its line: `file:line: reason`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ablations.claims import Claim, Contrast
from ablations.errors import StudyError, UnknownNameError, nearest
from ablations.files.yaml_source import Location, YamlDocument, error_location, read_document
from ablations.foreign_study import ForeignStudy, StatedMetric, StatedStudy, StatedVariant, variant_of
from ablations.spec.settings import reason_of
from ablations.study import Study

_WORDS = tuple(StatedStudy.model_fields)
_INNER_WORDS = {
    "metric": tuple(StatedMetric.model_fields),
    "variants": tuple(StatedVariant.model_fields),
    "claims": (*Claim.model_fields, *Contrast.model_fields),
}


@dataclass(frozen=True)
class ForeignFile:
    """A study of foreign results as it was stated; without a document, by options of the command line alone."""

    stated: StatedStudy
    document: YamlDocument | None = None

    def at(self, *location: str | int) -> str:
        """Return `file:line: ` of a part, to begin a message with; nothing without a file."""
        if self.document is None:
            return ""
        return f"{self.document.at(location)}: "

    def study(
        self, variants: Sequence[str], values: Sequence[float], metric: StatedMetric, reference: str | None = None
    ) -> ForeignStudy:
        """Return the study of some results.

        Args:
            variants: The names that the results have, in order.
            values: All values of the metric.
            reference: The reference, if it was not stated.

        Raises:
            StudyError: If the results do not have a variant, or the study does not fit together.
        """
        stated = self.stated
        for name in stated.variants:
            if name not in variants:
                unknown = UnknownNameError("variant", name, variants)
                raise StudyError(f"{self.at('variants', name)}the results have no such row: {unknown}")
        names = list(stated.variants or variants)
        reference = stated.reference or reference
        if reference is None:
            raise StudyError(
                f"{self.at()}which variant is the reference that the others are held against? Say --reference NAME, or "
                f"reference: in a study file. The results have {', '.join(names)}."
            )
        if reference not in names:
            unknown = UnknownNameError("variant", reference, names)
            raise StudyError(f"{self.at('reference')}the results have no such reference: {unknown}")
        facts = metric.facts(values)
        published = {name: value.published for name, value in stated.variants.items() if value.published is not None}
        try:
            return ForeignStudy(
                name=stated.name,
                title=stated.title or stated.name,
                question=stated.question or f"How does each variant differ from {reference} in {facts.words}?",
                reference=reference,
                metric=metric.name,
                variants=tuple(variant_of(name, stated.variants.get(name)) for name in names),
                size_of_interest=stated.size_of_interest,
                finding=stated.finding,
                published=stated.published,
                claims=stated.claims,
                own_facts=facts,
                unit=metric.unit,
                kept_seeds=stated.seeds,
                published_values=published,
            )
        except ValidationError as error:
            detail, location = error_location(error)
            raise StudyError(f"{self.at(*location)}{reason_of({**detail, 'loc': location})}") from None


def load_foreign_study(path: Path) -> ForeignFile:
    """Return the study of foreign results in a YAML file.

    Raises:
        StudyError: If the file cannot be read, is not YAML, or states no such study; the message has the form
            `file:line: reason`.
    """
    document = read_document(path)
    if not isinstance(document.data, dict):
        raise StudyError(f"{document.at(())}: a study of foreign results is a mapping with reference, metric and more")
    for key in document.data:
        if key not in _WORDS:
            raise StudyError(f"{document.at((key,))}: {_unknown_key(key)}")
    stated = {"name": path.stem, **document.data}
    if isinstance(stated.get("metric"), str):
        stated["metric"] = {"name": stated["metric"]}
    if "variants" in stated:
        stated["variants"] = _variants(stated["variants"], document)
    try:
        return ForeignFile(StatedStudy.model_validate(stated), document)
    except ValidationError as error:
        raise StudyError(_first_error(error, document)) from None


def _unknown_key(key: str) -> str:
    if key in Study.model_fields:
        return (
            f"{key!r} is about trainings that are run here, and the results of this study were made elsewhere. "
            "Leave it out."
        )
    return f"unknown key {key!r}. {nearest(key, _WORDS)}"


def _variants(raw: Any, document: YamlDocument) -> dict[str, Any]:
    """Return the variants as `StatedStudy` has them: a list of names, or names with a label or with more."""
    variants: dict[str, Any] = {}
    if isinstance(raw, list):
        for index, name in enumerate(raw):
            if not isinstance(name, str):
                raise StudyError(
                    f"{document.at(('variants', index))}: a variant is a name, found {name!r:.60}. Put it in quotes."
                )
            if name in variants:
                raise StudyError(f"{document.at(('variants', index))}: variant {name!r} is named twice")
            variants[name] = {}
        return variants
    if not isinstance(raw, dict) or not raw:
        raise StudyError(f"{document.at(('variants',))}: variants are names, each with a label or with nothing")
    for name, body in raw.items():
        if body is None:
            variants[name] = {}
        elif isinstance(body, str):
            variants[name] = {"label": body}
        elif isinstance(body, dict):
            variants[name] = body
        else:
            raise StudyError(
                f"{document.at(('variants', name))}: behind a variant stands a label, or label and published, found "
                f"{body!r:.60}"
            )
    return variants


def _first_error(error: ValidationError, document: YamlDocument) -> str:
    detail, location = error_location(error)
    place = document.at(_in_file(location))
    if detail["type"] == "extra_forbidden":
        words = _INNER_WORDS.get(str(location[0]), _WORDS)
        return f"{place}: unknown key {location[-1]!r}. {nearest(str(location[-1]), words)}"
    reason = reason_of({**detail, "loc": location})
    # YAML reads 1 as a number, which the names of variants often look like.
    if detail["type"] == "string_type" and isinstance(detail["input"], int | float):
        reason += ". Put it in quotes."
    return f"{place}: {reason}"


def _in_file(location: Location) -> Location:
    """Return a location as the file has it: pydantic marks the key of a mapping with a word of its own."""
    return tuple(step for step in location if step != "[key]")
