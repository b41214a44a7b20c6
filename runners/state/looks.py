"""This module records the looks at results in a runs folder, a file per study and state of its results.

The first look at a state counts, so a file is written once. Summary runs carry the looks as well; a look that was made
between two reports, or before a store was lost, is known from here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ablations.errors import OutputError
from ablations.protocol.looks import Look, in_order
from ablations.vocabulary import slug
from runners.state.files import write_json_once
from runners.state.layout import RunsFolder
from runners.state.schemas import Damage, FileKind

_DIGITS = 16
# A name that begins with a dot is that of a temporary or a damaged file.
_FILES = "[!.]*.json"
_LOOK: FileKind[Look] = FileKind(Look)


def record_looks(runs_dir: Path, looks: Iterable[Look]) -> None:
    """Write down looks; one at a state of the results that was looked at before is left as it is.

    Raises:
        OutputError: If the folder cannot be written.
    """
    folder = RunsFolder(runs_dir).looks
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}.", error.errno) from None
    for look in looks:
        # The digest in the name makes the second look at one state find the file of the first.
        write_json_once(folder / f"{slug(look.study)}-{look.digest[:_DIGITS]}.json", look.as_mapping())


def recorded_looks(runs_dir: Path, studies: Iterable[str], scale: str) -> tuple[Look, ...]:
    """Return the looks at the results of some studies at a scale (`Request.scale`), the first one first.

    Files that cannot be read are left out.
    """
    names = frozenset(studies)
    looks = map(_LOOK.find, RunsFolder(runs_dir).looks.glob(_FILES))
    return in_order(look for look in looks if look is not None and look.study in names and look.scale == scale)


def look_damages(runs_dir: Path) -> list[Damage]:
    """Return the files of looks that cannot be read."""
    return _LOOK.damages(sorted(RunsFolder(runs_dir).looks.glob(_FILES)))
