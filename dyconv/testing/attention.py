"""These checks look at what interventions, measurements and conversions rely on: attention, aggregators, cost.

Each is a generator of sentences, one per fault.

Dimensions: B images, C channels, H x W pixels, K kernels, N weights of an attention.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from dyconv.base import set_temperature
from dyconv.cost import PURPOSES, cost
from dyconv.errors import ArgumentError, ConversionError
from dyconv.inspection import record_attention
from dyconv.intervention import intervene
from dyconv.networks.initialisation import choose_start
from dyconv.testing.computation import ROUNDING
from dyconv.testing.subject import InapplicableError, Subject, difference, layer_of, run, unlike

_VISIBLE = 1e-3
"""The least difference of weights that must show in the output."""
_SHOWN = 1e-6
"""The least difference of an output that is no rounding of the same computation; a share of the largest number."""
_LARGE = 100.0
"""The factor of images whose attention must still be finite."""


def check_attention(subject: Subject) -> Iterator[str]:
    """Check that attention is (B, N), finite, and sums to one where that is claimed; also for large images."""
    network, images = subject.network(), subject.images
    layer = layer_of(network)
    with torch.no_grad():
        main = layer.attention(images)
    if main.dim() != 2 or len(main) != len(images):
        yield f"attention(input) has shape {tuple(main.shape)}, expected (B, N) with B = {len(images)}"
    elif subject.mixes and main.shape[1] != layer.num_kernels:
        yield f"attention(input) has {main.shape[1]} weights per image, expected one for each of {layer.num_kernels}"
    for factor in (1.0, _LARGE):
        for name, (weights, _) in _recorded(network, factor * images).items():
            if weights.dim() != 2 or len(weights) != len(images):
                yield f"attention {name!r} is {tuple(weights.shape)}, expected (B, N) with B = {len(images)}"
            elif not bool(weights.isfinite().all()):
                yield f"attention {name!r} of images {factor:g} times as large is not finite"
            elif layer.aggregators[name].sums_to_one and difference(weights.sum(1), torch.ones(len(images))) > 1e-4:
                yield f"attention {name!r} is said to sum to one and sums to {float(weights.sum(1)[0]):.4g}"


def check_aggregator(subject: Subject) -> Iterator[str]:
    """Check that each attention passes through its aggregator: a strategy changes the output, and is undone after.

    Strategies are `average` and `shuffle_across_images`, each where it changes the weights of some image.
    """
    network, images = subject.network(), subject.images
    before, recorded = run(network, images), _recorded(network, images)
    changing = 0
    for name in layer_of(network).attentions:
        if name not in recorded:
            yield (
                f"the aggregator of attention {name!r} is not called in forward: mix with self.mixture(input), or use "
                f"self.aggregators[{name!r}]"
            )
            continue
        for strategy in ("average", "shuffle_across_images"):
            with intervene(network, strategy, attention=name):
                weights, used = _recorded(network, images).get(name, recorded[name])
                after = run(network, images)
            changes = float((weights - used).abs().max()) > _VISIBLE
            changing += changes
            # `not >` rather than `<=`, so that a NaN is a fault, too.
            if changes and not difference(after, before) > _SHOWN:
                yield f"{strategy!r} changes attention {name!r} and not the output: use the result of the aggregator"
            if not torch.equal(run(network, images), before):
                yield f"the output after an intervention ({strategy!r} of {name!r}) is not that before it"
    # Attentions that were not called are faults already, and no reason to skip.
    if not changing and len(recorded) == len(layer_of(network).attentions):
        raise InapplicableError("no strategy changes the attention, which is the same for every image and kernel")


def _recorded(network: nn.Sequential, images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the (B, N) weights of each attention before and after its aggregator, of those that were called."""
    recorded = {}
    for name in layer_of(network).attentions:
        with record_attention(network, name) as recorder:
            run(network, images)
        if "0" in recorder.branch:
            recorded[name] = (recorder.branch["0"], recorder.used["0"])
    return recorded


