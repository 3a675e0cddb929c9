"""No interval of a camera is recorded twice, whatever clocks, network and processes do; all are recorded."""

import random
from collections.abc import Callable

import pytest
from framegrid_ingest.kubernetes.membership import Membership, Timing
from framegrid_ingest.kubernetes.simulated import Installation, Pod
from framegrid_ingest.kubernetes.simulated_api import Conditions
from hypothesis import given, settings
from hypothesis import strategies as st

ROUGH = Conditions(
    call_s=(0.001, 0.4), watch_s=(0.001, 0.8), let_go_s=(0.01, 2.0), open_s=(0.1, 0.5), trouble=0.15
)
ACTIONS = ("add", "kill", "restart", "leave", "freeze", "thaw", "cut", "reconnect", "away", "back", "delete")
steps = st.lists(
    st.tuples(st.sampled_from(ACTIONS), st.integers(0, 7), st.floats(0.05, 9.0)), min_size=4, max_size=30
)
clocks = st.lists(st.tuples(st.floats(-12.0, 12.0), st.floats(0.7, 1.4)), min_size=8, max_size=8)


def play(
    world: Installation, actions: list[tuple[str, int, float]], clock: list[tuple[float, float]]
) -> None:
    def start(index: int) -> None:
        world.add(f"pod-{index}", *clock[index])

    for action, index, seconds in actions:
        pod = world.pods.get(f"pod-{index}")
        is_alive = pod is not None and not pod.is_dead and not pod.is_leaving
        if action == "add":
            if pod is None or pod.is_dead:
                start(index)
        elif action in ("away", "back"):
            world.is_away = action == "away"
        elif pod is not None and is_alive:
            simple: dict[str, Callable[[], None]] = {
                "kill": pod.kill,
                "leave": pod.leave,
                "freeze": pod.freeze,
                "thaw": pod.thaw,
                "cut": pod.cut_off,
                "reconnect": pod.reconnect,
            }
            if action == "restart":
                pod.kill()
                start(index)
            elif action == "delete":  # kubectl delete lease
                # Of the only member it would go unnoticed by one that is just starting.
                if sum(lease.is_member and bool(lease.pod) for lease in world.leases.values()) > 2:
                    world.delete(pod.member.name)
            else:
                simple[action]()
        world.run(seconds)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), steps, clocks)
def test_no_interval_is_recorded_by_two_processes(
    seed: int, actions: list[tuple[str, int, float]], clock: list[tuple[float, float]]
) -> None:
    world = Installation(12, seed, conditions=ROUGH)
    for index in range(3):
        world.add(f"pod-{index}", *clock[index])
    play(world, actions, clock)
    world.run(20.0)
    assert world.doubled() == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), steps, clocks)
def test_after_all_troubles_each_camera_has_exactly_one_owner(
    seed: int, actions: list[tuple[str, int, float]], clock: list[tuple[float, float]]
) -> None:
    world = Installation(12, seed)
    world.add("pod-0", *clock[0])
    play(world, actions, clock)
    world.is_away = False
    for pod in world.pods.values():
        if pod.is_frozen:
            pod.thaw()
        if pod.is_cut_off:
            pod.reconnect()
    world.run(5.0)
    if all(pod.is_dead or pod.is_leaving for pod in world.pods.values()):
        world.add("last")
    world.run(60.0)
    assert {camera: len(by) for camera, by in world.recorded_by.items()} == dict.fromkeys(world.cameras, 1)
    assert world.doubled() == []


def without_consent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Membership, "_blocks", lambda self, other: False)


def without_floor(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Membership, "_raise_floor", lambda self, unix_s: None)


def without_waiting_for_its_own_claim(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        Membership, "_stream", property(lambda self: 10**9, lambda self, value: None), raising=False
    )


def without_keeping_the_promise(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pod, "until_s", property(lambda self: 1e12, lambda self, value: None), raising=False)


@pytest.mark.parametrize(
    "without",
    [without_consent, without_floor, without_waiting_for_its_own_claim, without_keeping_the_promise],
)
def test_each_rule_is_needed(without: Callable[[pytest.MonkeyPatch], None]) -> None:
    def doubled(seed: int) -> bool:
        rng = random.Random(seed)
        clock = [(rng.uniform(-12, 12), rng.uniform(0.7, 1.4)) for _ in range(8)]
        actions = [
            (rng.choice(ACTIONS), rng.randrange(8), rng.uniform(0.05, 9)) for _ in range(rng.randrange(4, 30))
        ]
        world = Installation(12, seed, conditions=ROUGH)
        for index in range(3):
            world.add(f"pod-{index}", *clock[index])
        play(world, actions, clock)
        world.run(20.0)
        return bool(world.doubled())

    assert not any(doubled(seed) for seed in range(25))
    with pytest.MonkeyPatch.context() as patch:
        without(patch)
        assert any(doubled(seed) for seed in range(25))


