"""What serve can do: its models, their input sizes and class names, kept fresh.

Asked at start, every REFRESH_S, when an answer names a model version that is not known, and when a camera
wants a model that is not there (rate-limited).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from framegrid_ingest.errors import ClientError

logger = logging.getLogger(__name__)

REFRESH_S = 30.0
# While serve is away or a model is missing, ask this often at most.
IMPATIENT_S = 0.5
# An answer of a model that is news: how long one replica's list is waited for.
ASK_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model as serve describes it."""

    name: str
    version: str
    digest: str
    classes: tuple[str, ...]
    input_size: int
    precision: str = ""
    licence: str = ""

    @property
    def key(self) -> str:
        """name@version, as in rows."""
        return f"{self.name}@{self.version}"


def parse_models(body: bytes) -> dict[str, ModelFacts]:
    """The answer of GET /v1/models; models that are not ready are left out. Raises ClientError."""
    try:
        answer = json.loads(body)
        entries = [entry for entry in answer["models"] if entry.get("classes")]
        return {entry["name"]: _facts(entry) for entry in entries}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ClientError(
            f"expected the models of serve as JSON, got {body[:60]!r}; check serve_url"
        ) from None


def _facts(entry: dict[str, Any]) -> ModelFacts:
    input_size = int(entry["input_size"])
    if not 32 <= input_size <= 8192:
        raise ClientError(
            f"expected an input size of 32..8192 for a model, got {input_size}; check its bundle"
        )
    return ModelFacts(
        str(entry["name"]),
        str(entry["version"]),
        str(entry.get("digest", "")),
        tuple(str(name) for name in entry["classes"]),
        input_size,
        str(entry.get("precision", "")),
        str(entry.get("licence", "")),
    )


class Catalog:
    """Models by name. `fetch` gets the body of /v1/models; `on_change` hears of each new model version."""

    def __init__(
        self, fetch: Callable[[], Awaitable[bytes]], on_change: Callable[[ModelFacts], None]
    ) -> None:
        self._fetch = fetch
        self._on_change = on_change
        self._by_name: dict[str, ModelFacts] = {}
        self._by_digest: dict[tuple[str, str, str], ModelFacts] = {}
        self._asked = asyncio.Event()
        self._answered = asyncio.Condition()
        self.last_error = ""

    def get(self, name: str) -> ModelFacts | None:
        """The model, if serve has it now. Asks for news when it has not."""
        facts = self._by_name.get(name)
        if facts is None:
            self._asked.set()
        return facts

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._by_name))

    async def of_answer(self, name: str, version: str, digest: str, timeout_s: float) -> ModelFacts | None:
        """The model that made an answer; asks serve when it is news. None when serve does not know."""
        key = name, version, digest
        clock = asyncio.get_running_loop().time
        until_s = clock() + timeout_s
        while key not in self._by_digest:
            left_s = until_s - clock()
            if left_s <= 0:
                return None
            # Replicas change one after another, and any of them may tell: ask until one that knows does.
            self._asked.set()
            with contextlib.suppress(asyncio.TimeoutError):
                async with self._answered:
                    known = self._answered.wait_for(lambda: key in self._by_digest)
                    await asyncio.wait_for(known, min(left_s, ASK_AGAIN_S))
        return self._by_digest[key]

    async def run(self) -> None:
        """Keep asking until cancelled."""
        while True:
            self._asked.clear()
            await self.refresh()
            try:
                await asyncio.wait_for(self._asked.wait(), REFRESH_S if self._by_name else IMPATIENT_S)
            except asyncio.TimeoutError:
                continue
            await asyncio.sleep(IMPATIENT_S if self.last_error or not self._by_name else 0.05)

    async def refresh(self) -> None:
        """Ask once."""
        try:
            models = parse_models(await self._fetch())
        except ClientError as error:
            if not self.last_error:
                logger.warning("cannot learn the models of serve: %s", error)
            self.last_error = str(error)
            return
        if self.last_error:
            logger.info("serve tells its models again: %s", ", ".join(sorted(models)) or "none")
        self.last_error = ""
        self._by_name = models
        news = {(facts.name, facts.version, facts.digest): facts for facts in models.values()}
        unknown = [facts for key, facts in news.items() if key not in self._by_digest]
        self._by_digest |= news
        for facts in unknown:
            self._on_change(facts)
        async with self._answered:
            self._answered.notify_all()
