"""Reads the overrides of a command, `--set key=value`: a setting with a value, or with several, which make a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ablations.errors import AblationError, SpecError
from ablations.files.yaml_source import parse_override, parse_value
from ablations.spec.settings import DEFAULTS, check_values

_BRACKETS = {"[": "]", "{": "}", "(": ")"}


def split_overrides(overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
    """Return the settings of some `key=value`, and the texts of the values of those that have several.

    Values of a sweep stand between commas that are in no brackets or quotes: `train.epochs=4,8`, and of lists
    `key=[1,2],[3,4]`. A text that the setting takes as it stands, such as a path with a comma, is one value.

    Raises:
        SpecError: If one is no `key=value`, a value is no YAML or empty, or a sweep names a value or a setting twice.
    """
    settings: dict[str, Any] = {}
    sweeps: dict[str, tuple[str, ...]] = {}
    for override in overrides:
        key, _, text = (part.strip() for part in override.partition("="))
        texts = _split(text)
        if len(texts) < 2 or key not in DEFAULTS or _takes(key, text):
            name, value = parse_override(override)
            settings[name] = value
            continue
        if "" in texts:
            raise SpecError(f"--set {override!r} has an empty value. Leave out the comma, or put the value in quotes.")
        if key in sweeps:
            raise SpecError(f"--set {key} is swept twice. Name all of its values at once.")
        values = [repr(parse_value(value)) for value in texts]
        for value, shown in zip(values, texts, strict=True):
            if values.count(value) > 1:
                raise SpecError(f"--set {override!r} names the value {shown} twice. Keep one.")
        sweeps[key] = texts
    for key, texts in sweeps.items():
        if key in settings:
            raise SpecError(f"--set {key} is given once with one value and once with several. Keep one.")
        for text in texts:
            check_values({key: parse_value(text)})
    return settings, sweeps


def _takes(key: str, text: str) -> bool:
    try:
        check_values({key: parse_value(text)})
    except AblationError:
        return False
    return True


def _split(text: str) -> tuple[str, ...]:
    """Return the parts of a text between commas that are in no brackets or quotes."""
    parts, closing, quote = [""], [], ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in _BRACKETS:
            closing.append(_BRACKETS[character])
        elif closing and character == closing[-1]:
            closing.pop()
        elif character == "," and not closing:
            parts.append("")
            continue
        parts[-1] += character
    return tuple(part.strip() for part in parts)
