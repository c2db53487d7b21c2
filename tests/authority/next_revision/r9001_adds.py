"""What a migration may look like: it only adds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from watchword.authority.store.columns import Integer, String

revision = "9001"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "sites", sa.Column("name", String(), primary_key=True), sa.Column("added_at", Integer, nullable=False)
    )
    op.add_column("hosts", sa.Column("site", String(), nullable=True))
    op.add_column("decisions", sa.Column("weight", Integer, nullable=False, server_default="1"))
    op.create_index("decisions_time", "decisions", ["time"])
