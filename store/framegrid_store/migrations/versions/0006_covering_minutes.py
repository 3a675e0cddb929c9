"""Minutes of a camera side by side in the index.

Revision ID: 0006
"""

from pathlib import Path

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Build both primary keys anew."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """Programs are rolled back, schemas are not."""
    raise NotImplementedError("an older program works with this schema; nothing needs to be taken back")
