"""What a batch leaves behind for the roll-ups, as one statement at the start of its transaction.

`framegrid.begin_batch` puts the batch into the ledger, gives it a number, notes in `rollup_pending` which
minutes its counts and coverage lie in, and counts rows with odd times in `skewed_rows`. All of it commits
with the rows or not at all: so a row is in the roll-ups exactly when its minute and batch are not pending
any more.

Costs the writer one pass over the rows' times; nothing here waits for another transaction but a second one
with the same id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any
from uuid import UUID

import numpy as np

from framegrid_store.encode import POSTGRES_EPOCH_S, times_us
from framegrid_store.facts import FACTS
from framegrid_store.rows import CountRow, CoverageRow, Row

MINUTE_US = 60_000_000
_EPOCH_MINUTE = POSTGRES_EPOCH_S // 60
_ROLLED_UP = (CountRow, CoverageRow)
_TIME_OF = {
    kind: itemgetter(kind._fields.index("started_at_s" if "started_at_s" in kind._fields else "time_s"))
    for kind in FACTS
}


def begin_batch(batch_id: UUID, kinds: Mapping[type[Any], Sequence[Row]], rows: int) -> str:
    """SQL whose one value is the number of the batch, or NULL when one of this id is stored.

    `kinds`: the batch's rows by type; a type that is none of `rows` is left for COPY to refuse. Raises
    ValueError or TypeError when a time cannot be stored.
    """
    counted: Counter[int] = Counter()
    rolled_up: set[int] = set()
    for kind, of_kind in kinds.items():
        if kind in _TIME_OF:
            minutes, numbers = _minutes(list(map(_TIME_OF[kind], of_kind)))
            counted.update(dict(zip(minutes, numbers, strict=True)))
            if kind in _ROLLED_UP:
                rolled_up.update(minutes)
    flags = (str(minute in rolled_up) for minute in counted)
    # Numbers and a UUID object: nothing here can carry SQL.
    return (
        f"SELECT framegrid.begin_batch('{batch_id}', {rows}, '{{{_joined(counted)}}}',"
        f" '{{{_joined(counted.values())}}}', '{{{','.join(flags)}}}')"
    )


def _minutes(times_s: Sequence[float]) -> tuple[list[int], list[int]]:
    """Distinct minutes since 1970, of times as the tables will have them, and how many times lie in each."""
    minutes = times_us(times_s) // MINUTE_US + _EPOCH_MINUTE
    if (first := int(minutes[0])) == int(minutes.max()) == int(minutes.min()):
        return [first], [len(minutes)]
    found, numbers = np.unique(minutes, return_counts=True)
    return found.tolist(), numbers.tolist()


def _joined(numbers: Any) -> str:
    return ",".join(map(str, numbers))
