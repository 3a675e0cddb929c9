"""`python -m framegrid_local`: the `framegrid` command."""

from framegrid_local.cli import app

if __name__ == "__main__":
    app(prog_name="framegrid")
