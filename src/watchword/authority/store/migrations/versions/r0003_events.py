"""Events, and who is told of them by webhook."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from watchword.authority.store.columns import Integer, String

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "events",
        sa.Column("seq", Integer, primary_key=True, autoincrement=False),
        sa.Column("time", Integer, nullable=False),
        sa.Column("host_id", sa.LargeBinary(32)),
        sa.Column("profile", String(), nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_index("events_host", "events", ["host_id", "seq"])
    op.create_index("events_time", "events", ["time"])
    op.create_table(
        "event_chains",
        sa.Column("chain", String(), primary_key=True),
        sa.Column("number", Integer, nullable=False),
        sa.Column("digest", String(), nullable=False),
    )
    op.create_table(
        "stale_noted",
        sa.Column("host_id", sa.LargeBinary(32), primary_key=True),
        sa.Column("profile_id", sa.LargeBinary(32), primary_key=True),
        sa.Column("until", Integer, nullable=False),
    )
    op.create_table(
        "webhooks",
        sa.Column("id", String(), primary_key=True),
        *(sa.Column(name, String(), nullable=False) for name in ("url", "kinds", "ca")),
        *(sa.Column(name, Integer, nullable=False) for name in ("added_at", "place")),
        *(sa.Column(name, Integer) for name in ("gap_first", "gap_last")),
        *(sa.Column(name, Integer, nullable=False) for name in ("attempts", "next_try")),
        sa.Column("last_error", String(), nullable=False),
        sa.Column("delivered_at", Integer),
        sa.Column("claimed_by", String(), nullable=False),
        sa.Column("claimed_until", Integer, nullable=False),
    )
