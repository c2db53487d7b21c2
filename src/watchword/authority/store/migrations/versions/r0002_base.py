"""The tables as they were when migrations began: what a store of schema version 2 has, frozen.

A store that has them is taken over as it is; this is run to prove that the steps lead to what the program expects.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from watchword.authority.store.columns import Integer, String
from watchword.authority.store.triggers import BASE

revision = "0002"
down_revision = None


def upgrade() -> None:
    """Make everything, in an empty database."""
    op.create_table(
        "anchors",
        sa.Column("fingerprint", sa.LargeBinary(length=32), nullable=False),
        sa.Column("certificate", sa.LargeBinary(), nullable=False),
        sa.Column("ek_class", String(), nullable=False),
        sa.Column("label", String(), nullable=False),
        sa.Column("added_at", Integer, nullable=False),
        sa.PrimaryKeyConstraint("fingerprint"),
    )
    op.create_table(
        "crls",
        sa.Column("issuer", sa.LargeBinary(length=32), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=32), nullable=False),
        sa.Column("crl", sa.LargeBinary(), nullable=False),
        sa.Column("issuer_name", String(), nullable=False),
        sa.Column("this_update", Integer, nullable=False),
        sa.Column("next_update", Integer, nullable=False),
        sa.Column("added_at", Integer, nullable=False),
        sa.PrimaryKeyConstraint("issuer"),
        sa.UniqueConstraint("fingerprint"),
    )
    op.create_table(
        "decisions",
        sa.Column("seq", Integer, autoincrement=False, nullable=False),
        sa.Column("time", Integer, nullable=False),
        sa.Column("launch_key", sa.LargeBinary(), nullable=False),
        sa.Column("number", Integer, nullable=False),
        sa.Column("salt", sa.LargeBinary(length=32), nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.Column("leaf", sa.LargeBinary(), nullable=False),
        sa.Column("frontier", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("decisions_launch_key", "decisions", ["launch_key", "number"], unique=False)
    op.create_table(
        "ek_pins",
        sa.Column("host_id", sa.LargeBinary(length=32), nullable=False),
        sa.Column("ek_public", sa.LargeBinary(), nullable=False),
        sa.Column("ek_class", String(), nullable=False),
        sa.Column("label", String(), nullable=False),
        sa.Column("added_at", Integer, nullable=False),
        sa.PrimaryKeyConstraint("host_id"),
    )
    op.create_table(
        "endorsers",
        sa.Column("key_id", String(), nullable=False),
        sa.Column("key_type", String(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("name", String(), nullable=False),
        sa.Column("added_at", Integer, nullable=False),
        sa.PrimaryKeyConstraint("key_id"),
    )
    op.create_table(
        "evidence_logs",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "hosts",
        sa.Column("host_id", sa.LargeBinary(length=32), nullable=False),
        sa.Column("ek_public", sa.LargeBinary(), nullable=False),
        sa.Column("ak_public", sa.LargeBinary(), nullable=False),
        sa.Column("ek_class", String(), nullable=False),
        sa.Column("enrolled_at", Integer, nullable=False),
        sa.Column("revoked_at", Integer, nullable=True),
        sa.Column("revoked_reason", String(), nullable=True),
        sa.PrimaryKeyConstraint("host_id"),
        sa.UniqueConstraint("ak_public"),
    )
    op.create_table(
        "log_nodes",
        sa.Column("tile_level", Integer, nullable=False),
        sa.Column("node", Integer, nullable=False),
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("tile_level", "node"),
    )
    op.create_table(
        "log_witnesses",
        sa.Column("key", String(), nullable=False),
        sa.Column("url", String(), nullable=False),
        sa.Column("seen_size", Integer, nullable=False),
        sa.Column("added_at", Integer, nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "profiles",
        sa.Column("id", sa.LargeBinary(length=32), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("name", String(), nullable=False),
        sa.Column("added_at", Integer, nullable=False),
        sa.Column("published", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "releases",
        sa.Column("token_id", sa.LargeBinary(), nullable=False),
        sa.Column("count", Integer, nullable=False),
        sa.PrimaryKeyConstraint("token_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "root_bundles",
        sa.Column("name", String(), nullable=False),
        sa.Column("serial", Integer, nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("added_at", Integer, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "stack_rules",
        sa.Column("name", String(), nullable=False),
        sa.Column("pool", String(), nullable=False),
        sa.Column("threshold", Integer, nullable=False),
        sa.Column("added_at", Integer, nullable=False),
        sa.PrimaryKeyConstraint("name", "pool"),
    )
    op.create_table(
        "stacks",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=True),
        sa.Column("name", String(), nullable=False),
        sa.Column("version", String(), nullable=False),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.Column("pool", String(), nullable=False),
        sa.Column("channel", String(), nullable=False),
        sa.Column("state", String(), nullable=False),
        sa.Column("retire_at", sa.BigInteger(), nullable=True),
        sa.Column("added_at", Integer, nullable=False),
        sa.Column("activated_at", Integer, nullable=True),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "state",
        sa.Column("id", Integer, autoincrement=False, nullable=False),
        sa.Column("schema_version", Integer, nullable=False),
        sa.Column("generation", Integer, nullable=False),
        sa.Column("nonces_pruned", Integer, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "used_nonces",
        sa.Column("nonce_id", sa.LargeBinary(), nullable=False),
        sa.Column("expires", Integer, nullable=False),
        sa.PrimaryKeyConstraint("nonce_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "bundle_certificates",
        sa.Column("bundle", String(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=32), nullable=False),
        sa.Column("is_anchor", sa.Boolean(), nullable=False),
        sa.Column("certificate", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["bundle"],
            ["root_bundles.name"],
        ),
        sa.PrimaryKeyConstraint("bundle", "fingerprint"),
    )
    op.create_table(
        "endorsements",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("key_id", String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["digest"],
            ["stacks.digest"],
        ),
        sa.ForeignKeyConstraint(["key_id"], ["endorsers.key_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("digest", "key_id"),
    )
    op.create_table(
        "endorser_limits",
        sa.Column("key_id", String(), nullable=False),
        sa.Column("kind", String(), nullable=False),
        sa.Column("value", String(), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["endorsers.key_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("key_id", "kind", "value"),
    )
    op.create_table(
        "evidence",
        sa.Column("host_id", sa.LargeBinary(length=32), nullable=False),
        sa.Column("time", Integer, nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_id"],
            ["hosts.host_id"],
        ),
        sa.PrimaryKeyConstraint("host_id"),
    )
    op.create_table(
        "host_states",
        sa.Column("host_id", sa.LargeBinary(length=32), nullable=False),
        sa.Column("profile_id", sa.LargeBinary(length=32), nullable=False),
        sa.Column("standing", String(), nullable=False),
        sa.Column("level", String(), nullable=False),
        sa.Column("rank", Integer, nullable=False),
        sa.Column("best", Integer, nullable=False),
        sa.Column("since", Integer, nullable=False),
        sa.Column("checked", Integer, nullable=False),
        sa.Column("until", Integer, nullable=False),
        sa.Column("reset_count", Integer, nullable=False),
        sa.Column("stack", sa.LargeBinary(), nullable=False),
        sa.Column("code", String(), nullable=False),
        sa.Column("reason", String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_id"],
            ["hosts.host_id"],
        ),
        sa.PrimaryKeyConstraint("host_id", "profile_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "last_seen",
        sa.Column("host_id", sa.LargeBinary(length=32), nullable=False),
        sa.Column("reset_count", Integer, nullable=False),
        sa.Column("restart_count", Integer, nullable=False),
        sa.Column("clock", Integer, nullable=False),
        sa.Column("safe", sa.Boolean(), nullable=False),
        sa.Column("time", Integer, nullable=False),
        sa.ForeignKeyConstraint(
            ["host_id"],
            ["hosts.host_id"],
        ),
        sa.PrimaryKeyConstraint("host_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "log_cosignatures",
        sa.Column("size", Integer, nullable=False),
        sa.Column("witness", String(), nullable=False),
        sa.Column("line", String(), nullable=False),
        sa.ForeignKeyConstraint(["witness"], ["log_witnesses.key"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("size", "witness"),
    )
    op.create_table(
        "placements",
        sa.Column("launch_key", sa.LargeBinary(length=32), nullable=False),
        sa.Column("host_id", sa.LargeBinary(length=32), nullable=False),
        sa.Column("profile_id", sa.LargeBinary(length=32), nullable=False),
        sa.Column("required", Integer, nullable=False),
        sa.Column("reset_count", Integer, nullable=False),
        sa.Column("time", Integer, nullable=False),
        sa.ForeignKeyConstraint(
            ["host_id"],
            ["hosts.host_id"],
        ),
        sa.PrimaryKeyConstraint("launch_key", "host_id"),
    )
    op.create_index("placements_host", "placements", ["host_id", "time"], unique=False)
    op.create_table(
        "runtime_seen",
        sa.Column("host_id", sa.LargeBinary(length=32), nullable=False),
        sa.Column("reset_count", Integer, nullable=False),
        sa.Column("entries", Integer, nullable=False),
        sa.Column("aggregate", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["host_id"],
            ["hosts.host_id"],
        ),
        sa.PrimaryKeyConstraint("host_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "stack_history",
        sa.Column("id", Integer, nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("time", Integer, nullable=False),
        sa.Column("state", String(), nullable=False),
        sa.Column("retire_at", sa.BigInteger(), nullable=True),
        sa.Column("by", String(), nullable=False),
        sa.Column("reason", String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["digest"],
            ["stacks.digest"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("stack_history_digest", "stack_history", ["digest", "id"], unique=False)
    op.create_table(
        "stack_rule_keys",
        sa.Column("name", String(), nullable=False),
        sa.Column("pool", String(), nullable=False),
        sa.Column("key_id", String(), nullable=False),
        sa.ForeignKeyConstraint(["name", "pool"], ["stack_rules.name", "stack_rules.pool"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("name", "pool", "key_id"),
    )
    op.create_table(
        "watched",
        sa.Column("profile_id", sa.LargeBinary(length=32), nullable=False),
        sa.Column("added_at", Integer, nullable=False),
        sa.ForeignKeyConstraint(
            ["profile_id"],
            ["profiles.id"],
        ),
        sa.PrimaryKeyConstraint("profile_id"),
    )
    op.create_table(
        "evidence_parts",
        sa.Column("host_id", sa.LargeBinary(length=32), nullable=False),
        sa.Column("position", Integer, nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["digest"],
            ["evidence_logs.digest"],
        ),
        sa.ForeignKeyConstraint(["host_id"], ["evidence.host_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("host_id", "position"),
    )
    op.create_index(op.f("ix_evidence_parts_digest"), "evidence_parts", ["digest"], unique=False)
    for trigger in BASE[op.get_bind().dialect.name]:
        op.get_bind().exec_driver_sql(trigger)
    op.get_bind().exec_driver_sql(
        "INSERT INTO state (id, schema_version, generation, nonces_pruned) VALUES (1, 2, 0, 0)"
    )
