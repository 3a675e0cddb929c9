"""Speed, measured against a limit or a peer in the same run: `make bench` writes bench.json."""
