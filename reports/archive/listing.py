"""This module makes and reads `bundle.json`, the first file of a bundle, which lists all others with their digests.

It ends with a digest of itself. Whoever changes a file and makes all digests anew has another bundle: its SHA-256,
which `bundle` and `verify` print, is what a paper can state.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ablations.errors import BundleError
from ablations.spec.fingerprint import canonical_json, digest

NAME = "bundle.json"
FORMAT = 1
"""Version of the layout, raised with each change: code that reads one format does not read another."""

# Below 65,535, beyond which a zip needs the records of zip64, whose layout is another one.
MOST_FILES = 50_000
LARGEST = 1 << 30
"""Most bytes of a bundle, which is read into memory as a whole: 1 GiB."""

# Names that are paths inside a folder on every system; nothing is unpacked by them, but others may do that.
_SAFE_NAME = re.compile(r"(?!.*(?:^|/)\.)[A-Za-z0-9._\-]+(?:/[A-Za-z0-9._\-]+)*")
_HEXADECIMAL = r"[0-9a-f]{64}"


class ListedFile(BaseModel):
    """A file of a bundle: its bytes and their SHA-256. They are stored as they are, so that one digest is of both."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    size: int = Field(ge=0, le=LARGEST)
    sha256: str = Field(pattern=f"^{_HEXADECIMAL}$")


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    format: int
    about: dict[str, Any]
    files: dict[str, ListedFile] = Field(max_length=MOST_FILES)
    sha256: str


@dataclass(frozen=True)
class Listing:
    """The content of `bundle.json`.

    Attributes:
        about: What the bundle is of, for people: studies, preset, code, number of runs, what was left out.
        files: The other files in their order.
        sha256: The digest of all that.
    """

    about: Mapping[str, Any]
    files: Mapping[str, ListedFile]
    sha256: str

    @property
    def sizes(self) -> dict[str, int]:
        """The bytes of the other files, in their order."""
        return {name: file.size for name, file in self.files.items()}


def listing_text(files: Mapping[str, bytes], about: Mapping[str, Any]) -> bytes:
    """Return `bundle.json` for these files; canonical, so that equal content is equal bytes."""
    listed = {}
    for name, file in files.items():
        listed[name] = {"size": len(file), "sha256": hashlib.sha256(file).hexdigest()}
    # Canonical JSON sorts the files by name, which is also their order in the zip.
    content = {"format": FORMAT, "about": dict(about), "files": listed}
    return f"{canonical_json({**content, 'sha256': digest(content)})}\n".encode()


def read_listing(text: bytes) -> Listing:
    """Return the listing in a text.

    Raises:
        BundleError: If it is none, is of another format, has a digest that is not its own, or lists a file that could
            not lie in any folder.
    """
    try:
        content = json.loads(text)
        version = content["format"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise BundleError(f"{NAME} cannot be read ({type(error).__name__}).") from None
    # Before its layout is looked at, which another format may have changed.
    if version != FORMAT:
        raise BundleError(f"{NAME} has format {version!r:.40}, this version reads {FORMAT}. Use the code that made it.")
    try:
        parsed = _Content.model_validate_json(text)
        sha256 = content.pop("sha256")
        intact = sha256 == digest(content) and text == f"{canonical_json({**content, 'sha256': sha256})}\n".encode()
    except (ValidationError, ValueError, TypeError, RecursionError):
        raise BundleError(f"{NAME} is not laid out like the list of a bundle.") from None
    # Equal content in another spelling is a change, too: a bundle of one content has one SHA-256.
    if not intact:
        raise BundleError(f"{NAME} was changed: its digest is not that of its content.")
    for name in parsed.files:
        # A second list among the files could contradict the one that is read.
        if not _SAFE_NAME.fullmatch(name) or name == NAME:
            raise BundleError(f"{NAME} lists {name!r:.80}, which cannot be a file of a bundle.")
    return Listing(parsed.about, parsed.files, sha256)
