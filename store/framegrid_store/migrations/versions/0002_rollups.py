"""Roll-ups per minute, hour and day; what is pending; retention and maintenance in force.

Revision ID: 0002
"""

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the roll-ups; mark every row that is there as pending, which reads frame_count and coverage."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """Roll-ups outlive the rows they were made from: dropping them would lose history."""
    raise NotImplementedError("roll-ups hold history that nothing else has; restore a backup instead")
