"""A search asks which parts of a network matter, by many different networks instead of one change at a time.

A search names factors; Optuna proposes their values, and accuracy and multiply-adds judge them. A study compares a few
variants well; a search tries many settings once each. Its plan is made in `ablations.planning.optimisation_plans`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator

from ablations.errors import SpecError, StudyError, UnknownNameError, nearest
from ablations.files.yaml_source import YamlDocument, error_location, read_document
from ablations.spec.factors import Factor, check_factor
from ablations.spec.parts import BLOCKS, Frozen
from ablations.spec.settings import flatten, reason_of
from ablations.studies._networks import ANNEALING, STATIC, constant
from ablations.variants import Changes, MisplacedError, Name, Text


class Search(Frozen):
    """A question about many settings at once.

    Attributes:
        baseline: Settings that all proposals share, over those of the preset.
        factors: The factors: a setting with a range or choices, or a name with options of several settings.
    """

    name: Name
    title: Name
    question: Text
    baseline: Changes = Field(default_factory=dict)
    factors: Annotated[dict[str, Factor], Field(min_length=2)]

    @field_validator("factors")
    @classmethod
    def _can_vary(cls, factors: dict[str, Factor]) -> dict[str, Factor]:
        owners: dict[str, str] = {}
        for name, factor in factors.items():
            try:
                check_factor(name, factor)
            except (SpecError, UnknownNameError) as error:
                raise MisplacedError((name,), str(error)) from None
            # Two factors of one setting would overwrite each other's proposals.
            for values in factor.every(name):
                for setting in flatten(values):
                    owner = owners.setdefault(setting, name)
                    if owner != name:
                        reason = f"{setting} is proposed by {owner!r} too. Leave it to one factor."
                        raise MisplacedError((name,), reason)
        return factors


def _inside(**more: Any) -> dict[str, Any]:
    """Return the setting of a placement in the blocks, restricted further by the keys in `more`."""
    return {"model.where": {**BLOCKS.as_mapping(), **more}}


PARTS = Search(
    name="parts",
    title="Which parts of dynamic convolution matter",
    question="Which of number of kernels, placement, width of the attention and temperature decide about accuracy?",
    factors={
        "model.num_kernels": Factor(choices=(2, 4, 8)),
        "placement": Factor(
            options={
                # A static network reads none of the other factors; their proposals are dropped for it.
                "nowhere": dict(STATIC),
                "expansion": {"model.where": {"role": ["expansion"]}},
                "depthwise": {"model.where": {"role": ["depthwise"]}},
                "projection": {"model.where": {"role": ["projection"]}},
                "first half": _inside(depth=[0.0, 0.5]),
                "second half": _inside(depth=[0.5, 1.0]),
                "all blocks": _inside(),
            }
        ),
        "model.reduction": Factor(choices=(4, 8, 16)),
        "temperature": Factor(options={"τ = 1": constant(1), "τ = 30": constant(30), "τ = 30 → 1": dict(ANNEALING)}),
    },
)

_BUILT_IN = {PARTS.name: PARTS}
_WORDS = tuple(Search.model_fields)
_FACTOR_WORDS = tuple(Factor.model_fields)


def get_search(name: str) -> Search:
    """Return the search called `name`; a name that ends in `.yaml` or `.yml` is a file.

    Raises:
        UnknownNameError: If there is no such search, with the nearest names.
        StudyError: If the file cannot be read as a search: `file:line: reason`.
    """
    if Path(name).suffix.lower() in (".yaml", ".yml"):
        return load_search(Path(name))
    if name not in _BUILT_IN:
        raise UnknownNameError("search", name, _BUILT_IN)
    return _BUILT_IN[name]


def load_search(path: Path) -> Search:
    """Return the search in a YAML file.

    Raises:
        StudyError: If the file is none of a search; the message has the form `file:line: reason`.
    """
    document = read_document(path)
    raw = document.data
    if not isinstance(raw, dict):
        raise StudyError(f"{document.at(())}: a search is a mapping with name, question and factors")
    for key in raw:
        if key not in _WORDS:
            raise StudyError(f"{document.at((key,))}: unknown key {key!r}. {nearest(key, _WORDS)}")
    try:
        # The name serves as title unless the file has one.
        search = Search.model_validate({"title": raw.get("name"), **raw})
    except ValidationError as error:
        raise StudyError(_first_error(error, document)) from None
    if search.name in _BUILT_IN:
        raise StudyError(f"{document.at(('name',))}: {search.name!r} is a built-in search. Choose another name.")
    return search


def _first_error(error: ValidationError, document: YamlDocument) -> str:
    detail, location = error_location(error)
    if detail["type"] == "extra_forbidden":
        message = f"unknown key {location[-1]!r}. {nearest(str(location[-1]), _FACTOR_WORDS)}"
    else:
        message = reason_of({**detail, "loc": location})
    return f"{document.at(location)}: {message}"


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points that no other point dominates, the cheapest first.

    A point dominates another if it is at least as accurate and at most as costly, and one of these strictly. Points
    that are equal in both are all in the front or none of them.

    Args:
        points: Accuracy and cost.
    """
    front: list[int] = []
    best = -float("inf")
    # By rising cost, and for equal cost by falling accuracy: only earlier points can dominate a point, so it is in the
    # front if it is more accurate than all of them.
    order = sorted(range(len(points)), key=lambda index: (points[index][1], -points[index][0], index))
    for index in order:
        accuracy, cost = points[index]
        equals = bool(front) and points[front[-1]] == (accuracy, cost)
        if accuracy > best or equals:
            front.append(index)
            best = accuracy
    return front
