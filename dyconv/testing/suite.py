"""`check_layer` runs every check on a layer kind and lists all its faults at once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from dyconv.errors import ArgumentError, DyconvError, LayerCheckError
from dyconv.layers import ConvolutionLayer
from dyconv.layers.kinds import COMMON_SETTINGS, Value, available_layers, layer_kind
from dyconv.networks.conversion import make_dynamic
from dyconv.randomness import seeded
from dyconv.testing import attention, computation, handling
from dyconv.testing.report import CheckResult, LayerReport
from dyconv.testing.subject import GEOMETRIES, Geometry, InapplicableError, Subject, run, unlike

Check = Callable[[Subject], Iterator[str]]

_CHECKS: Mapping[str, Check] = {
    "batch": computation.check_batch,
    "single image": computation.check_single_image,
    "definition": computation.check_definition,
    "float64": computation.check_double,
    "gradients": computation.check_gradients,
    "training": computation.check_training,
    "channels-last": handling.check_channels_last,
    "bfloat16": handling.check_bfloat16,
    "autocast": handling.check_autocast,
    "state": handling.check_state,
    "copy": handling.check_copy,
    "pickle": handling.check_pickle,
    "attention": attention.check_attention,
    "aggregator": attention.check_aggregator,
    "temperature": attention.check_temperature,
    "kernels": attention.check_kernels,
    "static start": attention.check_static_start,
    "cost": attention.check_cost,
}
_EXPORT = "export"
"""The check that takes seconds, and is made on the first geometry only."""


def check_layer(
    layer: str | type[ConvolutionLayer],
    *,
    options: Mapping[str, Value] | None = None,
    num_kernels: int | None = None,
    mixes_kernels: bool | None = None,
    geometries: Mapping[str, Geometry] = GEOMETRIES,
) -> LayerReport:
    """Check that a layer kind does what networks, trainings, interventions and measurements rely on; return a report.

    `layer` is a class or the name of a registered kind, `options` are values of its keywords, those of its own and
    those that kinds share; `num_kernels` is K (None is the default of its class). `mixes_kernels` says that the layer
    computes sum_k pi_k conv(x, W_k) with its `attention`; None takes that for granted if the class has no `forward` of
    its own.

    Layers of all `geometries` are built; those that the class refuses with an ArgumentError are listed as refused. The
    global generator is left as it is. It takes a few seconds on one core.

    Raises:
        LayerCheckError: the class has faults, or refuses every geometry; the message lists all of them with what was
            expected, and `report` has them as data.
        ArgumentError: an unknown kind.
    """
    name, layer = _name_and_class(layer)
    kind = _registered_name(layer)
    keywords: dict[str, Any] = dict(options or {})
    if kind is not None:
        # Options of its own are checked by the kind, as in a conversion; the class itself checks the shared ones.
        shared = {key: value for key, value in keywords.items() if key in COMMON_SETTINGS}
        own = {key: value for key, value in keywords.items() if key not in COMMON_SETTINGS}
        keywords = {**layer_kind(kind).checked_options(own), **shared}
    if num_kernels is not None:
        keywords["num_kernels"] = num_kernels
    if mixes_kernels is None:
        mixes_kernels = layer.forward is ConvolutionLayer.forward
    parameters = inspect.signature(layer).parameters.values()
    takes = frozenset(parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)
    results: list[CheckResult] = []
    is_exported = False
    with seeded(0, "check_layer"):
        for title, geometry in geometries.items():
            subject = Subject(layer, geometry, keywords, takes, mixes_kernels)
            # Export is left to the first geometry that the class accepts and runs.
            checked = list(_check_geometry(subject, title, with_export=not is_exported))
            is_exported = is_exported or any(result.check == _EXPORT for result in checked)
            results += checked
        if kind is not None:
            results += _results("conversion", "", _check_conversion(kind, keywords))
    report = LayerReport(name, tuple(results))
    # A conversion has no geometry: its result does not say that the class takes one.
    if all(result.status == "refused" for result in results if result.geometry):
        reason = report.with_status("refused")[0].reason
        raise LayerCheckError(f"{name} refuses every geometry of the checks, the first with: {reason}", report)
    if report.faults:
        raise LayerCheckError(str(report), report)
    return report


def _name_and_class(layer: str | type[ConvolutionLayer]) -> tuple[str, type[ConvolutionLayer]]:
    if isinstance(layer, str):
        cls = layer_kind(layer).layer
        return f"layer {layer!r} ({cls.__name__})", cls
    if not (isinstance(layer, type) and issubclass(layer, ConvolutionLayer)):
        raise ArgumentError(
            f"check_layer takes a subclass of dyconv.ConvolutionLayer or the name of one, got {layer!r}"
        )
    return layer.__name__, layer


def _registered_name(layer: type[ConvolutionLayer]) -> str | None:
    for name in available_layers():
        if layer_kind(name).layer is layer:
            return name
    return None


def _check_geometry(subject: Subject, title: str, *, with_export: bool) -> Iterator[CheckResult]:
    """Yield the results of a geometry: one that is refused, or those of all checks, unless the layer does not run."""
    try:
        subject.network()
    # By this type a class may refuse a geometry; any other exception is a fault of it.
    except ArgumentError as error:
        yield CheckResult("", title, "refused", str(error))
        return
    except Exception as error:
        yield CheckResult("output", title, "failed", f"the layer cannot be built: {_in_words(error)}")
        return
    first = list(_results("output", title, computation.check_output(subject)))
    if not _have_failed(first):
        first += _results("repeatable", title, computation.check_repeatable(subject))
    yield from first
    # Every check that follows would repeat that.
    if _have_failed(first):
        return
    for name, check in _CHECKS.items():
        yield from _results(name, title, check(subject))
    if with_export:
        yield from _results(_EXPORT, title, handling.check_export(subject))


def _have_failed(results: Iterable[CheckResult]) -> bool:
    return any(result.status == "failed" for result in results)


def _results(check: str, geometry: str, faults: Iterator[str]) -> Iterator[CheckResult]:
    """Run a check and yield its results: its faults, or that it passed or does not apply. An exception is a fault."""
    count = 0
    try:
        for fault in faults:
            count += 1
            yield CheckResult(check, geometry, "failed", fault)
    except InapplicableError as reason:
        # A check that found faults before it gave up has failed, and was not skipped.
        if not count:
            yield CheckResult(check, geometry, "skipped", str(reason))
        return
    except Exception as error:
        yield CheckResult(check, geometry, "failed", f"raises {_in_words(error)}")
        return
    if not count:
        yield CheckResult(check, geometry, "passed")


def _in_words(error: Exception) -> str:
    """Return type and message of an exception, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _check_conversion(kind: str, keywords: Mapping[str, Any]) -> Iterator[str]:
    """Check that `make_dynamic` converts a network, and from the static one where the kind says how.

    The network has a dense, a depthwise and a pointwise convolution.
    """
    images = torch.randn(3, 4, 9, 8)
    settings: dict[str, Any] = {"layer": kind, "seed": 0, "options": {}}
    for name, value in keywords.items():
        if name in COMMON_SETTINGS:
            settings[name] = value
        else:
            settings["options"][name] = value
    starts: tuple[dict[str, Any], ...] = ({}, {"start": "static", "noise": 0.0})
    for start in starts:
        network = _static_network()
        expected = run(network, images)
        try:
            make_dynamic(network, **settings, **start)
        except DyconvError as error:
            if start:
                # "static start" tells why.
                return
            raise InapplicableError(f"make_dynamic refuses: {error}") from error
        output = run(network, images)
        if output.shape != expected.shape or not bool(output.isfinite().all()):
            yield "the output of a converted network is not finite, or has another shape"
        # Four convolutions and two norms follow one another, and each adds its rounding.
        deviation = unlike(output, expected, 10 * computation.ROUNDING)
        if start and deviation:
            yield f"the output of a network with start='static' and noise=0 {deviation} from the static network"


def _static_network() -> nn.Module:
    layers = [
        nn.Conv2d(4, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 24, 1, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.Conv2d(24, 24, 3, 2, 1, groups=24, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.Conv2d(24, 16, 1),
    ]
    with seeded(0, "network of a layer check"):
        return nn.Sequential(*layers).eval()
