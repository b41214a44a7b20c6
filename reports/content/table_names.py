"""This module names the tables of a report, for files that hold one of them and for the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping

from reports.content.blocks import Document, Section, Table

_LONGEST = 60
"""Characters of a name, which becomes part of a file's."""


def named_tables(document: Document) -> dict[str, Table]:
    """Return the tables of a document by name, in order.

    The main table of a study is called like the study, a further one of its section `<study>-claims` after its title,
    and any other like its title, in lower case with hyphens. One in the appendix that has the title of a study is
    called `<section>-<study>`.
    """
    tables: dict[str, Table] = {}
    studies = {section.title: section.name for section in document.sections if section.name}
    for section in document.all_sections:
        for block in section.blocks:
            if isinstance(block, Table):
                tables[_unused(_name(section, block, studies), tables)] = block
    return tables


def _name(section: Section, table: Table, studies: Mapping[str, str]) -> str:
    if not section.name:
        if table.title in studies:
            return hyphenated(f"{section.title}-{studies[table.title]}")
        return hyphenated(table.title)
    name = hyphenated(section.name)
    if table.title == section.title:
        return name
    # Titles of further tables begin with that of their study.
    rest = hyphenated(table.title.removeprefix(section.title))
    return f"{name}-{rest}"[:_LONGEST]


def hyphenated(text: str) -> str:
    """Return a text as it stands in a name: lower case, with a hyphen for all but letters of ASCII and digits."""
    return re.sub(r"[^a-z0-9_]+", "-", text.lower())[:_LONGEST].strip("-") or "table"


def _unused(name: str, tables: dict[str, Table]) -> str:
    """Return a name that no table has: titles of two may differ in signs alone, or not at all."""
    unused, number = name, 1
    while unused in tables:
        number += 1
        unused = f"{name}-{number}"
    return unused
