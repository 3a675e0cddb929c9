"""Store: rows in, SQL out."""
