"""This module finds the folder that holds the files of a data set, or has them downloaded if the user allows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ablations.errors import DatasetError

DOWNLOAD_ROOT = Path("runs/data")


def find_folder(
    title: str,
    names: Sequence[str],
    folders: Sequence[Path],
    *,
    endings: Sequence[str] = ("",),
    remedies: str,
    download: bool,
    fetch: Callable[[], None],
) -> Path:
    """Return the first folder that holds all files of a data set.

    Args:
        title: The data set's title, for messages.
        names: The files, without `endings`.
        folders: The folders to look into, in order.
        endings: What a file's name may end with, any of them: `""`, and `.gz` if packed files do as well.
        remedies: A sentence for messages on where to get the files.
        download: Whether the user allows a download.
        fetch: Downloads the files into the last of the folders.

    Raises:
        DatasetError: There is none, or the first with any of the files lacks others.
    """
    for folder in folders:
        missing = [name for name in names if not any((folder / f"{name}{ending}").is_file() for ending in endings)]
        if not missing:
            return folder
        # Some files but not all: an incomplete copy is an error, not a reason to look further. A download completes it.
        if len(missing) < len(names) and not download:
            raise lack(title, missing, folder, endings, remedies)
    if not download:
        raise DatasetError(f"{title} was not found; looked in {', '.join(map(str, folders))}. {remedies}")
    # Looked at no further: the readers check each file.
    fetch()
    return folders[-1]


def lack(title: str, missing: Sequence[str], folder: Path, endings: Sequence[str], remedies: str) -> DatasetError:
    """Return the error of a folder without some of the files of a data set."""
    packed = "".join(f" ({ending})" for ending in endings if ending)
    return DatasetError(f"{title} in {folder} lacks {' and '.join(missing)}{packed}. {remedies}")
