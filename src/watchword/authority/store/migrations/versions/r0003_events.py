"""Events for those who follow, the chains that count them, states whose end was noticed, and webhooks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from watchword.authority.store.columns import Integer, String

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Four new tables; what there was stays as it is."""
    op.create_table(
        "events",
        sa.Column("seq", Integer, autoincrement=False, nullable=False),
        sa.Column("time", Integer, nullable=False),
        sa.Column("host_id", sa.LargeBinary(length=32), nullable=True),
        sa.Column("profile", String(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("events_host", "events", ["host_id", "seq"])
    op.create_index("events_time", "events", ["time"])
    op.create_table(
        "event_chains",
        sa.Column("chain", String(), nullable=False),
        sa.Column("number", Integer, nullable=False),
        sa.Column("digest", String(), nullable=False),
        sa.PrimaryKeyConstraint("chain"),
    )
    op.create_table(
        "stale_noted",
        sa.Column("host_id", sa.LargeBinary(length=32), nullable=False),
        sa.Column("profile_id", sa.LargeBinary(length=32), nullable=False),
        sa.Column("until", Integer, nullable=False),
        sa.PrimaryKeyConstraint("host_id", "profile_id"),
    )
    op.create_table(
        "webhooks",
        sa.Column("id", String(), nullable=False),
        sa.Column("url", String(), nullable=False),
        sa.Column("kinds", String(), nullable=False),
        sa.Column("ca", String(), nullable=False),
        sa.Column("added_at", Integer, nullable=False),
        sa.Column("place", Integer, nullable=False),
        sa.Column("gap_first", Integer, nullable=True),
        sa.Column("gap_last", Integer, nullable=True),
        sa.Column("attempts", Integer, nullable=False),
        sa.Column("next_try", Integer, nullable=False),
        sa.Column("last_error", String(), nullable=False),
        sa.Column("delivered_at", Integer, nullable=True),
        sa.Column("claimed_by", String(), nullable=False),
        sa.Column("claimed_until", Integer, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
