"""`load_study` reads a user's study from a YAML file; every error names the file, the line and the reason.

A file may extend another study (`extending`). The short form of the file becomes a `Study` here: variants are a mapping
from names to their changes, and the keys `label`, `intervention`, `published`, `cells` and `differs_in` of a variant
are no changes. Neither is the key `label` of a level, `off` or `on`, of a factor. `inspect` may be one network that was
trained elsewhere: its `checkpoint`, and settings that say which network it is. `yaml_source` reads YAML.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ablations.claims import Claim, Contrast
from ablations.errors import SettingError, StudyError, UnknownNameError, nearest
from ablations.factorial.declaration import Factorial, TwoLevelFactor
from ablations.files.checkpoint_file import network_name
from ablations.files.extending import laid_over
from ablations.files.yaml_source import Location, YamlDocument, error_location, read_document
from ablations.published import get_published
from ablations.spec.parts import Intervention, Placement
from ablations.spec.settings import DEFAULTS, check_values, flatten, reason_of
from ablations.study import Scale, Study

FILE_ENDINGS = (".yaml", ".yml")
_VARIANT_WORDS = ("label", "intervention", "published", "cells", "differs_in")
_NETWORK_WORDS = ("label", "checkpoint", "temperature")
_WORDS = {"variants": _VARIANT_WORDS, "networks": _NETWORK_WORDS}
_LEVELS = ("off", "on")
_LEVEL_WORDS = ("label",)
EXTENDS = "extends"
_STUDY_WORDS = (EXTENDS, *Study.model_fields)
# The keys inside an intervention: its own, and those of its placement as YAML spells them.
_INTERVENTION_WORDS = (
    *Intervention.model_fields,
    *(field.alias or name for name, field in Placement.model_fields.items()),
)
_INNER_WORDS = {
    "claims": (*Claim.model_fields, *Contrast.model_fields),
    "scales": tuple(Scale.model_fields),
    "nuisance": ("low", "high", "log", "choices"),
    "factorial": (*Factorial.model_fields, *TwoLevelFactor.model_fields),
}


def is_study_file(name: str) -> bool:
    """Return True if a name is that of a study's file, by its ending."""
    return Path(name).suffix.lower() in FILE_ENDINGS


def split_row(name: str) -> tuple[str, str]:
    """Return the file and the row of `my_study.yaml/row`; the row is empty where no row follows a file.

    Endings decide: a file is called `*.yaml` or `*.yml`, and so is no folder on the way to one.
    """
    if is_study_file(name):
        return name, ""
    found = re.search(rf"({'|'.join(map(re.escape, FILE_ENDINGS))})/", name, flags=re.IGNORECASE)
    if found is None:
        return name, ""
    return name[: found.end() - 1], name[found.end() :]


def name_in(path: Path) -> str:
    """Return the name that a study file says, whatever else is in it.

    Raises:
        StudyError: If the file cannot be read, is not YAML or says no name.
    """
    document = read_document(path)
    name = document.data.get("name") if isinstance(document.data, dict) else None
    if not isinstance(name, str):
        raise StudyError(f"{document.at(())}: a study has a name")
    return name


def load_study(path: Path, registered: Callable[[str], Study] | None = None) -> Study:
    """Return the study in a YAML file.

    Args:
        registered: Returns a registered study by its name, for a file that extends one.

    Raises:
        StudyError: If the file cannot be read, is not YAML, defines something twice or is not a study; the message
            has the form `file:line: reason`, without a line if the file cannot be read at all.
    """
    return _load(path, registered, ())


def _load(path: Path, registered: Callable[[str], Study] | None, extending: tuple[Path, ...]) -> Study:
    """Return the study in a file; `extending` are the files that extend it."""
    document = read_document(path)
    if not isinstance(document.data, dict):
        raise StudyError(f"{document.at(())}: a study is a mapping with name, question, reference and variants")
    extended = None
    if EXTENDS in document.data:
        extended = _extended(document, registered, (*extending, path.resolve()))
    study = _validate(document.data, document, path.parent, extended)
    _check_published(study, document)
    return study


def _extended(document: YamlDocument, registered: Callable[[str], Study] | None, extending: tuple[Path, ...]) -> Study:
    """Return the study that a file extends: a registered one by its name, or that of another file.

    Raises:
        StudyError: If there is no such study, or it extends the file itself.
    """
    place, name = document.at((EXTENDS,)), document.data[EXTENDS]
    if not isinstance(name, str) or not name:
        raise StudyError(f"{place}: {EXTENDS!r} names a study or a file of one, found {name!r:.60}")
    if is_study_file(name):
        path = document.path.parent / Path(name).expanduser()
        if path.resolve() in extending:
            raise StudyError(f"{place}: {name} extends this file, so that neither has a beginning. Leave one out.")
        return _load(path, registered, extending)
    if registered is None:
        raise StudyError(f"{place}: studies are not known by name here, found {name!r}")
    try:
        return registered(name)
    except UnknownNameError as error:
        raise StudyError(f"{place}: {error}") from None


