"""This module lays a study file over the study that it extends: `extends: temperature`, or `extends: other.yaml`.

The file has the other's variants, networks, settings and claims, changes those that it names and adds the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from ablations.claims import Claim
from ablations.study import Scale, Study

Fields = dict[str, Any]


def laid_over(study: Study, own: Mapping[str, Any]) -> Fields:
    """Return the fields of a study file over those of the study that it extends.

    Variants, networks and claims of the same name are changed, others are added; settings are laid over each other. A
    factorial of its own takes the place of the other's variants. Any other field takes the place of the other's.

    Args:
        own: The fields of the file as `Study` takes them; variants and networks as mappings with a name.
    """
    fields = {name: getattr(study, name) for name in study.model_fields_set}
    if "factorial" in own:
        for name in ("variants", "columns", "reference"):
            fields.pop(name, None)
    merged = {**fields, **own}
    for name in ("baseline", "allow"):
        if name in own:
            merged[name] = {**getattr(study, name), **own[name]}
    added: list[str] = []
    for name in ("variants", "networks"):
        if name in own and name in fields:
            earlier = {member.name: member for member in fields[name]}
            merged[name] = _members(earlier, own[name])
            added += [member["name"] for member in own[name] if member["name"] not in earlier]
    if isinstance(own.get("claims"), list):
        merged["claims"] = _claims(study.claims, own["claims"])
    if "networks" in own and "inspect" not in own:
        merged["inspect"] = [*study.inspect, *(name for name in added if name not in study.inspect)]
    merged["scales"] = _scales(study.scales, own.get("scales", {}), added)
    return merged


def _set_fields(model: BaseModel) -> Fields:
    return {name: getattr(model, name) for name in model.model_fields_set}


def _members(earlier: Mapping[str, BaseModel], own: Sequence[Mapping[str, Any]]) -> list[Fields]:
    members = {name: _set_fields(member) for name, member in earlier.items()}
    for member in own:
        before = members.get(member["name"], {})
        changes = {**before.get("changes", {}), **member["changes"]}
        members[member["name"]] = {**before, **member, "changes": changes}
    return list(members.values())


def _claims(earlier: Sequence[Claim], own: Sequence[Any]) -> list[Any]:
    claims: dict[Any, Any] = {}
    is_decided = any(isinstance(claim, dict) and claim.get("primary") for claim in own)
    for claim in earlier:
        # A study has one primary claim, and the file may decide for another one.
        claims[claim.name] = claim.model_copy(update={"primary": False}) if is_decided else claim
    for index, claim in enumerate(own):
        # What is no claim at all is left to the validation, under a key of its own.
        claims[claim.get("name", index) if isinstance(claim, dict) else index] = claim
    return list(claims.values())


def _scales(earlier: Mapping[str, Scale], own: Any, added: Collection[str]) -> Any:
    if not isinstance(own, dict):
        return own
    scales: Fields = {}
    for preset, scale in earlier.items():
        if scale.variants is not None:
            # A preset that names the rows which it keeps could not know those of the file.
            scale = scale.model_copy(update={"variants": (*scale.variants, *added)})
        scales[preset] = scale
    return {**scales, **own}