def settled(pods: int, cameras: int = 120, seed: int = 1, timing: Timing | None = None) -> Installation:
    world = Installation(cameras, seed, timing)
    for number in range(pods):
        world.add(f"pod-{number}")
    world.run(15.0)
    assert {len(by) for by in world.recorded_by.values()} == {1}
    return world


def moved_after(world: Installation, change: Callable[[Pod], None], pod: str, seconds: float) -> set[str]:
    before = world.recorded_by
    change(world.pods[pod])
    world.run(seconds)
    after = world.recorded_by
    return {camera for camera in world.cameras if before[camera] != after[camera]}


@pytest.mark.parametrize("seed", range(20))
def test_a_killed_pods_cameras_run_elsewhere_within_ten_seconds(seed: int) -> None:
    world = settled(3, seed=seed)
    world.run(0.1 * seed)
    began_s = world.now_s
    lost = {camera for camera, by in world.recorded_by.items() if by == ["pod-1"]}
    assert moved_after(world, Pod.kill, "pod-1", 10.0) == lost
    assert max(world.shown[camera] for camera in lost) - began_s < 10.0
    assert world.doubled() == []


def test_a_pod_that_is_told_to_stop_hands_over_at_once() -> None:
    world = settled(3)
    began_s = world.now_s
    lost = {camera for camera, by in world.recorded_by.items() if by == ["pod-1"]}
    assert moved_after(world, Pod.leave, "pod-1", 5.0) == lost
    assert max(world.shown[camera] for camera in lost) - began_s < 5.0
    assert world.doubled() == []


def test_a_process_that_starts_again_in_its_pod_gets_its_cameras_back_without_waiting_for_the_lease() -> None:
    world = settled(3)
    lost = {camera for camera, by in world.recorded_by.items() if by == ["pod-1"]}
    began_s = world.now_s

    def restart(pod: Pod) -> None:
        pod.kill()
        world.run(1.0)
        world.add("pod-1")

    assert moved_after(world, restart, "pod-1", 9.0) == set()
    assert max(world.shown[camera] for camera in lost) - began_s < 8.0
    assert world.doubled() == []


def test_an_outage_of_the_api_server_moves_no_camera() -> None:
    world = settled(3)
    before = world.recorded_by
    spans = len(world.spans)
    world.is_away = True
    world.run(45.0)
    world.is_away = False
    world.run(15.0)
    assert world.recorded_by == before
    assert len(world.spans) == spans  # no stream was closed
    assert world.doubled() == []


def test_a_pod_that_is_cut_off_stops_recording_before_others_begin() -> None:
    world = settled(3)
    lost = {camera for camera, by in world.recorded_by.items() if by == ["pod-1"]}
    assert moved_after(world, Pod.cut_off, "pod-1", 10.0) == lost
    world.pods["pod-1"].reconnect()
    world.run(15.0)
    assert {len(by) for by in world.recorded_by.values()} == {1}
    assert {by[0] for by in world.recorded_by.values()} == {"pod-0", "pod-1", "pod-2"}
    assert world.doubled() == []


def test_pods_that_start_together_do_not_hand_cameras_around() -> None:
    world = settled(3)
    assert world.spans == []  # nobody took a camera and gave it away again


def test_adding_a_pod_moves_only_what_it_takes() -> None:
    world = settled(3)
    before = world.recorded_by
    world.add("pod-3")
    world.run(10.0)
    after = world.recorded_by
    moved = {camera for camera in world.cameras if before[camera] != after[camera]}
    assert {tuple(after[camera]) for camera in moved} == {("pod-3",)}
    assert 0.1 < len(moved) / len(world.cameras) < 0.4
    assert world.doubled() == []


def test_a_clock_that_is_wrong_by_an_hour_stops_no_camera_for_long() -> None:
    world = Installation(20, 3)
    world.add("good")
    world.add("wrong", offset_s=3600.0)
    world.run(15.0)
    world.pods["wrong"].kill()
    world.run(12.0)
    assert {tuple(by) for by in world.recorded_by.values()} == {("good",)}
    assert all(world.shown[camera] <= world.now_s for camera in world.cameras)


def test_ended_leases_are_cleared_away() -> None:
    world = settled(2)
    for number in range(5):
        pod = world.add(f"brief-{number}")
        world.run(4.0)
        pod.kill()
    world.run(150.0)
    assert len(world.leases) == 2