def _check_own_name(raw: dict[str, Any], extended: Study, document: YamlDocument) -> None:
    # Results are recorded under the name, so that those of two studies would be mixed.
    if "name" not in raw:
        raise StudyError(f"{document.at((EXTENDS,))}: a study that extends another has a name of its own. Give it one.")
    if raw["name"] == extended.name:
        raise StudyError(f"{document.at(('name',))}: {extended.name!r} is the study that is extended. Choose another.")
    if extended.factorial is not None and "variants" in raw and "factorial" not in raw:
        raise StudyError(
            f"{document.at(('variants',))}: {extended.name!r} is a factorial, which makes its variants. Leave them "
            "out, or give a factorial of your own."
        )


def _validate(raw: dict[str, Any], document: YamlDocument, folder: Path, extended: Study | None) -> Study:
    for key in raw:
        if key not in _STUDY_WORDS:
            raise StudyError(f"{document.at((key,))}: unknown key {key!r}. {nearest(key, _STUDY_WORDS)}")
    if isinstance(raw.get("metric"), dict):
        message = "a metric of its own is for a study of results from elsewhere. Report on them with report --results"
        raise StudyError(f"{document.at(('metric',))}: {message}")
    # The name serves as title unless `raw` has one.
    study = {"title": raw.get("name"), **raw}
    if extended is not None:
        _check_own_name(raw, extended, document)
        del study[EXTENDS]
    if "baseline" in raw:
        study["baseline"] = _settings(raw["baseline"], ("baseline",), document)
    for group in _WORDS:
        if group in raw:
            study[group] = _named(raw[group], group, document)
    if isinstance(raw.get("factorial"), dict):
        study["factorial"] = _factorial(raw["factorial"], document)
    if isinstance(raw.get("inspect"), dict):
        study["networks"] = [_checkpoint(raw, document)]
        del study["inspect"]
    for network in study.get("networks", ()):
        _place(network, folder)
    if extended is not None:
        if isinstance(raw.get("inspect"), dict):
            study["inspect"] = [network["name"] for network in study["networks"]]
        study = laid_over(extended, study)
    # A file that defines networks inspects all of them unless it says which.
    if "networks" in study and "inspect" not in study:
        study["inspect"] = [network["name"] for network in study["networks"]]
    try:
        return Study.model_validate(study)
    except ValidationError as error:
        raise StudyError(_first_error(error, study, document)) from None


def _settings(raw: Any, location: Location, document: YamlDocument, words: Iterable[str] = ()) -> dict[str, Any]:
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise StudyError(f"{document.at(location)}: {location[-1]!r} must map settings to values, found {raw!r:.60}")
    try:
        flat = flatten(raw)
        check_values(flat)
    except UnknownNameError as error:
        # A wrong key may also be meant for one that is no setting, such as `label`.
        hint = nearest(error.given, [*DEFAULTS, *words])
        raise StudyError(f"{document.at(location, error.given)}: unknown key {error.given!r}. {hint}") from None
    except SettingError as error:
        raise StudyError(f"{document.at(location, error.key)}: {error}") from None
    return flat


def _named(group: Any, kind: str, document: YamlDocument) -> list[dict[str, Any]]:
    if not isinstance(group, dict) or not group:
        raise StudyError(f"{document.at((kind,))}: {kind} must map names to their changes")
    return [_member(name, body, (kind, name), document) for name, body in group.items()]


def _member(
    name: str, body: Any, location: Location, document: YamlDocument, written: Location | None = None
) -> dict[str, Any]:
    """Return a variant or a network; `written` is its place in the file, if that is not `location`."""
    reserved = _WORDS[str(location[0])]
    location = written or location
    if not isinstance(body, dict):
        return {"name": name, "changes": _settings(body, location, document)}
    fields: dict[str, Any] = {}
    changes: dict[str, Any] = {}
    for key, value in body.items():
        if key in reserved:
            fields[key] = value
        else:
            changes[key] = value
    return {"name": name, "changes": _settings(changes, location, document, reserved), **fields}


