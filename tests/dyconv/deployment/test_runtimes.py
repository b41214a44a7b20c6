"""Deployed networks are exported with open sizes, run in onnxruntime, and keep their accuracy as int8."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from dyconv import deployable
from tests.dyconv.deployment.deployed_networks import (
    accuracy,
    batches,
    network_of_all_kinds,
    stripes,
    trained_network,
)

OPEN_SIZES = ({0: Dim("batch"), 2: Dim("height", min=6), 3: Dim("width", min=6)},)
SHAPES = [(1, 13, 11), (3, 13, 11), (8, 16, 20)]
TOLERANCE = 2.0
"""The points of accuracy that int8 may lose."""

# Exporters and quantisers warn about themselves.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class Deployed:
    """A trained network, its deployed copy, and that copy exported with open sizes and written as ONNX."""

    def __init__(self, model: nn.Module, form: str, channels: int, folder: Path) -> None:
        self.model, self.copied = model, deployable(model, form)
        example = torch.randn(2, channels, 12, 12)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.exported: ExportedProgram = export(self.copied, (example,), dynamic_shapes=OPEN_SIZES)
            program = torch.onnx.export(
                self.exported,
                (example,),
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=OPEN_SIZES,
                dynamo=True,
                verbose=False,
            )
        assert program is not None
        self.path = folder / f"{form}.onnx"
        program.save(str(self.path))


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """A trained network in the form for runtimes and quantisers. An export takes seconds, so that tests share one."""
    return Deployed(trained_network(), "branches", 1, tmp_path_factory.mktemp("deployed"))


def in_onnxruntime(path: Path, images: Tensor) -> Tensor:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": images.numpy()})
    return torch.from_numpy(logits)


def assert_runs_at_any_size(deployed: Deployed, channels: int) -> None:
    """Compare the exported program and onnxruntime with the network itself at three batches and two sizes."""
    exported = deployed.exported.module()
    for batch, height, width in SHAPES:
        images = torch.randn(batch, channels, height, width) + torch.randn(batch, channels, 1, 1)
        with torch.no_grad():
            expected = deployed.model(images)
            torch.testing.assert_close(exported(images), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(in_onnxruntime(deployed.path, images), expected, rtol=1e-4, atol=1e-5)


def test_a_network_runs_in_onnxruntime_at_any_batch_and_size(deployed: Deployed) -> None:
    assert_runs_at_any_size(deployed, 1)
    operators = {node.op_type for node in onnx.load(deployed.path).graph.node}
    assert "Conv" in operators
    assert not operators & {"If", "Loop", "Scan"}


# Every kind and geometry in one network: exporting it takes a minute.
@pytest.mark.torture
@pytest.mark.parametrize("form", ["branches", "matmul"])
def test_all_kinds_run_in_onnxruntime_at_any_batch_and_size(form: str, tmp_path: Path) -> None:
    assert_runs_at_any_size(Deployed(network_of_all_kinds(), form, 2, tmp_path), 2)


@pytest.mark.parametrize("form", ["branches", "matmul"])
def test_all_kinds_are_exported_with_an_open_batch(form: str) -> None:
    model = network_of_all_kinds()
    example = torch.randn(2, 2, 13, 11)
    exported = export(deployable(model, form), (example,), dynamic_shapes=({0: Dim("batch")},)).module()
    for batch in (1, 5):
        images = torch.randn(batch, 2, 13, 11)
        with torch.no_grad():
            torch.testing.assert_close(exported(images), model(images), rtol=1e-4, atol=1e-5)


class Calibration(CalibrationDataReader):
    """Images that the ranges of activations are read off; the training has not seen them."""

    def __init__(self) -> None:
        self.batches: Iterator[Tensor] = batches(6)

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        images = next(self.batches, None)
        return None if images is None else {"images": images.numpy()}


def test_int8_in_onnxruntime_keeps_the_accuracy(deployed: Deployed, tmp_path: Path) -> None:
    prepared, quantised = tmp_path / "prepared.onnx", tmp_path / "int8.onnx"
    quant_pre_process(str(deployed.path), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(quantised),
        Calibration(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    images, labels = stripes(500, seed=999)
    before, after = in_onnxruntime(deployed.path, images), in_onnxruntime(quantised, images)
    assert accuracy(before, labels) > 95
    assert accuracy(after, labels) > accuracy(before, labels) - TOLERANCE
    # Rounded, and all kernels of all layers: no weight of a convolution is left in float32.
    assert not torch.allclose(after, before, rtol=1e-4, atol=1e-4)
    graph = onnx.load(quantised).graph
    floats = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    assert all(np.prod(tensor.dims) <= 64 for tensor in floats), "scales alone"
    kernels = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    stored = sum(int(np.prod(tensor.dims)) for tensor in kernels if len(tensor.dims) == 4)
    # The first convolution is static; three dynamic ones have three kernels each.
    assert stored == 8 * 9 + 3 * (8 * 9 + 16 * 8 + 16 * 16 * 9)


@pytest.mark.torture
def test_int8_by_torchao_keeps_the_accuracy() -> None:
    """Its passes take two minutes on a slow core."""
    # Part of the extra `deploy`, which the quick tests do without.
    from torchao.quantization.pt2e import quantize_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    copied = deployable(trained_network())
    exported = export(copied, (torch.randn(2, 1, 12, 12),), dynamic_shapes=({0: Dim("batch")},)).module()
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    images, labels = stripes(500, seed=999)
    with torch.no_grad():
        prepared = quantize_pt2e.prepare_pt2e(exported, quantizer)
        for batch in batches(6):
            prepared(batch)
        quantised = quantize_pt2e.convert_pt2e(prepared)
        assert accuracy(quantised(images), labels) > accuracy(copied(images), labels) - TOLERANCE
        assert not torch.allclose(quantised(images), copied(images), rtol=1e-4, atol=1e-4)
    assert any(str(node.target).startswith("quantized_decomposed.dequantize") for node in quantised.graph.nodes)
