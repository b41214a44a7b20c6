"""This module holds the aggregation strategies, which change attention weights, and their registry.

A strategy is a function of the (B, K) attention weights and a context that gives it randomness. Its result mixes the
kernels in place of the weights of the attention branch. All draws are functions of an explicit (seed, forward pass,
layer): nothing here reads or changes the global generator, and a draw can be repeated.

A strategy that does not use the attention ("average", "max") leaves the attention branch out of the computation: in
training its parameters get no gradient (None, so that neither weight decay nor momentum moves them) and
DistributedDataParallel needs `find_unused_parameters=True`.

Dimensions: B images, K kernels.

    @register_aggregation("sharpened")
    def sharpened(attention, context):
        return attention.square() / attention.square().sum(1, keepdim=True)
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dyconv.errors import AggregationError, ShapeError, unknown_name
from dyconv.randomness import derived_seed


class ForwardPass:
    """The number of the current forward pass, one object shared by all dynamic layers of a network.

    `make_dynamic` and `intervene` install a hook on the root of a network, which calls `begin` when a pass of the whole
    network starts. So a recomputed layer (gradient checkpointing) sees the number of its own pass.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.step = 0
        self.next_step = 0

    def begin(self) -> None:
        """Count the pass that starts."""
        # Two numbers, because `step` must stay the same until the next pass begins.
        self.step = self.next_step
        self.next_step += 1

    def set(self, step: int) -> None:
        """Make `step` the number of the next pass, and of the present one for layers without a root hook."""
        self.step = self.next_step = step


class BeginForwardPass:
    """Forward pre-hook for the root of a network that counts its forward passes. A class, to be copied and pickled.

    A compiler would make a new graph for each number, so a compiled pass is counted only if a strategy may draw.
    """

    def __init__(self, forward_pass: ForwardPass) -> None:
        self.forward_pass = forward_pass

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if not torch.compiler.is_compiling() or _needs_number(module):
            self.forward_pass.begin()


class AggregationContext:
    """The source of a strategy's randomness: (seed, forward pass, layer), each explicit.

    `sums_to_one` says whether the weights of an image always sum to one, as those of a softmax do.
    """

    def __init__(self, forward_pass: ForwardPass | None = None, layer: str = "", sums_to_one: bool = True) -> None:
        self.forward_pass = forward_pass or ForwardPass()
        self.layer = layer
        self.sums_to_one = sums_to_one

    def generator(self, *labels: str) -> torch.Generator:
        """Return a new CPU generator for these labels in this forward pass, the same for every layer.

        Raises:
            AggregationError: the network is being exported, which would draw once for all passes to come.
        """
        if _exporting():
            raise AggregationError("a random aggregation cannot be exported: export the network with 'attention'")
        seed = derived_seed(self.forward_pass.seed, self.forward_pass.step, *labels)
        return torch.Generator().manual_seed(seed)

    def layer_generator(self) -> torch.Generator:
        """Return a new CPU generator for this layer in this forward pass."""
        return self.generator("layer", self.layer)

    def derangement(self, batch: int) -> Tensor:
        """Return (B,) indices that send no image to itself, the same for every layer of this forward pass.

        One random cycle through the batch: each image's partner is uniform over the others.

        Raises:
            AggregationError: the batch has fewer than two images.
        """
        if batch < 2:
            raise AggregationError(
                f"a batch of {batch} has no other image to take attention from: evaluate with at least two images "
                "per batch (the last batch included)"
            )
        # Each image takes from the one before it in a random order: a single cycle has no fixed point.
        order = torch.randperm(batch, generator=self.generator("derangement"))
        partner = torch.empty_like(order)
        partner[order] = order.roll(1)
        return partner


def _exporting() -> bool:
    """Return True if `torch.export` is tracing; False with torch 2.6, which cannot tell."""
    # `bool` stands in for a missing function, because `bool()` is False.
    return bool(getattr(torch.compiler, "is_exporting", bool)())


Strategy = Callable[[Tensor, AggregationContext], Tensor]

_STRATEGIES: dict[str, Strategy] = {}
_VERSIONS: dict[str, str | int] = {}


def register_aggregation(name: str, *, version: str | int | None = None) -> Callable[[Strategy], Strategy]:
    """Return a decorator that makes a strategy available as `name`.

    The strategy takes (B, K) attention weights and an `AggregationContext` and returns (B, K) weights. Results belong
    to the strategy's code; with a `version` they belong to that instead, and it must change when a result would.

    Raises:
        AggregationError: `name` is taken.
    """

    def register(strategy: Strategy) -> Strategy:
        if name in _STRATEGIES:
            raise AggregationError(f"aggregation {name!r} is registered already: choose another name")
        _STRATEGIES[name] = strategy
        _VERSIONS.pop(name, None)
        if version is not None:
            _VERSIONS[name] = version
        return strategy

    return register