def _factorial(raw: dict[str, Any], document: YamlDocument) -> dict[str, Any]:
    """Return a factorial with its levels as `Level` has them; what is no mapping is left to the validation."""
    if not isinstance(raw.get("factors"), dict):
        return raw
    factors: dict[str, Any] = {}
    for name, factor in raw["factors"].items():
        factors[name] = factor
        if isinstance(factor, dict):
            levels = {}
            for key in _LEVELS:
                if key in factor:
                    levels[key] = _level(factor[key], ("factorial", "factors", name, key), document)
            factors[name] = {**factor, **levels}
    return {**raw, "factors": factors}


def _level(body: Any, location: Location, document: YamlDocument) -> dict[str, Any]:
    if not isinstance(body, dict):
        return {"changes": _settings(body, location, document)}
    fields: dict[str, Any] = {}
    changes: dict[str, Any] = {}
    for key, value in body.items():
        if key in _LEVEL_WORDS:
            fields[key] = value
        else:
            changes[key] = value
    return {"changes": _settings(changes, location, document, _LEVEL_WORDS), **fields}


def _checkpoint(raw: dict[str, Any], document: YamlDocument) -> dict[str, Any]:
    """Return the network of an `inspect` that is the file of one, and not a list of names."""
    if "networks" in raw:
        message = "'inspect' is a checkpoint, and the study has networks of its own. Give the checkpoint as one of them"
        raise StudyError(f"{document.at(('inspect',))}: {message}")
    network = _member("", raw["inspect"], ("networks", ""), document, ("inspect",))
    file = network.get("checkpoint")
    if not isinstance(file, str) or not file:
        raise StudyError(f"{document.at(('inspect',))}: 'inspect' maps checkpoint to a file, found {file!r:.60}")
    return {"label": Path(file).name, **network, "name": network_name(Path(file))}


def _place(network: dict[str, Any], folder: Path) -> None:
    """Make the path of a network's checkpoint absolute: in a study's file it is relative to the file's folder."""
    file = network.get("checkpoint")
    if isinstance(file, str) and file:
        network["checkpoint"] = str((folder / Path(file).expanduser()).absolute())


def _first_error(error: ValidationError, study: dict[str, Any], document: YamlDocument) -> str:
    detail, location = error_location(error)
    # Pydantic counts variants in a list, which in the file are a mapping: the number becomes the name.
    if len(location) >= 2 and location[0] in _WORDS and isinstance(location[1], int):
        location = (location[0], _name_of(study[str(location[0])][location[1]]), *location[2:])
        if location[0] == "networks" and isinstance(document.data.get("inspect"), dict):
            location = ("inspect", *location[2:])
    in_file = location
    if EXTENDS in document.data:
        in_file = _in_file(location, study, document)
        if in_file[:1] == ("claims",):
            location = in_file
    if detail["type"] == "extra_forbidden":
        candidates = _INNER_WORDS.get(str(location[0]), _INTERVENTION_WORDS)
        message = f"unknown key {location[-1]!r}. {nearest(str(location[-1]), candidates)}"
    else:
        message = reason_of({**detail, "loc": location})
    if in_file == (EXTENDS,):
        message = f"with what {document.data[EXTENDS]} has: {message}"
    return f"{document.at(in_file)}: {message}"


def _name_of(member: Any) -> str:
    return str(member["name"] if isinstance(member, dict) else member.name)


def _in_file(location: Location, study: dict[str, Any], document: YamlDocument) -> Location:
    """Return the place of an error in a file that extends a study: that of `extends`, if the other study has it."""
    if len(location) >= 2 and location[0] == "claims" and isinstance(location[1], int):
        # The claims of the other study come first, so that those of the file have other numbers here.
        claim = study["claims"][location[1]]
        for index, own in enumerate(document.data.get("claims", ())):
            if own is claim:
                return ("claims", index, *location[2:])
        return (EXTENDS,)
    if location and not document.has(location[:2]) and not document.has(location[:1]):
        return (EXTENDS,)
    if len(location) >= 2 and location[0] in _WORDS and not document.has(location[:2]):
        return (EXTENDS,)
    return location


def _check_published(study: Study, document: YamlDocument) -> None:
    if study.published is None:
        return
    try:
        table = get_published(study.published)
    except UnknownNameError as error:
        raise StudyError(f"{document.at(('published',))}: {error}") from None
    for variant in study.variants:
        place = ("variants", variant.name, "published")
        # A built-in study names rows that its table may lack; what a file says itself must be there.
        if document.has(place) and variant.published not in table.rows:
            unknown = UnknownNameError(f"row of published table {table.name!r}", str(variant.published), table.rows)
            raise StudyError(f"{document.at(place)}: {unknown}")
