"""Which logins see which sites.

Revision ID: 0003
"""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table; nobody is in it at first."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """Without it, readers of one site would see nothing."""
    raise NotImplementedError("roles of readers stand on it; restore a backup instead")
