"""This module packs a report with its manifest, the records of its runs and its surroundings into a bundle.

The same runs, packed by the same code on the same machine, make the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.errors import OptionError
from ablations.planning.plan import Plan
from reports.archive.bundle import make_bundle
from reports.bundles.records import LEFT_OUT, packed_runs, run_files
from reports.bundles.surroundings import data_sets, environment
from reports.collect.results import Results
from reports.collect.runs import collect
from reports.collect.stores.opening import open_store
from reports.content.file_names import report_stem
from reports.content.maker import Maker
from reports.content.plan_words import plural
from reports.evidence.manifest import NAME as MANIFEST
from reports.evidence.manifest import read_manifest
from reports.evidence.report_file import carried
from reports.make import make_report

REPORT_FOLDER = "report/"
DATA_FILE, ENVIRONMENT_FILE, FROZEN_FILE, README_FILE = "data.json", "environment.json", "frozen.json", "README.txt"
CARRYING = ("pdf", "html")
"""The formats that carry a manifest."""
# Words are looked for in text alone: a PDF's streams are compressed, and a hit in an image would mean nothing.
_BINARY = (".pdf", ".png")
_SHORTEST_WORD = 4

_README = """\
This file holds a report of dyconv-ablations and all that it rests on, without weights.

  report/            the report: {formats}
  manifest.json      what was asked, every run, every number with its inputs
  runs/<id>/         the runs behind it: run.json (settings, last metrics, times, machine), history.json (metrics over
                     the epochs), correctness.json (which test images were right, a bit each), attention.json
  frozen.json        the plans that were frozen before the runs, if there were any
  data.json          digests and facts of the data sets
  environment.json   versions of all that is installed, and the kinds of machine that measured
  bundle.json        every file with its size and its SHA-256; files are stored as they are, not compressed

The code is commit {commit}.
With it, and without a tracking store, a network or the data, these read the file, which is called FILE.zip here:

  python run_ablation.py verify FILE.zip               checks each byte, computes every number again from the runs
  python run_ablation.py report FILE.zip               makes the report again
  python run_ablation.py verify FILE.zip --retrain 2   trains two networks again, compares the bits (needs the data)

Left out:
{left_out}
"""


@dataclass(frozen=True)
class Packed:
    """A bundle in memory.

    Attributes:
        content: Its bytes.
        stem: The name of its report, without an ending.
        runs: Number of its runs.
        files: Number of its files.
        revealing: A line for each file in which one of the words stands that it should not have.
    """

    content: bytes
    stem: str
    runs: int
    files: int
    revealing: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes."""
        return hashlib.sha256(self.content).hexdigest()


def pack_report(
    plan: Plan,
    tracking_uri: str,
    formats: Sequence[str],
    maker: Maker,
    words: Iterable[str],
    *,
    results: Results | None = None,
) -> Packed:
    """Return the bundle of the report on a plan.

    Args:
        plan: The plan of the report.
        tracking_uri: The store with its runs.
        formats: The formats of the report; one of them must carry a manifest.
        maker: The code that makes it.
        words: Names of machines, users and folders that a bundle should not have. It is made all the same if it has
            one, for example in a setting that the report itself states.
        results: The results of the plan, if they are at hand (`reports.collect.runs.collect`).

    Raises:
        OptionError: If no format carries a manifest.
        TrackingError: If the store cannot be reached.
        ReportError: If the store holds no finished run of the plan.
    """
    carrying = [name for name in formats if name in CARRYING]
    if not carrying:
        raise OptionError(f"a bundle needs {' or '.join(CARRYING)} among its formats, as these carry the manifest.")
    if results is None:
        # The command line has them with the looks and the frozen plans of the runs folder, which a store may lack.
        results = collect(plan, tracking_uri)
    stem = report_stem(plan)
    with tempfile.TemporaryDirectory(prefix="dyconv-bundle-") as folder:
        paths = make_report(plan, tracking_uri, formats, Path(folder), results=results, maker=maker, stem=stem)
        # The manifest is taken out of the report itself, so that both cannot be of different results.
        manifest = carried(paths[carrying[0]].read_bytes()).manifest
        files = report_files(Path(folder))
    with open_store(tracking_uri) as store:
        runs = packed_runs(plan, store)
        files |= run_files(plan, store, runs)
    content = read_manifest(manifest)
    files[MANIFEST] = manifest.encode()
    files[DATA_FILE] = _as_json(data_sets(plan))
    files[ENVIRONMENT_FILE] = _as_json(environment(results))
    if "frozen" in content:
        files[FROZEN_FILE] = _as_json(content["frozen"])
    files[README_FILE] = _README.format(
        formats=", ".join(formats),
        commit=content["made_by"]["commit"],
        left_out="\n".join(f"  {line}" for line in LEFT_OUT),
    ).encode()
    about = {
        "report": stem,
        "studies": [study.name for study in plan.studies],
        "preset": plan.request.preset.name,
        "made_by": content["made_by"],
        "manifest": content["sha256"],
        "runs": dict(sorted(Counter(f"{run.kind}, {run.status}" for run in runs).items())),
        "left_out": list(LEFT_OUT),
    }
    # One more than the files: the list itself counts, too.
    return Packed(make_bundle(files, about), stem, len(runs), len(files) + 1, tuple(_revealing(files, words)))


def report_files(folder: Path) -> dict[str, bytes]:
    """Return the files of a report in a folder, figures included, by their names in a bundle."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            files[f"{REPORT_FOLDER}{path.relative_to(folder).as_posix()}"] = path.read_bytes()
    return files


def _revealing(files: Mapping[str, bytes], words: Iterable[str]) -> Iterator[str]:
    """Yield a line for each word that stands in files of text."""
    texts = {name: content for name, content in files.items() if not name.endswith(_BINARY)}
    for word in dict.fromkeys(words):
        # Shorter names, such as /, stand in any text.
        if len(word) < _SHORTEST_WORD:
            continue
        # As a whole word: a machine called node must not be found in every nodes.
        # In JSON letters beyond ASCII stand as escapes.
        spellings = {word.encode(), json.dumps(word)[1:-1].encode()}
        alternatives = b"|".join(map(re.escape, sorted(spellings)))
        pattern = re.compile(rb"(?<!\w)(?:" + alternatives + rb")(?!\w)")
        names = [name for name, content in texts.items() if pattern.search(content)]
        if names:
            others = len(names) - 1
            more = f" and {others} {plural(others, 'other file')}" if others else ""
            yield f"{word} stands in {names[0]}{more}"


def _as_json(value: Any) -> bytes:
    return f"{json.dumps(value, indent=1, sort_keys=True)}\n".encode()
