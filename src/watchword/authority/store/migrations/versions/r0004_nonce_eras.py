"""Eras of nonces: what was used in one, and up to when that is forgotten, beside what programs from before count."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from watchword.authority.store.columns import Integer

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("state", sa.Column("nonce_era", sa.LargeBinary(16), nullable=True))
    op.add_column("state", sa.Column("era_pruned", Integer, nullable=False, server_default="0"))
    op.create_table(
        "era_nonces",
        sa.Column("nonce_id", sa.LargeBinary(), primary_key=True),
        sa.Column("expires", Integer, nullable=False),
        sqlite_with_rowid=False,
    )
