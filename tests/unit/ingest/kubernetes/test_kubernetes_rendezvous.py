"""Rendezvous hashing: minimal moves, agreement, balance."""

import random

import pytest
from framegrid_ingest.kubernetes.rendezvous import Member, owned_by, owners
from hypothesis import given, settings
from hypothesis import strategies as st

CAMERAS = [f"camera-{number}" for number in range(2000)]
pods = st.sets(st.from_regex(r"ingest-[a-z0-9]{5}", fullmatch=True), min_size=1, max_size=12)


def members(names: set[str]) -> list[Member]:
    return [Member(f"{name}-1", name) for name in sorted(names)]


@settings(max_examples=50, deadline=None)
@given(pods, st.randoms(use_true_random=False))
def test_all_agree_whatever_the_order_in_which_they_know_the_members(
    names: set[str], rng: random.Random
) -> None:
    known = members(names)
    shuffled = rng.sample(known, len(known))
    assert owners(CAMERAS[:300], known) == owners(CAMERAS[:300], shuffled)
    shares = [set(owned_by(member.name, CAMERAS[:300], shuffled)) for member in known]
    assert sorted(camera for share in shares for camera in share) == sorted(CAMERAS[:300])


@settings(max_examples=50, deadline=None)
@given(pods, st.from_regex(r"new-[a-z0-9]{5}", fullmatch=True))
def test_a_joiner_takes_its_share_and_nothing_else_moves(names: set[str], new: str) -> None:
    joiner = Member(f"{new}-1", new)
    before = owners(CAMERAS, members(names))
    after = owners(CAMERAS, [*members(names), joiner])
    moved = [now for then, now in zip(before, after, strict=True) if then != now]
    assert set(moved) <= {joiner}
    share = 1 / (len(names) + 1)
    sigma = (share * (1 - share) / len(CAMERAS)) ** 0.5
    assert len(moved) / len(CAMERAS) == pytest.approx(share, abs=5 * sigma)


@settings(max_examples=50, deadline=None)
@given(pods.filter(lambda names: len(names) > 1))
def test_only_the_cameras_of_one_that_leaves_move(names: set[str]) -> None:
    known = members(names)
    before, after = owners(CAMERAS, known), owners(CAMERAS, known[1:])
    for then, now in zip(before, after, strict=True):
        assert then == now or then == known[0]


def test_a_new_process_in_the_same_pod_has_the_same_cameras() -> None:
    first, second = Member("a-1", "a"), Member("a-2", "a")
    other = Member("b-1", "b")
    before, after = owned_by("a-1", CAMERAS, [first, other]), owned_by("a-2", CAMERAS, [second, other])
    assert before == after
    # While both are known, all agree on one of them.
    assert owned_by("a-1", CAMERAS, [first, second, other]) == []
    assert owned_by("a-2", CAMERAS, [second, other, first]) == after


def test_cameras_spread_as_evenly_as_chance_allows() -> None:
    names = [f"camera-{number}" for number in range(10_000)]
    known = members({f"ingest-{number}" for number in range(200)})
    counts = dict.fromkeys(known, 0)
    for owner in owners(names, known):
        counts[owner] += 1
    chi_squared = sum((n - 50) ** 2 / 50 for n in counts.values())
    assert 120 < chi_squared < 290  # 199 degrees of freedom: 99.99 % of fair hashes
    assert max(counts.values()) < 85


def test_nobody_owns_anything_without_members() -> None:
    with pytest.raises(ValueError, match="expected at least one member"):
        owners(CAMERAS, [])