def get_aggregation(name: str) -> Strategy:
    """Return the strategy called `name`.

    Raises:
        AggregationError: there is none; the message names the nearest.
    """
    if name not in _STRATEGIES:
        raise AggregationError(unknown_name("aggregation", name, _STRATEGIES))
    return _STRATEGIES[name]


def aggregation_version(name: str) -> str | int | None:
    """Return the version that was given when `name` was registered, or None."""
    return _VERSIONS.get(name)


def available_aggregations() -> list[str]:
    """Return the names of all registered strategies, in the order of their registration."""
    return list(_STRATEGIES)


@register_aggregation("attention")
def keep_attention(attention: Tensor, context: AggregationContext) -> Tensor:
    """Return each image's own attention: the method itself."""
    return attention


@register_aggregation("average")
def average(attention: Tensor, context: AggregationContext) -> Tensor:
    """Return the mean of an image's weights for every kernel: no kernel is preferred.

    Where weights sum to one, that is 1 / K whatever the image, and the attention branch gets no gradient. It is then
    one row expanded over the batch (a stride of zero), from which a layer sees that an ordinary convolution does. Other
    weights (a sigmoid's) keep their sum, so that a network is not broken by kernels of another size.
    """
    if not context.sums_to_one:
        return attention.mean(1, keepdim=True).expand_as(attention)
    num_kernels = attention.shape[1]
    return attention.new_full((1, num_kernels), 1.0 / num_kernels).expand_as(attention)


@register_aggregation("max")
def maximum(attention: Tensor, context: AggregationContext) -> Tensor:
    """Return 1 for the kernel with the largest weight and 0 for the others. The attention branch gets no gradient."""
    return torch.zeros_like(attention).scatter(1, attention.argmax(1, keepdim=True), 1.0)


@register_aggregation("shuffle_per_image")
def shuffle_per_image(attention: Tensor, context: AggregationContext) -> Tensor:
    """Return each image's K weights in a random order of its own, drawn anew for each layer and forward pass."""
    # Drawn on the CPU, because generators of other devices give other numbers; float64 makes ties unlikely.
    order = torch.rand(attention.shape, generator=context.layer_generator(), dtype=torch.float64).argsort(1)
    return attention.gather(1, order.to(attention.device))


@register_aggregation("shuffle_across_images")
def shuffle_across_images(attention: Tensor, context: AggregationContext) -> Tensor:
    """Return the attention of another image x' of the batch, the same x' in every layer of a forward pass."""
    return attention[context.derangement(attention.shape[0]).to(attention.device)]


# All others, those of plug-ins included, may draw.
_WITHOUT_DRAWS = frozenset({"attention", "average", "max"})


class Aggregator(nn.Module):
    """Applies one strategy, chosen by name. It is a module, so that hooks see its input and output."""

    def __init__(self, name: str, *, sums_to_one: bool = True) -> None:
        super().__init__()
        get_aggregation(name)
        self.name = name
        self.sums_to_one = sums_to_one
        self.draw_from(ForwardPass(), "")

    def draw_from(self, forward_pass: ForwardPass, layer: str) -> None:
        """Let random strategies draw from a count of forward passes and the name of a layer."""
        self.context = AggregationContext(forward_pass, layer, self.sums_to_one)

    def forward(self, attention: Tensor) -> Tensor:
        """Return the (B, K) weights that mix the kernels, from the (B, K) weights of the attention branch.

        Raises:
            ShapeError: the strategy returned another shape.
        """
        # Looked up at each call, because `intervene` changes the name for a while.
        mixed = get_aggregation(self.name)(attention, self.context)
        if mixed.shape != attention.shape:
            raise ShapeError(
                f"aggregation {self.name!r} must return (B, K) = {tuple(attention.shape)}, got {tuple(mixed.shape)}"
            )
        return mixed

    def extra_repr(self) -> str:
        return repr(self.name)


def _needs_number(model: nn.Module) -> bool:
    """Return True if a strategy in `model` may draw, and so depends on the number of the forward pass."""
    return any(isinstance(m, Aggregator) and m.name not in _WITHOUT_DRAWS for m in model.modules())


def is_plain_attention(aggregator: nn.Module) -> bool:
    """Return True if `aggregator` returns the attention unchanged, by the strategy that is registered here."""
    if type(aggregator) is not Aggregator or aggregator.name != "attention":
        return False
    return _STRATEGIES["attention"] is keep_attention and Aggregator.forward is _AGGREGATE


def is_plain_average(aggregator: Aggregator) -> bool:
    """Return True if `aggregator` gives each kernel the same constant weight, by the strategy registered here."""
    return aggregator.name == "average" and aggregator.sums_to_one and _STRATEGIES["average"] is average


# Kept as it is on import, so that a patch of the class shows.
_AGGREGATE = Aggregator.forward
