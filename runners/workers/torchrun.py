"""torchrun, ending with the worker that started it; run by `runners.training.distributed`, not by hand."""

from __future__ import annotations

import sys

from torch.distributed.run import main

from runners.processes import die_with_parent

if __name__ == "__main__":
    die_with_parent()
    main(sys.argv[1:])
