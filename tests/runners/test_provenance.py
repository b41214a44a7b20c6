"""What a result says of where it comes from."""

from __future__ import annotations

import torch

from dyconv.kernels import native
from runners.provenance import versions


def test_versions_tell_torch_and_which_kernels_computed() -> None:
    found = versions()
    assert torch.__version__.startswith(found["torch"])
    assert found["kernels"] == ("compiled" if native.available() else "torch's own")
