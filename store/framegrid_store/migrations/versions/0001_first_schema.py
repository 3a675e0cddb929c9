"""The first schema.

Revision ID: 0001
"""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create dimensions, facts and the ledger, all with comments."""
    # exec_driver_sql without parameters: several statements at once, per-cent signs taken literally.
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """There is nothing before the first schema; drop the schema by hand if that is meant."""
    raise NotImplementedError("the first schema cannot be taken back; restore a backup or drop the schema")
