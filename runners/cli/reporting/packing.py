"""Packs a report with its runs and prints where the file is, for the verb `bundle`.

It imports pandas, MLflow and more, so the verb imports it only when it packs.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from runners.api.maker import running_code
from runners.api.reporting import with_protocol
from runners.api.selection import Selection
from runners.cli.options.frozen import FrozenOptions
from runners.cli.reporting.scale import as_reported
from runners.console.terminal import print_lines
from runners.importing import without_collection

with without_collection():
    from reports.bundles.packing import pack_report
    from reports.collect.runs import collect
    from reports.render.files import ensure_folder, write_atomically


def pack(
    selection: Selection, frozen: FrozenOptions, formats: Sequence[str], path_of: Callable[[Path, str], Path]
) -> None:
    """Write the bundle of a selection and print its path, its size and its SHA-256.

    Args:
        formats: Names of renderers.
        path_of: Returns the file, given the runs folder and the stem of the report.
    """
    selection, plan = as_reported(frozen.completed(selection))
    runs_dir, uri = selection.runs_dir, selection.tracking_uri
    # Whoever packs a report may read it, so that this is a look at the results, too.
    results = with_protocol(collect(plan, uri), plan, runs_dir, frozen.plans(plan, selection))
    # These name the user and the machine; whoever publishes a bundle wants to know if one of them got in.
    words = (str(Path.home()), str(runs_dir.absolute()), socket.gethostname())
    packed = pack_report(plan, uri, formats, running_code(), words, results=results)
    path = path_of(runs_dir, packed.stem)
    ensure_folder(path.parent)
    write_atomically(path, packed.content)
    size = len(packed.content) / 1e6
    lines = [f"bundle: {path} ({size:.1f} MB, {packed.files} files, {packed.runs} runs)", f"sha256: {packed.sha256}"]
    for line in packed.revealing:
        lines.append(f"note: {line}. Whoever gets the bundle can read it.")
    print_lines(lines)
