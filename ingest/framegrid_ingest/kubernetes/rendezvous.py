"""Which member owns which camera: rendezvous (highest random weight) hashing. Pure.

Every member computes the same answer from the same set of members, without asking anybody. A member that
joins takes its share from all others and nothing else moves; the cameras of one that leaves spread over the
rest. The weight depends on camera and pod alone, so a process that starts again in its pod gets the same
cameras. Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_ROWS = 4096  # cameras weighed at once: 200 pods make 6 MB of weights


class Member(NamedTuple):
    """One ingest process. `name` is its own for ever, `pod` may be that of a process before it."""

    name: str
    pod: str


def owners(cameras: Sequence[str], members: Iterable[Member]) -> list[Member]:
    """The owner of each camera. Raises ValueError when there is no member."""
    heads: dict[str, Member] = {}
    for member in members:  # two processes of one pod: the same one for everybody
        heads[member.pod] = max(member, heads.get(member.pod, member))
    if not heads:
        raise ValueError("expected at least one member, got none")
    ordered = [heads[pod] for pod in sorted(heads)]
    pods = np.array([_hash(member.pod) for member in ordered], np.uint64)
    names = np.array([_hash(name) for name in cameras], np.uint64)
    found: list[Member] = []
    for start in range(0, len(names), _ROWS):
        weights = _mixed(names[start : start + _ROWS, None] ^ pods[None, :])  # (cameras, pods)
        found += [ordered[index] for index in weights.argmax(axis=1)]
    return found


def owned_by(me: str, cameras: Sequence[str], members: Iterable[Member]) -> list[str]:
    """The cameras of the member named `me`, in the order of `cameras`."""
    return [
        camera for camera, owner in zip(cameras, owners(cameras, members), strict=True) if owner.name == me
    ]


@lru_cache(maxsize=65_536)
def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit depends on every bit."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = values ^ (values >> np.uint64(31))
    return mixed
