"""This module makes the compiled convolutions operators of torch, so that its dispatcher decides who computes them.

On the CPU these are the kernels in C, on CUDA devices the Triton programs of `cuda`.

An operator has a schema, an implementation for each device, one that knows shapes alone, a derivative, a rule for
`vmap`, a count of its operations, and a dtype under autocast. Tensors without memory on the CPU (fake ones, those of a
tracer, of a transform or of a subclass) reach one of these, and never the C code.

| operator | value |
| --- | --- |
| `dyconv::mixed_conv2d` | the convolution of images, each with its own mixture of K kernels by given attention |
| `dyconv::attended_conv2d` | the same by the attention of a branch, with what it attended by |
| `dyconv::depthwise_conv2d` | the depthwise convolution of images, each with kernels of its own |

Each has a second operator, `…_backward`, for its first derivative. The derivative of that is taken through operations
of torch, which can be differentiated any number of times. `stride`, `padding`, `dilation` and `groups` are those of
`F.conv2d`. Results are channels-last.

Dimensions: B images, C input and O output channels, H x W input and H' x W' output pixels, K kernels, T taps of a
kernel, U hidden units of the attention branch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.flop_counter import register_flop_formula

from dyconv.kernels import compiled, depthwise, native, panels, tiling
from dyconv.kernels.compiled import Branch, Computation
from dyconv.kernels.cuda import dense as cuda_dense
from dyconv.kernels.cuda import depthwise as cuda_depthwise
from dyconv.kernels.cuda import device
from dyconv.kernels.derivatives import gradients_by_torch
from dyconv.kernels.folding import Folding
from dyconv.kernels.geometry import Geometry, Pair
from dyconv.kernels.products import PatchGrid
from dyconv.kernels.taps import convolve_open_taps
from dyconv.kernels.tracing import remembered

_LIBRARY: Any = torch.library.Library("dyconv", "DEF")  # type: ignore[no-untyped-call]

Shape = Sequence[int]


@dataclass(frozen=True)
class Definition:
    """What an operator computes, and how.

    Functions take the operator's arguments, tensors first, unless it is said otherwise.

    Attributes:
        name: Its name in the namespace `dyconv`.
        schema: Its arguments, as `torch.library` reads them.
        tensors: The number of its tensors.
        computation: The computation by compiled kernels, from all arguments.
        compute: The outputs by a computation, of the tensors.
        differentiate: The gradients of the tensors by a computation: takes the gradient of the first output, the
            tensors, the outputs after the first, and whether each gradient is needed.
        by_torch: The outputs, by operations that torch can differentiate, compile and transform.
        shapes: The shapes of the outputs. Only the first output has a derivative, and is channels-last.
        reads: Whether the compiled kernels for this device compute an operation of these shapes.
        multiply_adds: Their number, from the shapes of the tensors and the other arguments.
    """

    name: str
    schema: str
    tensors: int
    computation: Callable[..., Any]
    compute: Callable[..., tuple[Tensor, ...]]
    differentiate: Callable[..., tuple[Tensor | None, ...]]
    by_torch: Callable[..., tuple[Tensor, ...]]
    shapes: Callable[..., tuple[Shape, ...]]
    reads: Callable[..., bool]
    multiply_adds: Callable[..., int]


class Operator:
    """An operator of torch, and the one that computes its derivative."""

    def __init__(self, definition: Definition, outputs: int) -> None:
        self.definition, self.outputs = definition, outputs
        name, schema = definition.name, definition.schema
        _define(name, schema, outputs)
        further = "".join(f", Tensor output_{number}" for number in range(1, outputs))
        backward_schema = f"Tensor grad, {schema}{further}, bool[{definition.tensors}] needed"
        _define(f"{name}_backward", backward_schema, definition.tensors)
        self.forward = getattr(torch.ops.dyconv, name).default
        self.backward = getattr(torch.ops.dyconv, f"{name}_backward").default
        self._function = _function_of(self)
        self._register()

    def _register(self) -> None:
        name = self.definition.name
        _implement(name, self._compiled, self._by_torch, self._with_derivative)
        _describe(self.forward, self._shapes, self._operations)
        backward = f"{name}_backward"
        _implement(backward, self._backward_compiled, self._backward_by_torch, self._backward_with_derivative)
        _describe(self.backward, self._backward_shapes, self._backward_operations)

    def __call__(self, computation: Any, *arguments: Any) -> Any:
        """Call the operator; with a `computation`, it is known that dispatch would come to the compiled kernels.

        Whoever knows saves the way through the dispatcher, which takes as long as a small layer. The caller must have
        asked `native.can_read`.
        """
        if computation is None:
            return self.forward(*arguments)
        if torch.is_grad_enabled():
            return self._function.apply(computation, *arguments)
        return _as_returned(self.definition.compute(computation, *arguments[: self.definition.tensors]))

    # What each key of the dispatcher calls. The operator itself:

    def _compiled(self, *arguments: Any) -> Any:
        tensors = arguments[: self.definition.tensors]
        if not self._is_compiled(tensors, arguments):
            return self._by_torch(*arguments)
        return _as_returned(self.definition.compute(self.definition.computation(*arguments), *tensors))

    def _by_torch(self, *arguments: Any) -> Any:
        return _as_returned(self.definition.by_torch(*arguments))

    def _with_derivative(self, *arguments: Any) -> Any:
        tensors = arguments[: self.definition.tensors]
        if _knows_torch_only(tensors):
            return self._by_torch(*arguments)
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            return self._function.apply(None, *arguments)
        with torch._C._AutoDispatchBelowAutograd():
            return self.forward(*arguments)

    def _shapes(self, *arguments: Any) -> Any:
        like = arguments[0]
        first, *others = self.definition.shapes(*arguments)
        output = torch.empty(first, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)
        return _as_returned((output, *(like.new_empty(shape) for shape in others)))

    def _operations(self, *arguments: Any, out_shape: Any = None, **unused: Any) -> int:
        return 2 * self.definition.multiply_adds(*arguments)

    # And its derivative:

    def _backward_compiled(self, grad: Tensor, *arguments: Any) -> Any:
        inputs, outputs, needed = self._parts(arguments)
        tensors = inputs[: self.definition.tensors]
        if not self._is_compiled((grad, *tensors), inputs):
            return self._backward_by_torch(grad, *arguments)
        computation = self.definition.computation(*inputs)
        gradients = self.definition.differentiate(computation, grad, *tensors, *outputs, needed)
        # Kernels and attention are differentiated together; what nobody needs is not returned, as the shapes say.
        wanted = [gradient if need else None for gradient, need in zip(gradients, needed, strict=True)]
        return _as_returned(tuple(_or_empty(gradient, grad) for gradient in wanted))

    def _backward_by_torch(self, grad: Tensor, *arguments: Any) -> Any:
        inputs, _, needed = self._parts(arguments)
        count = self.definition.tensors

        def first_output(*tensors: Tensor) -> Tensor:
            return self.definition.by_torch(*tensors, *inputs[count:])[0]

        gradients = gradients_by_torch(first_output, inputs[:count], grad, needed)
        return _as_returned(tuple(_or_empty(gradient, grad) for gradient in gradients))

    def _backward_with_derivative(self, grad: Tensor, *arguments: Any) -> Any:
        tensors = (grad, *arguments[: self.definition.tensors])
        # With gradients enabled, somebody will differentiate the derivative. Torch's own derivative needs autograd,
        # which is out of reach further down.
        if torch.is_grad_enabled() or _knows_torch_only(tensors) or not is_computed(*tensors):
            return self._backward_by_torch(grad, *arguments)
        if device.is_on_device(grad) and not self.definition.reads(*self._parts(arguments)[0]):
            return self._backward_by_torch(grad, *arguments)
        with torch._C._AutoDispatchBelowAutograd():
            return self.backward(grad, *arguments)

    def _backward_shapes(self, grad: Tensor, *arguments: Any) -> Any:
        inputs, _, needed = self._parts(arguments)
        tensors = inputs[: self.definition.tensors]
        results = []
        for number, (tensor, need) in enumerate(zip(tensors, needed, strict=True)):
            # Only images have a memory format of their own.
            memory_format = torch.contiguous_format if number else torch.channels_last
            result = grad.new_empty(0)
            if need:
                result = torch.empty_like(tensor, memory_format=memory_format)
            results.append(result)
        return _as_returned(tuple(results))

    def _backward_operations(self, grad: Any, *arguments: Any, out_shape: Any = None, **unused: Any) -> int:
        inputs, _, needed = self._parts(arguments)
        # One convolution more for the images, and one for the kernels.
        return 2 * self.definition.multiply_adds(*inputs) * (bool(needed[0]) + any(needed[1:]))

    def _parts(self, arguments: Sequence[Any]) -> tuple[list[Any], list[Any], list[bool]]:
        """Return what the operator was called with, its outputs after the first, and the gradients that are needed."""
        *rest, needed = arguments
        end = len(rest) - (self.outputs - 1)
        return rest[:end], rest[end:], needed

    def _is_compiled(self, tensors: Sequence[Tensor], arguments: Sequence[Any]) -> bool:
        """Return True if the compiled kernels compute this; dispatch made sure of tensors in memory."""
        if device.is_on_device(tensors[0]):
            return device.computes(*tensors) and self.definition.reads(*arguments)
        if not native.available():
            return False
        for tensor in tensors:
            if tensor.dtype is not torch.float32 or tensor.layout is not torch.strided:
                return False
        return self.definition.reads(*arguments)


def _define(name: str, schema: str, outputs: int) -> None:
    returns = "Tensor" if outputs == 1 else f"({', '.join(['Tensor'] * outputs)})"
    _LIBRARY.define(f"{name}({schema}) -> {returns}", tags=(torch.Tag.pt2_compliant_tag,))


def is_computed(*tensors: Tensor) -> bool:
    """Return True if there are compiled kernels for tensors of this dtype on this device.

    It asks for nothing that a tensor without memory could not say.
    """
    return native.computes(*tensors) or device.computes(*tensors)


def _implement(
    name: str, compiled: Callable[..., Any], by_torch: Callable[..., Any], recorded: Callable[..., Any]
) -> None:
    """Tell the dispatcher who computes an operator: on CPU and CUDA, on others, and where autograd records it."""
    _LIBRARY.impl(name, compiled, "CPU")
    _LIBRARY.impl(name, compiled, "CUDA")
    # A graph that holds the operator can be moved to another device.
    _LIBRARY.impl(name, by_torch, "CompositeExplicitAutograd")
    _LIBRARY.impl(name, recorded, "Autograd")


def _describe(operator: Any, shapes: Callable[..., Any], operations: Callable[..., int]) -> None:
    """Tell torch's compilers, transforms and counters about an operator."""
    torch.library.register_fake(operator.name(), shapes, lib=_LIBRARY)
    torch.library.register_vmap(operator.name(), partial(_one_by_one, operator), lib=_LIBRARY)
    # The compiled kernels compute in float32 alone; a layer under autocast does not call them.
    torch.library.register_autocast(operator.name(), "cpu", torch.float32, lib=_LIBRARY)
    register_flop_formula(operator.overloadpacket)(operations)


