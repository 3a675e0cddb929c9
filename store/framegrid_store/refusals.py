"""Rows that the database or the encoder refused: counted, logged now and then, written down for a person."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from framegrid_store.connect import sanitised
from framegrid_store.facts import table_of
from framegrid_store.quarantine import Quarantine

logger = logging.getLogger(__name__)

BAD_ROW = "bad_row"
LOG_EVERY = 10
"""The first and every tenth are logged."""


class Refusals:
    """Of one writer; without a folder they are counted and logged alone."""

    def __init__(self, database_url: str, folder: Path | None) -> None:
        self._url = database_url
        self._quarantine = None if folder is None else Quarantine(folder, database_url)
        self.counts: Counter[tuple[str, str]] = Counter()
        """By table and reason, which is `bad_row`."""
        self.quarantined = 0
        """Of them: written to the file."""

    def add(self, row: object, error: BaseException, table: str = "") -> None:
        """One row; `table` for what is no fact."""
        table = table or table_of(type(row))
        self.counts[table, BAD_ROW] += 1
        number = self.counts.total()
        if number % LOG_EVERY == 1:
            reason, text = sanitised(error, self._url), sanitised(repr(row), self._url)
            logger.error("row set aside (%d so far): %s; %s", number, reason, text)
        if self._quarantine is not None:
            try:
                self._quarantine.add(table, row, error)
                self.quarantined += 1
            except OSError as failure:
                logger.error("cannot write to the quarantine file: %s", failure)
