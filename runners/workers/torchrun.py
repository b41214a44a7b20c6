"""This script is torchrun, but ends with the worker that started it; `runners.training.distributed` runs it."""

from __future__ import annotations

import sys

from torch.distributed.run import main

from runners.processes import die_with_parent

if __name__ == "__main__":
    # Otherwise a killed worker would leave its processes, and their memory on the GPUs, behind.
    die_with_parent()
    main(sys.argv[1:])
