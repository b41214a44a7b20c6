"""This module reads what a docstring says about the fields of a spec, for study files and for the reference."""

from __future__ import annotations

import inspect
import re

from pydantic import BaseModel

_ENTRY = re.compile(r"^(\w+(?:, \w+)*): (.+)$")


def field_descriptions(spec: type[BaseModel]) -> dict[str, str]:
    """Return the sentences of the section "Attributes" of a class's docstring, by the name of the field.

    An entry may be about several fields, which are listed before its colon.
    """
    _, _, section = inspect.cleandoc(spec.__doc__ or "").partition("Attributes:\n")
    descriptions: dict[str, str] = {}
    names: list[str] = []
    for line in inspect.cleandoc(section).splitlines():
        entry = _ENTRY.match(line)
        if entry:
            names = entry[1].split(", ")
            text = entry[2]
        elif not line.startswith(" "):
            break
        else:
            text = line.strip()
        for name in names:
            descriptions[name] = f"{descriptions[name]} {text}" if name in descriptions and not entry else text
    return descriptions
