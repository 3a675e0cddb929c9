"""Processes that store rows until they are killed: `python store_crash_child.py URL FOLDER`.

Each line read is one life: `first seed report`. It is forked from here, where everything is imported already,
and its process id is printed. In the report it says which rows are put, and which are stored.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

from framegrid_store import outage, spool
from framegrid_store.rows import CountRow
from framegrid_store.spool import SpoolSettings
from framegrid_store.writer import StoreWriter

START_S = 1_699_999_980.0


def row(place: int) -> CountRow:
    """The row of this number; its time says which it is."""
    return CountRow(
        START_S + place, 1.0, f"camera-{place % 20}", "person", "", "m@1", 10, 20, 40, 2, 2, 1, 0.5
    )


def live(url: str, folder: Path, first: int, seed: int, report: int) -> None:
    """Until somebody kills us."""
    rng = random.Random(seed)
    outage.FIRST_BACKOFF_S, outage.LONGEST_BACKOFF_S = 0.01, 0.05
    spool.TEND_EVERY_S = 0.05

    def tell(what: str, *places: int) -> None:
        os.write(report, f"{what} {' '.join(map(str, places))}\n".encode())

    writer = StoreWriter(
        url,
        batch_rows=200,
        batch_wait_s=0.01,
        spool=SpoolSettings(folder, after_s=0.02),
        on_stored=lambda rows, _: tell("stored", *(int(r.time_s - START_S) for r in rows)),  # type: ignore[union-attr]
    )
    writer.start()
    for place in range(first, first + 100_000, 50):
        tell("put", place, place + 50)
        writer.put([row(place + i) for i in range(50)])
        time.sleep(rng.uniform(0.0, 0.01))


def main() -> None:
    url, folder = sys.argv[1], Path(sys.argv[2])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead need no funeral
    for line in sys.stdin:
        first, seed, report = line.split()
        pid = os.fork()
        if pid == 0:
            live(url, folder, int(first), int(seed), os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
            os._exit(1)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
