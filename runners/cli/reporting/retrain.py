"""Trains some of a report's networks again, for `verify --retrain`, and compares what was measured bit by bit."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from ablations import vocabulary as names
from ablations.errors import DatasetError
from ablations.planning.nodes import Node
from ablations.planning.plan import Plan
from ablations.spec.fingerprint import SHORT
from ablations.visible import visible
from reports.archive.bundle import open_bundle
from reports.bundles.checking import is_bundle
from reports.bundles.retraining import (
    CORRECT_IMAGES,
    WEIGHTS,
    Measurement,
    amount_words,
    draw_nodes,
    machine_differences,
    measurement_differences,
    tracked_measurements,
)
from reports.collect.stores.opening import bundle_address, open_store
from reports.evidence.manifest import NAME as MANIFEST
from reports.evidence.manifest import Json, read_manifest
from reports.evidence.report_file import read_report
from reports.verify import planned
from runners.cli.reporting.options import RetrainOptions
from runners.launching.retraining import rerun_node
from runners.state.nodes import NodeState, StateStore
from runners.state.schemas import CORRECTNESS
from runners.tracking.result_files import digest_of_file
from runners.training.sealed_tensors import file_digests


def retrain(file: Path, uri: str, options: RetrainOptions, plugins: tuple[str, ...]) -> Iterator[str]:
    """Train networks of a report or a bundle again, and yield lines on each; a difference begins with `differs`.

    Raises:
        DatasetError: If the data are not here.
        TrainingError: If a training fails.
        ReportError: If the report has no training, or its run is not in the store.
    """
    if is_bundle(file):
        uri = bundle_address(file)
        manifest = open_bundle(file).read(MANIFEST).decode("utf-8", "replace")
    else:
        manifest = read_report(file).manifest
    stored = read_manifest(manifest)
    # The draw comes before anything is trained, and depends on the report and the reader's word alone.
    nodes = draw_nodes(_plan(stored), stored, options.retrain or 0, options.draw)
    with open_store(uri) as store:
        reported = tracked_measurements(store, stored, nodes)
    with tempfile.TemporaryDirectory(prefix="dyconv-retrain-") as folder:
        # One folder for all nodes, as an evaluation needs the checkpoint that was trained just before.
        states = StateStore(Path(folder) / "state")
        for node in nodes:
            expected = reported[node.fingerprint]
            # The number of threads decides the order of sums, and with it the last bits.
            device, threads = options.device or _device(expected), _threads(expected)
            title = visible(node.title, lines=False)
            yield f"running again: {title} (device {device}, CPU threads: {threads})"
            state = rerun_node(node, states, device=device, threads=threads, plugins=plugins)
            again = _measurement(state, expected.digests.get(WEIGHTS))
            for line in _lines(node, expected, again):
                yield visible(line, lines=False)


def _plan(stored: Json) -> Plan:
    try:
        return planned(stored)
    except DatasetError as error:
        raise DatasetError(f"--retrain needs the data that the report was trained on: {error}") from None


def _device(reported: Measurement) -> str:
    """Return the kind of device that a run had; which of several GPUs it was does not matter."""
    # Without a GPU here it runs on the CPU, and a difference is then put down to the machine.
    return "auto" if reported.versions.get("device", "cpu").startswith("cuda") else "cpu"


def _threads(reported: Measurement) -> int:
    threads = str(reported.versions.get("threads", ""))
    # Runs of earlier versions did not record them, and had one.
    return int(threads) if threads.isdecimal() and 0 < len(threads) < 5 else 1


def _measurement(state: NodeState, reported_weights: str | None) -> Measurement:
    """Return all that was measured of a node that was run again.

    Args:
        reported_weights: SHA-256 of the file of the reported weights, if it has any.
    """
    result = state.result()
    assert result is not None, "only what is done is compared"
    metrics: dict[str, float] = {}
    histories: dict[str, dict[int, float]] = {}
    for event in state.events():
        for name, value in event["metrics"].items():
            metrics[name] = value
            histories.setdefault(name, {})[int(event["step"])] = value
    digests = {}
    # An evaluation has no weights of its own.
    if state.weights_file.exists():
        digests[WEIGHTS] = digest_of_file(state.weights_file)
        # One file of equal weights may have its metadata in another order than the other.
        if reported_weights in file_digests(state.weights_file):
            digests[WEIGHTS] = str(reported_weights)
    correctness = CORRECTNESS.find(state.folder / names.CORRECTNESS_FILE)
    if correctness is not None:
        digests[CORRECT_IMAGES] = correctness["sha256"]
    versions = {**result.get("versions", {}), "device": result.get("device", "unknown")}
    # The result wins over the last event, as it does where runs are tracked.
    return Measurement(metrics | result["metrics"], histories, digests, versions)


def _lines(node: Node, reported: Measurement, again: Measurement) -> list[str]:
    """Return what came of a node that was run again, a line each; what is not the same begins with `differs`."""
    title = f"{node.kind} {node.fingerprint[:SHORT]}, {node.title}"
    differences = list(measurement_differences(title, reported, again))
    if not differences:
        return [f"again: {title}: bit for bit the same ({amount_words(again)})"]
    lines = [f"differs: {line}" for line in differences]
    other = machine_differences(reported, again)
    if other:
        lines.append(
            f"note: {title} was measured with {', '.join(other)}. Another kind of machine or another version may "
            "change the last bits, so that small differences do not speak against the report."
        )
    return lines
