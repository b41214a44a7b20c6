"""The choice of an algorithm: by shape alone, and the one that was measured to be fastest."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyconv.kernels.algorithms import _ALGORITHMS, Geometry, available_algorithms, choose


def chosen(channels: int, out: int, size: int, kernel: int = 1, **kw: int) -> str:
    """The name of the algorithm for a square map, padded to keep its size."""
    geometry = Geometry(
        batch=kw.get("batch", 64),
        num_kernels=kw.get("num_kernels", 4),
        in_channels=channels,
        out_channels=out,
        input_size=(size, size),
        kernel_size=(kernel, kernel),
        stride=(kw.get("stride", 1),) * 2,
        padding=(kernel // 2,) * 2,
        dilation=(1, 1),
        groups=kw.get("groups", 1),
    )
    algorithm = choose(geometry)
    return next(name for name, a in _ALGORITHMS.items() if a is algorithm)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((16, 7, 14), "product"),
        ((16, 8, 14), "tiled"),
        ((24, 144, 8), "tiled"),
        ((384, 64, 7), "tiled"),
        ((576, 160, 2), "tiled"),
        ((56, 336, 1), "mix_input"),
        ((112, 1280, 1), "mix_input"),
        ((336, 112, 1), "mix_output"),
        ((64, 64, 32, 3), "tiled"),
        ((128, 128, 16, 3), "tiled"),
        ((512, 512, 4, 3), "tiled"),
        ((64, 7, 32, 3), "each"),
        ((512, 7, 4, 3), "product"),
    ],
)
def test_the_fastest_measured_algorithm_is_chosen(shape: tuple[int, ...], expected: str) -> None:
    assert chosen(*shape) == expected


@pytest.mark.parametrize(("size", "kernel", "expected"), [(14, 3, "direct"), (4, 3, "direct"), (2, 3, "direct")])
def test_depthwise_layers_have_their_own_paths(size: int, kernel: int, expected: str) -> None:
    assert chosen(96, 96, size, kernel, groups=96) == expected


def test_an_accelerator_is_never_given_images_one_by_one() -> None:
    one = (1, 1)
    geometry = Geometry(64, 4, 64, 64, (32, 32), (3, 3), one, one, one, 1)
    assert choose(geometry) is _ALGORITHMS["tiled"]
    assert choose(geometry, on_cpu=False) is _ALGORITHMS["product"]


def test_one_kernel_or_one_image_is_a_plain_convolution() -> None:
    assert chosen(64, 64, 8, 3, num_kernels=1) == "plain"
    assert chosen(64, 64, 8, 3, batch=1) == "plain"


geometries = st.builds(
    lambda b, k, group_size, groups, size, kernel: Geometry(
        b, k, group_size * groups, group_size * groups, (size, size), (kernel, kernel), (1, 1), (1, 1), (1, 1), groups
    ),
    st.integers(0, 300),
    st.integers(1, 8),
    st.integers(1, 64),
    st.integers(1, 64),
    st.integers(3, 112),
    st.integers(1, 5),
)


@settings(deadline=None)
@given(geometry=geometries)
def test_every_shape_has_an_algorithm_with_a_finite_cost(geometry: Geometry) -> None:
    names = available_algorithms(geometry)
    assert {"mix_input", "mix_output"} <= set(names)
    assert all(0 <= _ALGORITHMS[name].cost(geometry) < float("inf") for name in names)
    assert choose(geometry) is choose(Geometry(*geometry))
