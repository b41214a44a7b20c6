"""`intervene` changes a trained network for an evaluation, and restores it afterwards.

An intervention is for evaluation only: another aggregation or temperature at some of the dynamic layers. It never
touches weights. All that it changes is restored when the context ends, also by an error.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from dyconv.aggregation import BeginForwardPass, ForwardPass, get_aggregation
from dyconv.base import DynamicLayer, checked_temperature, dynamic_layers
from dyconv.errors import ArgumentError, ConversionError, unknown_name
from dyconv.networks.description import LayerInfo, describe_layers
from dyconv.networks.placement import Placement, select_layers


@contextmanager
def intervene(
    model: nn.Module,
    aggregation: str | None = None,
    where: Placement | Mapping[str, Any] | None = None,
    temperature: float | None = None,
    seed: int = 0,
    input_size: tuple[int, int, int] | None = None,
    *,
    attention: str | None = None,
) -> Iterator[list[LayerInfo]]:
    """Use another `aggregation` or `temperature` at the dynamic layers that `where` selects, inside the context.

    Yields the descriptions of those layers. In layers with several attentions, `attention` names the one whose
    aggregation changes ("spatial", "channel", …); None changes all of them. `where` None selects all dynamic layers; a
    placement by resolution needs `input_size` (C, H, W). A temperature is set only at layers whose attention reads one,
    which read it. Random strategies draw from `seed` and the number of the forward pass, counted from 0 within the
    context. Interventions can be nested. On exit, and on error, aggregation, temperature and the network's own count of
    forward passes are restored.

    Raises:
        ConversionError: the network has no dynamic layer.
        PlacementError: `where` is malformed or means none of the dynamic layers; the message lists them.
        ArgumentError, AggregationError: nothing to change, a value that cannot work, a temperature that none of
            those layers reads, or an attention that none of them has.
    """
    if aggregation is None and temperature is None:
        raise ArgumentError("an intervention needs an aggregation or a temperature to change, got neither")
    if aggregation is not None:
        get_aggregation(aggregation)
    # All checks come before the first change.
    if temperature is not None:
        temperature = checked_temperature(temperature)
    layers = dict(dynamic_layers(model))
    if not layers:
        raise ConversionError("this network has no dynamic layer to intervene at: convert it with make_dynamic first")
    infos = [info for info in describe_layers(model, input_size) if info.dynamic]
    if where is None:
        where = {}
    selected = select_layers(infos, where)
    if temperature is not None and not any(layers[info.name].reads_temperature for info in selected):
        raise ArgumentError(
            f"none of the {len(selected)} layers that are meant reads a temperature (softmax and tempered sigmoid do): "
            "leave temperature out"
        )
    if attention is not None:
        _check_attention(attention, aggregation, [layers[info.name] for info in selected])
    # A count of its own: the same intervention draws the same, however often the network ran before.
    forward_pass = ForwardPass(seed)
    with ExitStack() as stack:
        stack.callback(model.register_forward_pre_hook(BeginForwardPass(forward_pass)).remove)
        # Every layer, not just the selected ones: the network's own hook goes on counting passes meanwhile.
        for layer in layers.values():
            stack.enter_context(_restored(layer))
        for info in selected:
            layer = layers[info.name]
            if aggregation is not None:
                _aggregate(layer, aggregation, attention, forward_pass, info.name)
            if temperature is not None and layer.reads_temperature:
                layer.write_temperature(temperature)
        yield selected


def _check_attention(attention: str, aggregation: str | None, layers: list[DynamicLayer]) -> None:
    """Raise ArgumentError if none of the layers has this attention, or nothing is to change about it."""
    if aggregation is None:
        raise ArgumentError(f"attention={attention!r} says which aggregation is changed, and no aggregation is given")
    available = dict.fromkeys(name for layer in layers for name in layer.attentions)
    if attention not in available:
        raise ArgumentError(unknown_name("attention of the layers that are meant", attention, available))


def _aggregate(
    layer: DynamicLayer, aggregation: str, attention: str | None, forward_pass: ForwardPass, name: str
) -> None:
    """Use another strategy for one attention of a layer, or for all of them."""
    for own, aggregator in layer.aggregators.items():
        if attention in (None, own):
            aggregator.name = aggregation
            layer.draw_attention_from(own, forward_pass, name)


@contextmanager
def _restored(layer: DynamicLayer) -> Iterator[None]:
    """Restore at the end all that an intervention may change in `layer`, and the count of passes it draws from."""
    temperature = float(layer.temperature) if layer.reads_temperature else None
    before = [(aggregator, aggregator.name, aggregator.context) for aggregator in layer.aggregators.values()]
    forward_pass = layer.aggregator.context.forward_pass
    step, next_step = forward_pass.step, forward_pass.next_step
    try:
        yield
    finally:
        for aggregator, name, context in before:
            aggregator.name, aggregator.context = name, context
        forward_pass.step, forward_pass.next_step = step, next_step
        if temperature is not None:
            layer.write_temperature(temperature)