def _as_returned(results: tuple[Tensor, ...]) -> Any:
    """Return results as an operator does: one alone, and several as a tuple."""
    return results[0] if len(results) == 1 else results


def _or_empty(gradient: Tensor | None, like: Tensor) -> Tensor:
    # An operator returns tensors, so one without numbers stands for a gradient that is not needed.
    return like.new_empty(0) if gradient is None else gradient


def _function_of(operator: Operator) -> type[torch.autograd.Function]:
    """Return the function by which autograd records an operator."""
    count, outputs = operator.definition.tensors, operator.outputs

    class Recorded(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, computation: Any, *arguments: Any) -> Any:
            tensors = arguments[:count]
            if computation is None:
                with torch._C._AutoDispatchBelowAutograd():
                    results = operator.forward(*arguments)
            else:
                results = _as_returned(operator.definition.compute(computation, *tensors))
            further = () if outputs == 1 else results[1:]
            ctx.computation, ctx.others = computation, arguments[count:]
            ctx.save_for_backward(*tensors, *further)
            ctx.mark_non_differentiable(*further)
            ctx.set_materialize_grads(False)
            return results

        @staticmethod
        def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
            # Read once: hooks that pack saved tensors, as checkpointing does, unpack them at each reading.
            saved, grad, needed = ctx.saved_tensors, grads[0], list(ctx.needs_input_grad[1 : count + 1])
            tensors, further = saved[:count], saved[count:]
            gradients: Sequence[Tensor | None] = (None,) * count
            if grad is None:
                pass  # nobody used the output that has a derivative
            elif ctx.computation is not None and not torch.is_grad_enabled() and native.can_read(grad, *saved):
                gradients = operator.definition.differentiate(ctx.computation, grad, *tensors, *further, needed)
            else:
                gradients = operator.backward(grad, *tensors, *ctx.others, *further, needed)
            wanted = (gradient if need else None for gradient, need in zip(gradients, needed, strict=True))
            return (None, *wanted, *(None for _ in ctx.others))

    return Recorded


