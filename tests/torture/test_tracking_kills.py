"""SIGKILL of the launcher at every single call of MLflow's client: the next one, a new process, repeats nothing."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from runners.tracking import prepare_store
from tests.runners.bench import Bench
from tests.runners.tracking.test_tracking_crashes import MortalClient, Story, assert_whole, launch
from tests.torture.victims import call

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]


def _tell(store: str, folder: str, left: int, after: bool) -> None:
    MortalClient.die = lambda self: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
    tracker = launch(store, Path(folder), left, after=after)
    story: Any = Story(Bench(Path(folder) / "state"))
    for step in story.steps(lambda: tracker):
        step()


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_at_any_call_repeats_nothing_and_leaves_nothing_out(tmp_path: Path, after: bool) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    prepare_store(store)
    for left in itertools.count(1):
        folder = tmp_path / str(left)
        folder.mkdir()
        code = call(_tell, store, str(folder), left, after)
        assert code in (0, -signal.SIGKILL)
        if code:
            assert call(_tell, store, str(folder), 0, after) == 0
        assert_whole(store, folder, Story(Bench(folder / "state")))
        if not code:
            break
    assert left > 15, "the story has become short"
