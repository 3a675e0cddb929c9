"""The models of serve while they change: replicas that know different things at the same time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from framegrid_ingest.catalog import Catalog, ModelFacts

OLD = {"name": "gate", "version": "1", "digest": "a" * 64, "classes": ["person", "car"], "input_size": 640}
NEW = {**OLD, "version": "2", "digest": "b" * 64, "classes": ["goat standing", "goat lying", "person"]}


class Replicas:
    """Answers like serve behind a balancer: `answers` one after another, then the last for ever."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def fetch(self) -> bytes:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return json.dumps({"models": [answer]}).encode()


def run(replicas: Replicas, ask: Callable[[Catalog], Any]) -> tuple[Any, list[ModelFacts]]:
    seen: list[ModelFacts] = []

    async def session() -> Any:
        catalog = Catalog(replicas.fetch, seen.append)
        keeper = asyncio.create_task(catalog.run())
        try:
            return await ask(catalog)
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    return asyncio.run(session()), seen


def test_an_answer_of_a_new_model_is_read_with_the_new_classes() -> None:
    """Replicas change one after another: four lists in a row come from one that has not yet."""
    replicas = Replicas(OLD, OLD, OLD, OLD, NEW)

    async def ask(catalog: Catalog) -> Any:
        await catalog.refresh()
        old = await catalog.of_answer("gate", "1", "a" * 64, 1.0)
        new = await catalog.of_answer("gate", "2", "b" * 64, 5.0)
        return old, new, catalog.get("gate")

    (old, new, now), seen = run(replicas, ask)
    assert old.classes == ("person", "car")  # of an answer that was on its way meanwhile
    assert new.classes == now.classes == ("goat standing", "goat lying", "person")
    assert [facts.version for facts in seen] == ["1", "2"]


def test_a_model_that_no_replica_knows_is_given_up_in_time() -> None:
    replicas = Replicas(OLD)

    async def ask(catalog: Catalog) -> Any:
        started_s = asyncio.get_running_loop().time()
        facts = await catalog.of_answer("gate", "9", "c" * 64, 0.6)
        return facts, asyncio.get_running_loop().time() - started_s

    (facts, took_s), _ = run(replicas, ask)
    assert facts is None
    assert took_s == pytest.approx(0.6, abs=0.4)
    assert replicas.asked >= 3