def _knows_torch_only(tensors: Sequence[Tensor]) -> bool:
    """Return True if a transform, a tracer or a subclass is at work that knows torch's own operations only."""
    if torch._C._are_functorch_transforms_active() or torch._C._is_tracing() or forward_ad._current_level >= 0:
        return True
    for tensor in tensors:
        kind = type(tensor)
        # Tensors of torch's own compiler have shapes alone, and ask the operator for them.
        if kind not in _PLAIN and not kind.__module__.startswith("torch._subclasses"):
            return True
    return False


_PLAIN = frozenset({Tensor, nn.Parameter})


def _one_by_one(operator: Any, info: Any, in_dims: Sequence[Any], *arguments: Any) -> tuple[Any, Any]:
    """Compute an operator for a batch of arguments, one after the other: the rule of `torch.vmap`."""
    results = []
    for number in range(info.batch_size):
        chosen = [
            argument.select(dim, number) if isinstance(dim, int) else argument
            for argument, dim in zip(arguments, in_dims, strict=True)
        ]
        results.append(operator(*chosen))
    if isinstance(results[0], Tensor):
        return torch.stack(results), 0
    stacked = tuple(torch.stack(parts) for parts in zip(*results, strict=True))
    return stacked, (0,) * len(stacked)


@remembered
def _computation(size: Shape, kernels: Shape, geometry: tuple[Pair, Pair, Pair, int], on_device: bool) -> Computation:
    """Return the computation of images (B, C, H, W) and kernels (K, O, C / groups, h, w) of these sizes."""
    return computation_of(_geometry(size, kernels, *geometry), on_device)


