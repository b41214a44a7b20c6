"""Of two machines that share a store and no folder one trains, in every order of their calls, whatever clocks say."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import mlflow
import pytest

from ablations import vocabulary as names
from ablations.planning.nodes import TrialNode
from runners.provenance import Commit
from runners.sync.reservations import HeartbeatWatch, Reservation, Reservations, heartbeat
from runners.tracking import Tracker
from runners.tracking.sync_notes import folder_id
from tests.runners.bench import Bench
from tests.runners.fake_store import FakeClient, FakeStore

HOUR = 3_600_000


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Machine:
    """A launch with its own folder and its own clocks."""

    def __init__(self, folder: Path, store: FakeStore, monkeypatch: pytest.MonkeyPatch, wall: int = 0) -> None:
        self.clock, self.client = Clock(), FakeClient(store, lambda: wall)
        monkeypatch.setattr(mlflow, "MlflowClient", lambda tracking_uri: self.client)
        self.bench = Bench(folder / "state")
        self.node: TrialNode = self.bench.trial()
        self.state = self.bench.states[self.node.fingerprint]
        self.tracker = Tracker("http://nowhere", "e", folder, commit=Commit("c", False), preset="smoke")
        self.reservations = Reservations(self.tracker, HeartbeatWatch(90.0, self.clock), self.clock)

    def reserve(self) -> Reservation:
        """Reserves the node as a tracking worker does."""
        reservation = self.reservations.reserve(self.node, self.state, {})
        if reservation is Reservation.OURS:
            self.tracker.go_on(self.node, self.state, {})
        return reservation

    def beat(self) -> None:
        """Shows that it is alive."""
        own = self.tracker.unfinished(self.state)
        assert own is not None
        self.tracker.tag(own, heartbeat())


@pytest.fixture
def store() -> FakeStore:
    """An empty store."""
    return FakeStore()


@pytest.fixture
def machines(tmp_path: Path, store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> tuple[Machine, Machine]:
    """Two machines whose clocks are an hour apart."""
    return Machine(tmp_path / "a", store, monkeypatch), Machine(tmp_path / "b", store, monkeypatch, wall=-HOUR)


class Turns:
    """Lets threads make one call each when it is their turn.

    Args:
        order: Whose turn it is, call by call; afterwards all go on as they like.
    """

    def __init__(self, order: Sequence[int]) -> None:
        self._order, self._changed = list(order), threading.Condition()

    def wait(self, who: int) -> None:
        """Returns when it is the turn of `who`."""
        with self._changed:
            assert self._changed.wait_for(lambda: not self._order or self._order[0] == who, timeout=600)
            del self._order[:1]
            self._changed.notify_all()

    def leave(self, who: int) -> None:
        """Gives all further turns of `who` away."""
        with self._changed:
            self._order = [other for other in self._order if other != who]
            self._changed.notify_all()


def _reserve_in_order(machines: tuple[Machine, Machine], order: tuple[int, ...]) -> list[list[Reservation]]:
    turns = Turns(order)
    reservations: list[list[Reservation]] = [[], []]

    def work(who: int) -> None:
        machines[who].client.before = lambda name: turns.wait(who)
        for _ in range(3):
            reservations[who].append(machines[who].reserve())
            if reservations[who][-1] is not Reservation.PENDING:
                break
        turns.leave(who)

    threads = [threading.Thread(target=work, args=(who,)) for who in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
        assert not thread.is_alive()
    for machine in machines:
        machine.client.before = lambda name: None
    return reservations


_CALLS = {"nothing": 3, "a run that was ended": 4, "the reservation of a killed launch": 3}
"""What the first machine finds of its own, and how many calls a reservation takes then: look, open, look; or look, tag,
set the status, look; or look, tag, look. The second machine finds nothing of its own."""
_ORDERS = [
    (own, order)
    for own, calls in _CALLS.items()
    for order in sorted(set(itertools.permutations([0] * calls + [1] * _CALLS["nothing"])))
]


@pytest.mark.parametrize(("own", "order"), _ORDERS, ids=lambda value: value if isinstance(value, str) else "")
def test_in_every_order_of_calls_one_has_it_at_last_and_never_both(
    machines: tuple[Machine, Machine], store: FakeStore, own: str, order: tuple[int, ...]
) -> None:
    one, two = machines
    if own != "nothing":
        one.tracker.begin(one.node, one.state, {})
    if own == "a run that was ended":
        one.tracker.stop(one.state, "KILLED")
    elif own == "the reservation of a killed launch":
        assert two.reserve() is Reservation.ELSEWHERE
        two.clock.now += 91.0
    reservations = [told[-1] for told in _reserve_in_order(machines, order)]
    for _ in range(3):
        if Reservation.OURS not in reservations:
            reservations = [machine.reserve() for machine in machines]
    winner = reservations.index(Reservation.OURS)
    loser = machines[1 - winner]
    assert reservations[1 - winner] in (Reservation.ELSEWHERE, Reservation.PENDING)
    # One that waits for the other to withdraw gives up after some seconds; one that has withdrawn sees the other.
    loser.clock.now += 6.0
    assert loser.reserve() is Reservation.ELSEWHERE
    running = [run for run in store.runs.values() if run.info.status == "RUNNING" and not run.is_deleted]
    assert [run.data.tags[names.TAG_OWNER] for run in running] == [_place(machines[winner])]


def _place(machine: Machine) -> str:
    return machine.tracker.folder_id(machine.state)


def test_the_finished_run_of_another_machine_is_done(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    assert one.reserve() is Reservation.OURS
    assert two.reserve() is Reservation.ELSEWHERE
    own = one.tracker.unfinished(one.state)
    assert own is not None
    one.tracker.set_status(own, "FINISHED")
    assert two.reserve() is Reservation.DONE


def test_a_reservation_lives_as_long_as_its_heartbeat_changes(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    assert one.reserve() is Reservation.OURS
    for _ in range(20):
        assert two.reserve() is Reservation.ELSEWHERE
        two.clock.now += 60.0
        one.beat()
    assert two.reserve() is Reservation.ELSEWHERE
    two.clock.now += 89.0
    assert two.reserve() is Reservation.ELSEWHERE


def test_one_that_falls_silent_is_taken_over_and_not_left_running(
    machines: tuple[Machine, Machine], store: FakeStore
) -> None:
    one, two = machines
    assert one.reserve() is Reservation.OURS
    assert two.reserve() is Reservation.ELSEWHERE
    two.clock.now += 91.0
    assert two.reserve() is Reservation.OURS
    left = [run for run in store.runs.values() if run.data.tags[names.TAG_OWNER] == _place(one)]
    assert [run.info.status for run in left] == ["KILLED"]
    assert _place(two) in left[0].data.tags[names.TAG_NOTE]
    # It wakes up, and sees that it is too late.
    assert one.reserve() is Reservation.ELSEWHERE


def test_one_that_wakes_up_while_it_is_being_taken_over_is_not_killed(
    machines: tuple[Machine, Machine], store: FakeStore
) -> None:
    one, two = machines
    assert one.reserve() is Reservation.OURS
    assert two.reserve() is Reservation.ELSEWHERE
    two.clock.now += 91.0

    def wake_up(name: str) -> None:
        if name == "create_run":
            one.beat()

    two.client.before = wake_up
    reservation = two.reserve()
    two.clock.now += 6.0
    assert (reservation, two.reserve()) in (
        (Reservation.PENDING, Reservation.ELSEWHERE),
        (Reservation.ELSEWHERE, Reservation.ELSEWHERE),
    )
    running = [run for run in store.runs.values() if run.info.status == "RUNNING" and not run.is_deleted]
    assert [run.data.tags[names.TAG_OWNER] for run in running] == [_place(one)]


def test_silence_while_the_store_was_away_says_nothing(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    assert one.reserve() is Reservation.OURS
    assert two.reserve() is Reservation.ELSEWHERE
    two.clock.now += 1000.0
    two.reservations.watch.start_anew()
    assert two.reserve() is Reservation.ELSEWHERE
    two.clock.now += 91.0
    assert two.reserve() is Reservation.OURS


def test_a_launch_goes_on_with_the_reservation_that_a_killed_one_in_the_same_folder_left(
    machines: tuple[Machine, Machine], store: FakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = machines
    assert one.reserve() is Reservation.OURS
    again = Machine(tmp_path / "a", store, monkeypatch)
    assert again.reserve() is Reservation.OURS
    assert len(store.runs) == 1


def test_a_copy_of_the_folder_is_another_place(machines: tuple[Machine, Machine], tmp_path: Path) -> None:
    one, _ = machines
    place = _place(one)
    shutil.copytree(tmp_path / "a" / "state", tmp_path / "copy")
    assert folder_id(tmp_path / "copy") != place
    assert folder_id(tmp_path / "copy") == folder_id(tmp_path / "copy")
    assert folder_id(tmp_path / "a" / "state") == place


def test_a_run_that_was_deleted_meanwhile_is_reserved_anew(machines: tuple[Machine, Machine], store: FakeStore) -> None:
    one, _ = machines

    def delete(name: str) -> None:
        for run in store.runs.values():
            run.is_deleted = True

    one.client.before = delete
    assert one.reserve() is Reservation.PENDING
    one.client.before = lambda name: None
    assert one.reserve() is Reservation.OURS
