"""This module, when imported, makes a process the server from which workers are forked; only `processes` uses it.

The server imports the modules that every node needs, once. Workers, also the successor of a dead one, then start in
milliseconds and share its memory. No computation has started in the server, so it has no threads that a fork would
lose; and it has not touched a GPU, so that each worker can.
"""

from __future__ import annotations

import signal

from runners.importing import without_collection
from runners.own_code import code_digest
from runners.processes import die_with_parent

# Ctrl-C, and a terminal that is closed, reach every process of the terminal; the launcher decides.
for _name in ("SIGINT", "SIGHUP"):
    if hasattr(signal, _name):
        signal.signal(getattr(signal, _name), signal.SIG_IGN)
# A launcher that ends leaves nothing behind, also while torch is still being imported.
die_with_parent()

with without_collection():
    from runners.workers import measure  # noqa: F401

# The digest (cached) of the code imported just now; files may change while workers live.
code_digest()