def _geometry(
    size: Shape,
    kernels: Shape,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Geometry:
    num_kernels, out_channels, per_group, h, w = kernels
    batch, _, height, width = size
    sizes = (height, width), (h, w), _pair(stride), _pair(padding), _pair(dilation)
    return Geometry(batch, num_kernels, per_group * groups, out_channels, *sizes, groups)


def _pair(numbers: Sequence[int]) -> Pair:
    """Return two numbers as a tuple; the dispatcher gives lists, which no cache can look up."""
    first, second = numbers
    return first, second


def _computation_of(input: Tensor, weight: Tensor, geometry: Sequence[Any]) -> Computation:
    stride, padding, dilation, groups = geometry
    steps = _pair(stride), _pair(padding), _pair(dilation), groups
    return _computation(input.shape, weight.shape, steps, device.is_on_device(input))


def _can_compute(input: Tensor, weight: Tensor, geometry: Sequence[Any]) -> bool:
    g = _geometry(input.shape, weight.shape, *geometry)
    if device.is_on_device(input):
        return cuda_dense.computes(g) or cuda_depthwise.computes(g)
    if g.batch < 1 or min(g.output_size) < 1 or g.num_kernels > native.MOST_KERNELS:
        return False
    if g.depthwise:
        return g.kernel_size[0] <= native.MOST_ROWS
    return g.groups == 1 and tiling.fits(g.in_channels, g.out_channels, g.num_kernels)


def _output_shape(input: Tensor, weight: Tensor, geometry: Sequence[Any]) -> Shape:
    g = _geometry(input.shape, weight.shape, *geometry)
    return g.batch, g.out_channels, *g.output_size


def _multiply_adds(images: Shape, kernels: Shape, geometry: Sequence[Any]) -> int:
    """Return the multiply-adds of the convolutions of a batch, and of mixing their kernels."""
    g = _geometry(images, kernels, *geometry)
    return g.batch * (g.multiply_adds + g.num_kernels * g.kernel_elements)


_GEOMETRY = "int[2] stride, int[2] padding, int[2] dilation, int groups"


def _mixed_by_torch(input: Tensor, weight: Tensor, attention: Tensor, *geometry: Any) -> tuple[Tensor]:
    output = _computation_of(input, weight, geometry).by_torch(input, weight, attention)
    return (output.contiguous(memory_format=torch.channels_last),)


_MIXED = Operator(
    Definition(
        "mixed_conv2d",
        f"Tensor input, Tensor weight, Tensor attention, {_GEOMETRY}",
        tensors=3,
        computation=lambda input, weight, attention, *geometry: _computation_of(input, weight, geometry),
        compute=compiled.output,
        differentiate=compiled.gradients,
        by_torch=_mixed_by_torch,
        shapes=lambda input, weight, attention, *geometry: (_output_shape(input, weight, geometry),),
        reads=lambda input, weight, attention, *geometry: _can_compute(input, weight, geometry),
        multiply_adds=lambda input, weight, attention, *geometry: _multiply_adds(input, weight, geometry),
    ),
    outputs=1,
)


def _attended_by_torch(input: Tensor, weight: Tensor, *branch_and_geometry: Any) -> tuple[Tensor, ...]:
    branch, geometry = branch_and_geometry[:5], branch_and_geometry[5:]
    results = compiled.attention_by_torch(input, branch)
    return *_mixed_by_torch(input, weight, results[2], *geometry), *results


def _attended_shapes(input: Tensor, weight: Tensor, squeeze: Tensor, *others: Any) -> tuple[Shape, ...]:
    batch, channels = input.shape[:2]
    output = _output_shape(input, weight, others[4:])
    return output, (batch, channels), (batch, squeeze.shape[0]), (batch, weight.shape[0])


def _attended_multiply_adds(input: Shape, weight: Shape, squeeze: Shape, *others: Any) -> int:
    of_branch: int = input[0] * (prod(squeeze) + prod(others[1]))
    return _multiply_adds(input, weight, others[4:]) + of_branch


_ATTENDED = Operator(
    Definition(
        "attended_conv2d",
        "Tensor input, Tensor weight, Tensor squeeze, Tensor squeeze_bias, Tensor excite, Tensor excite_bias, "
        f"Tensor temperature, {_GEOMETRY}",
        tensors=7,
        computation=lambda input, weight, *others: _computation_of(input, weight, others[5:9]),
        compute=compiled.attended_output,
        differentiate=compiled.attended_gradients,
        by_torch=_attended_by_torch,
        shapes=_attended_shapes,
        # Attention by itself is cheap on a CUDA device, and a part of no program there.
        reads=lambda input, weight, *others: (
            not device.is_on_device(input) and _can_compute(input, weight, others[5:9])
        ),
        multiply_adds=_attended_multiply_adds,
    ),
    outputs=4,
)


class _Each(NamedTuple):
    """A depthwise convolution with given kernels (B, T, C), and the size of the kernels."""

    direct: depthwise.Direct | cuda_depthwise.Depthwise
    kernel_size: Pair

    def output(self, input: Tensor, kernels: Tensor) -> tuple[Tensor]:
        if isinstance(self.direct, depthwise.Direct):
            return (depthwise.output(self.direct, input, kernels, self.kernel_size),)
        return (self.direct.each_output(input, kernels, self.kernel_size),)

    def gradients(self, *arguments: Any) -> tuple[Tensor | None, Tensor | None]:
        if isinstance(self.direct, depthwise.Direct):
            return depthwise.gradients(self.direct, self.kernel_size, *arguments)
        return self.direct.each_gradients(self.kernel_size, *arguments)


def _each_geometry(images: Shape, kernels: Shape, kernel_size: Sequence[int], geometry: Sequence[Any]) -> Geometry:
    channels = kernels[2]
    # As if all of one image's kernels were those of a layer.
    stride, padding, dilation = geometry
    return _geometry(images, (1, channels, 1, *kernel_size), stride, padding, dilation, channels)


def _each_computation(input: Tensor, kernels: Tensor, kernel_size: Sequence[int], *geometry: Any) -> _Each:
    g = _each_geometry(input.shape, kernels.shape, kernel_size, geometry)
    kind = cuda_depthwise.Depthwise if device.is_on_device(input) else depthwise.Direct
    return _Each(kind(Folding(g.stride, g.padding, g.dilation, g.groups, 1), g.output_size), g.kernel_size)


def _each_by_torch(input: Tensor, kernels: Tensor, kernel_size: Sequence[int], *geometry: Any) -> tuple[Tensor]:
    stride, padding, dilation = map(_pair, geometry)
    output = convolve_open_taps(input, kernels, _pair(kernel_size), stride, padding, dilation)
    return (output.contiguous(memory_format=torch.channels_last),)


def _each_reads(input: Tensor, kernels: Tensor, kernel_size: Sequence[int], *geometry: Any) -> bool:
    g = _each_geometry(input.shape, kernels.shape, kernel_size, geometry)
    if device.is_on_device(input):
        return cuda_dense.fits(g)
    return g.batch > 0 and min(g.output_size) > 0 and g.kernel_size[0] <= native.MOST_ROWS


def _each_shapes(input: Tensor, kernels: Tensor, kernel_size: Sequence[int], *geometry: Any) -> tuple[Shape]:
    g = _each_geometry(input.shape, kernels.shape, kernel_size, geometry)
    return ((g.batch, g.out_channels, *g.output_size),)


def _each_multiply_adds(input: Shape, kernels: Shape, kernel_size: Sequence[int], *geometry: Any) -> int:
    g = _each_geometry(input, kernels, kernel_size, geometry)
    return g.batch * g.multiply_adds


_EACH = Operator(
    Definition(
        "depthwise_conv2d",
        "Tensor input, Tensor kernels, int[2] kernel_size, int[2] stride, int[2] padding, int[2] dilation",
        tensors=2,
        computation=_each_computation,
        compute=_Each.output,
        differentiate=_Each.gradients,
        by_torch=_each_by_torch,
        shapes=_each_shapes,
        reads=_each_reads,
        multiply_adds=_each_multiply_adds,
    ),
    outputs=1,
)


def convolve_each(input: Tensor, kernels_BTC: Tensor, g: Geometry) -> Tensor:
    """Return the channels-last (B, C, H', W') convolution of images, each with its own kernels, tap by tap."""
    computation = None
    if native.can_read(input, kernels_BTC):
        computation = _each_computation(input, kernels_BTC, g.kernel_size, g.stride, g.padding, g.dilation)
    return _EACH(computation, input, kernels_BTC, g.kernel_size, g.stride, g.padding, g.dilation)  # type: ignore[no-any-return]


def computation_of(g: Geometry, on_device: bool = False) -> Computation:
    """Return the computation of a geometry by compiled kernels: in C, or on a CUDA device."""
    if g.depthwise:
        folding = Folding(g.stride, g.padding, g.dilation, g.groups, 1)
        return (cuda_depthwise.Depthwise if on_device else depthwise.Direct)(folding, g.output_size)
    grid = PatchGrid(g.kernel_size, g.stride, g.padding, g.dilation, g.output_size)
    if on_device:
        return cuda_dense.Tiles(grid)
    if g.kernel_size != (1, 1):
        return panels.Panels(grid)
    return tiling.Tiles(grid)


def convolve(input: Tensor, weight: Tensor, attention: Tensor, g: Geometry) -> Tensor:
    """Return the channels-last convolution of (B, C, H, W) images, each with its own mix of K kernels."""
    computation = computation_of(g) if native.can_read(input, weight, attention) else None
    return _MIXED(computation, input, weight, attention, g.stride, g.padding, g.dilation, g.groups)  # type: ignore[no-any-return]


def attend_and_convolve(input: Tensor, weight: Tensor, branch: Branch, g: Geometry, is_readable: bool) -> Tensor:
    """Return the channels-last convolution of images by the attention of a branch, softmax(z / temperature).

    The temperature has no gradient. `is_readable` says that `native.can_read` is true of all tensors.

    Source: Chen et al. 2020, section 3, figure 3.
    """
    computation = computation_of(g) if is_readable else None
    # A copy, as a trainer may set another temperature before the backward pass, which reads it again.
    temperature = branch.temperature.clone() if torch.is_grad_enabled() else branch.temperature
    return _ATTENDED(computation, input, weight, *branch[:4], temperature, g.stride, g.padding, g.dilation, g.groups)[0]  # type: ignore[no-any-return]
