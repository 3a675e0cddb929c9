"""`python -m framegrid_load limit`: what the load generator itself can send on this machine."""

from __future__ import annotations

import json
import sys

from framegrid_load.limit import measure_limit


def main() -> int:
    if sys.argv[1:] != ["limit"]:
        print(
            "usage: python -m framegrid_load limit   (the load test itself: framegrid load --help)",
            file=sys.stderr,
        )
        return 2
    print(json.dumps(measure_limit(), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
