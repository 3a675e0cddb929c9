"""Tiny networks and pictures, made here, so that no test needs weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from framegrid_serve.bundle import Bundle
from people.api import SIZE, People, one_person, write_bundle

MakeBundle = Callable[..., Bundle]


@pytest.fixture
def jpeg() -> Callable[[int, int], bytes]:
    """JPEG of a smooth picture of a given height and width."""

    def make(height: int, width: int) -> bytes:
        rows, columns = np.indices((height, width))
        planes = [rows * 255 // max(1, height), columns * 255 // max(1, width), (rows + columns) % 256]
        return simplejpeg.encode_jpeg(
            np.stack(planes, axis=-1).astype(np.uint8), quality=90, colorspace="BGR"
        )

    return make


@pytest.fixture
def make_bundle(tmp_path: Path) -> MakeBundle:
    """A bundle around a constant network: `output` is what the network answers."""

    def make(output: np.ndarray, *, size: int = 64, **changes: object) -> Bundle:
        return write_bundle(tmp_path / str(changes.get("name", "tiny")), output, size=size, **changes)

    return make


@pytest.fixture
def make_people(make_bundle: MakeBundle) -> Iterator[Callable[..., People]]:
    """A replica's HTTP side with the API for people, around a network that sees one person."""
    made: list[People] = []

    def make(output: np.ndarray | None = None, **settings: Any) -> People:
        made.append(People(make_bundle(one_person() if output is None else output, size=SIZE), **settings))
        return made[-1]

    yield make
    for people in made:
        people.close()
