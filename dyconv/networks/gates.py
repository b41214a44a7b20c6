"""This module finds channel gates (squeeze-and-excitation) by their behaviour: pool, pointwise layers, product.

It runs a module by itself on a small map and follows each layer's output from operation to operation. A layer belongs
to a gate if it reads one position per image and its output comes to scale the channels of a whole map. Names of classes
and attributes do not count. Used by `roles` only.

Source: Hu et al. 2018, Squeeze-and-Excitation Networks, section 3.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from dyconv.layers import Convolution, ConvolutionLayer
from dyconv.layers.convolution import BlockHook

_PIXELS = 8
"""Height and width of the map on which a part of a network is run."""
_WHOLE_NETWORK = (64, 224)
"""The same for a whole network, which may be made for images of one size only."""
_MAY_WRAP = (nn.Conv1d, nn.Conv2d, nn.Linear)
_PRODUCTS = ("aten::mul", "aten::mul_")


def gate_layers(model: nn.Module, layers: Mapping[str, Convolution]) -> set[str]:
    """Return the names of those of `layers`, the convolutions of `model`, that are part of a channel gate.

    The smallest module that shows the behaviour of a layer decides: its parent, or one further up if the parent cannot
    run by itself or does not hold the product. The network stays as it was, and no foreign hook is called.
    """
    candidates = {name for name, layer in layers.items() if _is_one_by_one(layer)}
    modules = dict(model.named_modules())
    names = {id(module): name for name, module in modules.items() if name in layers}
    gates: set[str] = set()
    for owner in _innermost_first(candidates):
        inside = {name for name in candidates if _is_inside(name, owner)}
        if not inside:
            continue
        only_pointwise = not any(
            isinstance(child, Convolution) and not _is_one_by_one(child) for child in modules[owner].modules()
        )
        # Most modules of a network are chains, whose result is known without the run, which takes long.
        chain = _chain(modules[owner])
        if chain is not None and not only_pointwise and _reads_maps_only(chain):
            candidates -= inside
            continue
        if all(_is_in_a_chain(name, owner, modules) for name in inside):
            continue
        observed = _observe(modules[owner], names, is_whole=not owner)
        gates |= inside & observed.scaling
        # The modules around a gate that was found need not run for it.
        candidates -= observed.scaling
        # Pointwise layers alone may be the inside of a gate whose pool is further up: they say nothing by themselves.
        if not only_pointwise:
            candidates -= observed.on_maps
    return gates


def _is_one_by_one(layer: Convolution) -> bool:
    """Return True if a gate could contain the layer: it is 1 x 1."""
    return tuple(layer.kernel_size) == (1, 1)


def _innermost_first(names: set[str]) -> list[str]:
    """Return the names of all modules around the layers, the deepest first; "" is the whole network."""
    owners = set()
    for name in names:
        owner = name
        while owner:
            owner = owner.rpartition(".")[0]
            owners.add(owner)
    # By name within a depth, as the order of a set differs between processes; the whole network comes last.
    return sorted(owners, key=lambda owner: (-owner.count(".") if owner else 1, owner))


def _is_inside(name: str, owner: str) -> bool:
    return name.startswith(f"{owner}.") if owner else bool(name)


def _chain(module: nn.Module) -> list[nn.Module] | None:
    """Return the layers of a module that does no more than hand its input from layer to layer; None if it does more.

    No chain of torch's own layers and of dynamic layers scales a map by one of its layers: that takes two branches.
    """
    if "forward" in vars(module):
        return None
    if type(module).forward is not nn.Sequential.forward:
        is_of_torch = type(module).__module__.startswith("torch.nn.modules.") and not any(module.children())
        return [module] if is_of_torch or isinstance(module, ConvolutionLayer) else None
    layers: list[nn.Module] = []
    # Not the children, among which a layer that is used twice is named once.
    for part in cast(nn.Sequential, module):
        links = _chain(part)
        if links is None:
            return None
        layers += links
    return layers


_OF_THE_SAME_SIZE = (nn.BatchNorm2d, nn.Dropout, nn.Hardswish, nn.Identity, nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.SiLU)


def _reads_maps_only(chain: list[nn.Module]) -> bool:
    """Return True if each convolution of a chain surely reads a whole map, given one of `_PIXELS`."""
    size: tuple[int, ...] = (_PIXELS, _PIXELS)
    for layer in chain:
        if isinstance(layer, Convolution):
            if isinstance(layer.padding, str):
                return False
            sides = zip(size, layer.kernel_size, layer.stride, layer.padding, layer.dilation, strict=True)
            size = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sides)
            # What stands behind a map of one position, or of none, is left to the run.
            if min(size) < 2:
                return False
        elif type(layer) not in _OF_THE_SAME_SIZE:
            return False
    return True


def _is_in_a_chain(name: str, owner: str, modules: Mapping[str, nn.Module]) -> bool:
    """Return True if `owner` hands its input from part to part, and a layer stands in a part that is a chain.

    Then the run of `owner` cannot show a gate with this layer, as all that comes later comes from the layer's output.
    """
    module = modules[owner]
    if type(module).forward is not nn.Sequential.forward or "forward" in vars(module):
        return False
    part = name.removeprefix(f"{owner}.").partition(".")[0]
    return _chain(module.get_submodule(part)) is not None


class _Observed:
    """The results of a run: layers that scaled a map, and layers that read a whole map."""

    def __init__(self) -> None:
        self.scaling: set[str] = set()
        self.on_maps: set[str] = set()


def _observe(module: nn.Module, names: Mapping[int, str], *, is_whole: bool) -> _Observed:
    """Run a module by itself on zeros and return the layers that scaled a map or read one."""
    first = next((m for m in module.modules() if isinstance(m, (*_MAY_WRAP, ConvolutionLayer))), None)
    if first is None:
        return _Observed()
    channels = first.in_features if isinstance(first, nn.Linear) else first.in_channels
    if isinstance(first, nn.Conv1d):  # works along the channels, and says nothing of how many there are
        channels = next((m.in_channels for m in module.modules() if isinstance(m, Convolution)), channels)
    like = next(module.parameters())
    for pixels in _WHOLE_NETWORK if is_whole else (_PIXELS,):
        images = torch.zeros(1, channels, pixels, pixels, device=like.device, dtype=like.dtype)
        flow = _Flow()
        try:
            with _by_itself(module), _followed(module, names, flow), flow:
                module(images)
        except Exception:
            # A whole network may need the larger size; else what was observed up to the failure counts.
            if is_whole and pixels != _WHOLE_NETWORK[-1]:
                continue
        return flow.observed
    return _Observed()


class _Flow(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tracks from which layers each tensor with one position per image comes, since the map was pooled."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.observed = _Observed()
        self._sources: dict[int, frozenset[str]] = {}
        self._alive: list[Tensor] = []  # so that no two tensors have the same id

    def sources(self, tensor: Any) -> frozenset[str]:
        return self._sources.get(id(tensor), frozenset())

    def set(self, tensor: Tensor, sources: frozenset[str]) -> None:
        self._sources[id(tensor)] = sources
        self._alive.append(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = list(_tensors(args))
        if kwargs:
            inputs += _tensors(kwargs.values())
        if func._schema.name in _PRODUCTS and len(inputs) == 2:
            self._record_product(*inputs)
        # The result of an operation comes from all that its inputs come from, until it is a map.
        sources = frozenset[str]().union(*(self.sources(tensor) for tensor in inputs))
        for output in _tensors((result,)):
            self.set(output, frozenset() if _is_map(output) else sources)
        return result

    def _record_product(self, first: Tensor, second: Tensor) -> None:
        for image, scale in ((first, second), (second, first)):
            sources = self.sources(scale)
            if sources and _is_map(image) and _scales_channels(scale, image):
                self.observed.scaling |= sources


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Yield the tensors among the arguments or results of an operation, which come alone or in lists."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _is_map(tensor: Tensor) -> bool:
    """Return True if (B, C, H, W) holds more than one position per image; an expanded position counts as one."""
    if tensor.dim() != 4:
        return False
    return any(size > 1 and stride for size, stride in zip(tensor.shape[2:], tensor.stride()[2:], strict=True))


def _scales_channels(scale: Tensor, image: Tensor) -> bool:
    """Return True if `scale` is one number per channel of each image, expanded over the map or not."""
    if scale.dim() != 4 or scale.shape[:2] != image.shape[:2] or image.shape[1] < 2:
        return False
    return all(size == 1 or stride == 0 for size, stride in zip(scale.shape[2:], scale.stride()[2:], strict=True))


@contextmanager
def _followed(module: nn.Module, names: Mapping[int, str], flow: _Flow) -> Iterator[None]:
    """Record inside the context what each layer reads, and mark its output as coming from it."""

    def watch(layer: nn.Module) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            name = names.get(id(layer), "")
            if not args or not isinstance(args[0], Tensor) or not isinstance(output, Tensor):
                return
            if _is_map(args[0]):
                flow.observed.on_maps.add(name)
            elif not _is_map(output):
                flow.set(output, flow.sources(args[0]) | {name})

        return hook

    with ExitStack() as stack:
        for child in module.modules():
            if id(child) in names:
                stack.callback(child.register_forward_hook(watch(child)).remove)
        yield


_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


@contextmanager
def _by_itself(module: nn.Module) -> Iterator[None]:
    """Put `module` into evaluation mode without gradient or foreign hooks inside the context; restore it at the end."""
    modules = list(module.modules())
    before = [(child, child.training, {name: getattr(child, name) for name in _HOOKS}) for child in modules]
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        for child, training, hooks in before:
            # Only what changes: setting an attribute of a module takes longer than some layers.
            if training:
                child.training = False
            for name, table in hooks.items():
                if table:
                    own = {key: hook for key, hook in table.items() if isinstance(hook, BlockHook)}
                    setattr(child, name, type(table)(own))
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        for child, training, hooks in before:
            if training:
                child.training = True
            for name, table in hooks.items():
                if table:
                    setattr(child, name, table)
        with torch.no_grad():
            for buffer, value in buffers:
                # Only what changed, because each write raises a buffer's version, which `lineage` reads.
                if buffer.device.type != "meta" and not torch.equal(buffer, value):
                    buffer.copy_(value)