def check_temperature(subject: Subject) -> Iterator[str]:
    """Check that a temperature changes the output if `reads_temperature` is true, and only then."""
    network, images = subject.network(), subject.images
    layer = layer_of(network)
    outputs = []
    # A sharp softmax and one that is nearly uniform, far enough apart to show in any output.
    for temperature in (0.5, 30.0):
        layers = set_temperature(network, temperature)
        if layers != int(layer.reads_temperature):
            yield f"set_temperature sets the temperature of {layers} layers, expected {int(layer.reads_temperature)}"
        # Written although nothing is said to read it, which catches a layer that does.
        if not layer.reads_temperature and "temperature" in layer._buffers:
            layer.write_temperature(temperature)
        outputs.append(run(network, images))
    changes = difference(*outputs) > _SHOWN
    if layer.reads_temperature and not changes:
        yield "reads_temperature is true, and the output is the same at the temperatures 0.5 and 30"
    if not layer.reads_temperature and not changes and "temperature" in subject.takes:
        changes = _is_changed_by_argument(subject)
    if not layer.reads_temperature and changes:
        yield (
            "the output depends on the temperature, and reads_temperature is false: keep it in a buffer called "
            "'temperature', which schedules and interventions set"
        )


def _is_changed_by_argument(subject: Subject) -> bool:
    """Return True if the argument `temperature` of a class changes the output, as a plain number would."""
    try:
        networks = [subject.network(temperature=temperature) for temperature in (0.5, 30.0)]
    except ArgumentError:
        # A class may refuse a temperature that nothing would read.
        return False
    outputs = [run(network, subject.images) for network in networks]
    return difference(*outputs) > _SHOWN


def check_kernels(subject: Subject) -> Iterator[str]:
    """Check that `kernels()` gives what an initialiser fills: parts of the parameters, in the shape of static ones."""
    network = subject.network()
    before = run(network, subject.images)
    static, count = subject.geometry.static(), 0
    with torch.no_grad():
        for kernel, bias, channels in layer_of(network).kernels():
            count += 1
            if kernel.shape != static.weight[channels].shape:
                shapes = f"{tuple(kernel.shape)}, expected {tuple(static.weight[channels].shape)}"
                yield f"kernels() gives a kernel of shape {shapes}, that of its channels in a static layer"
            if bias is not None and (static.bias is None or bias.shape != static.bias[channels].shape):
                yield f"kernels() gives a bias of shape {tuple(bias.shape)}, which a static layer does not have"
            # A factor changes every kernel that is not zero, and so the output if this is a view.
            kernel.mul_(-2.0)
    if not count:
        raise InapplicableError("kernels() gives none")
    if not difference(run(network, subject.images), before) > _SHOWN:
        yield "the output does not change with what kernels() gives: yield views of the parameters, no copies"


def check_static_start(subject: Subject) -> Iterator[str]:
    """Check that a layer whose kernels are copies of a static one computes what that does (`start="static"`)."""
    static = subject.geometry.static()
    # Without noise, as only exact copies compute what the static layer does.
    fill = choose_start(nn.Sequential(static), "static", "auto", 0.0)
    try:
        layer = fill(subject.build(), static)
    except ConversionError as error:
        raise InapplicableError(str(error)) from error
    network = nn.Sequential(layer)
    # After the kernels are filled, as in a conversion.
    subject.layer.connect(network, {"0": layer})
    deviation = unlike(run(network, subject.images), run(static, subject.images), ROUNDING)
    if deviation:
        yield f"the output after begin_as_static {deviation} from the static layer that was copied"


def check_cost(subject: Subject) -> Iterator[str]:
    """Check that the cost is counted: whole numbers from zero by purpose, of one image whatever the batch."""
    network, images = subject.network(), subject.images
    counts = []
    for batch in (1, 2):
        inputs = images[:batch]
        counts.append(layer_of(network).multiply_adds(inputs, run(network, inputs)))
    if counts[0] != counts[1]:
        yield f"multiply_adds gives {counts[0]} for one image and {counts[1]} for two, expected those of one image"
    # None asks for the work to be traced, which `cost` does below.
    for purpose, count in (counts[0] or {}).items():
        if purpose not in PURPOSES:
            yield f"multiply_adds gives {purpose!r}, expected purposes among {', '.join(PURPOSES)}"
            return
        if not isinstance(count, int) or count < 0:
            yield f"multiply_adds gives {count!r} for {purpose}, expected a whole number from 0"
            return
    if cost(network, subject.size).multiply_adds < 1:
        yield "the layer costs no multiply-add: count them, or return None from multiply_adds to have them traced"
