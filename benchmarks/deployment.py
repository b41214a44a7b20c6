"""`python -m benchmarks.deployment` trains a static and a dynamic network, deploys both, and fills in docs/deploy.md.

Needs the extra `deploy`. Each network is measured as it was trained, with constant weights, in onnxruntime, and in
int8. All take turns for one image, on one thread.
"""

from __future__ import annotations

import platform
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime
import torch
import torch.nn.functional as F
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn
from torch.export import Dim

from ablations.spec.trial import TrialSpec, resolve
from benchmarks.processor import processor
from benchmarks.timing import interleaved
from dyconv import deployable
from dyconv.deployment.quantisation import simulated_int8
from runners.data import BatchSource
from runners.training.network import build_network, calibration_images, input_size, open_source

PAGE = Path(__file__).resolve().parent.parent / "docs" / "deploy.md"
BEGIN, END = "<!-- measured by benchmarks.deployment -->", "<!-- end of what is measured -->"
ROUNDS = 200
SETTINGS: dict[str, Any] = {
    "model.width": 0.35,
    "model.depth": 0.34,
    "data.train_images": 3000,
    "data.augmentation": "none",
    "train.batch_size": 50,
    "train.epochs": 3,
}
NETWORKS: dict[str, dict[str, Any]] = {"static": {"model.layer": "static"}, "dynamic, K = 4": {"model.num_kernels": 4}}

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Deployment:
    """A network in one form: how it is called, a function from images to logits, and the bytes that are stored."""

    network: str
    title: str
    run: Run
    stored: int


def train(spec: TrialSpec, source: BatchSource) -> nn.Module:
    """Return the network of a spec after a short training, in evaluation mode."""
    model = build_network(spec.model, source.facts, spec.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-4)
    steps = spec.train.epochs * source.steps_per_epoch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    for epoch in range(spec.train.epochs):
        for images, labels in source.training(epoch):
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(model(images), labels))
            optimizer.step()
            schedule.step()
    return model.eval()


def deployments(name: str, model: nn.Module, source: BatchSource, folder: Path) -> Iterator[Deployment]:
    """Yield a trained network in each of its forms."""
    size = input_size(source.facts)
    parameters = 4 * sum(parameter.numel() for parameter in model.parameters())
    yield Deployment(name, "torch, as trained", model, parameters)
    forms = ("branches", "auto") if "dynamic" in name else ("branches",)
    for form in forms:
        # A static network has no form.
        suffix = f", {form}" if len(forms) > 1 else ""
        copied = deployable(model, form, size)
        stored = 4 * sum(parameter.numel() for parameter in copied.parameters())
        if suffix:
            yield Deployment(name, f"torch, deployable{suffix}", copied, stored)
        path = folder / f"{name[:7]}-{form}.onnx"
        write_onnx(copied, size, path)
        yield Deployment(name, f"onnxruntime{suffix}", in_onnxruntime(path), path.stat().st_size)
        # What else there is to quantise are the attention branches and the mixing, which a static network has not.
        for title, operators in {"int8": None, "int8 convolutions": ["Conv"]}.items():
            if operators and not suffix:
                continue
            quantised = path.with_suffix(f".{title.replace(' ', '-')}.onnx")
            quantise(path, quantised, list(calibration_images(source)), operators)
            yield Deployment(name, f"onnxruntime, {title}{suffix}", in_onnxruntime(quantised), quantised.stat().st_size)
    simulated = simulated_int8(model, calibration_images(source))
    yield Deployment(name, "int8, simulated (study *deployment*)", simulated, 0)


def write_onnx(model: nn.Module, size: tuple[int, int, int], path: Path) -> None:
    """Write a deployed network as ONNX for batches of any size."""
    example = torch.zeros(2, *size)
    with warnings.catch_warnings():
        # The exporter warns about its own parts.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            (example,),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(str(path))


class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: Sequence[Tensor]) -> None:
        self.batches = iter(batches)

    def get_next(self) -> dict[str, Any] | None:
        images = next(self.batches, None)
        return None if images is None else {"images": images.contiguous().numpy()}


def quantise(path: Path, quantised: Path, batches: Sequence[Tensor], operators: list[str] | None = None) -> None:
    """Quantise the `operators` of an ONNX file to int8, by default all, with the ranges of activations of images."""
    prepared = path.with_suffix(".prepared.onnx")
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(quantised),
        _Calibration(batches),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=operators,
    )


def in_onnxruntime(path: Path) -> Run:
    """Return a function that runs an ONNX file on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(None, {"images": images.contiguous().numpy()})
        return torch.from_numpy(logits)

    return run


def accuracy(run: Run, source: BatchSource) -> float:
    """Return the accuracy on the test images in per cent."""
    right = total = 0
    for images, labels in source.evaluation("test"):
        right += int((run(images).argmax(1) == labels).sum())
        total += len(labels)
    return 100 * right / total


def table(rows: Sequence[tuple[Deployment, float, float]]) -> str:
    """Return the Markdown table of deployments with their accuracy in per cent and their seconds for one image."""
    lines = ["| network | form | stored, kB | one image, ms | test top-1, % |", "|---|---|---:|---:|---:|"]
    for deployment, top1, seconds in rows:
        # What is simulated is stored in float32, and its time says nothing about a runtime.
        is_stored = deployment.stored > 0
        kilobytes = f"{deployment.stored / 1000:.0f}" if is_stored else "–"
        milliseconds = f"{1000 * seconds:.2f}" if is_stored else "–"
        lines.append(f"| {deployment.network} | {deployment.title} | {kilobytes} | {milliseconds} | {top1:.1f} |")
    return "\n".join(lines)


def with_measurements(page: str, text: str) -> str:
    """Return the page with `text` in place of what was measured before."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def main() -> None:
    """Train, deploy, measure and write."""
    torch.set_num_threads(1)
    rows: list[tuple[Deployment, float]] = []
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        for name, settings in NETWORKS.items():
            torch.manual_seed(0)
            spec = resolve([SETTINGS, settings], {}, 0)
            source = open_source(spec, torch.device("cpu"), torch.contiguous_format)
            model = train(spec, source)
            with torch.no_grad():
                for deployment in deployments(name, model, source, Path(folder)):
                    rows.append((deployment, accuracy(deployment.run, source)))
                    sys.stderr.write(f"{name}: {deployment.title}: {rows[-1][1]:.1f} %\n")
        with torch.no_grad():
            image = torch.zeros(1, *input_size(source.facts))
            steps = {f"{d.network} {d.title}": lambda d=d: d.run(image) for d, _ in rows}
            seconds = interleaved(steps, rounds=ROUNDS, warmup=5, quantile=0.25)
    versions = f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}, Python {platform.python_version()}"
    text = table([(d, top1, seconds[f"{d.network} {d.title}"]) for d, top1 in rows])
    text += (
        f"\n\nMobileNetV2 ×{SETTINGS['model.width']} depth {SETTINGS['model.depth']}, trained for "
        f"{SETTINGS['train.epochs']} epochs of {SETTINGS['data.train_images']} images; "
        f"{source.num_images('test')} test images. {processor()}, one thread, float32 unless said otherwise; "
        f"the lower quartile of {ROUNDS} rounds in which all take turns, on a machine that others used too. {versions}."
    )
    PAGE.write_text(with_measurements(PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")


if __name__ == "__main__":
    main()
