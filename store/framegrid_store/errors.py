"""What can go wrong in the store.

    StoreError                 the caller must change something: a URL, a version, a role
    └── NotUpgradedError       the schema is not there, or older than this program: run `upgrade`

What passes by itself (database away, deadlock, disk full) is retried inside `writer` and never raised.
"""

UPGRADE_ADVICE = "run `python -m framegrid_store upgrade`"


class StoreError(Exception):
    """Something that only a person can put right; the message says what was expected, what came, what to
    do."""


class NotUpgradedError(StoreError):
    """The database has no Framegrid schema yet, or one of another version."""
