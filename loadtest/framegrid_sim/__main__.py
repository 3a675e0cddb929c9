"""`python -m framegrid_sim serve|rtsp|render|bench`."""

import sys

from framegrid_sim.cli import main

if __name__ == "__main__":
    sys.exit(main())
