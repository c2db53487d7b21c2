"""The tables as this program knows them. ``triggers.py`` has what keeps the decision record append-only.

A change here is a new revision in ``migrations``, and may only add: replicas of the version before still run on it.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    Table,
)

from watchword.authority.store.columns import Integer, String

__all__ = [
    "REVISION",
    "VERSION",
    "anchors",
    "bundle_certificates",
    "crls",
    "decisions",
    "ek_pins",
    "endorsements",
    "endorser_limits",
    "endorsers",
    "era_nonces",
    "evidence",
    "evidence_logs",
    "evidence_parts",
    "host_states",
    "hosts",
    "last_seen",
    "log_cosignatures",
    "log_nodes",
    "log_witnesses",
    "metadata",
    "placements",
    "profiles",
    "releases",
    "root_bundles",
    "runtime_seen",
    "stack_history",
    "stack_rule_keys",
    "stack_rules",
    "stacks",
    "state",
    "used_nonces",
    "watched",
]

VERSION: Final = 2  # from before there were migrations; it stays
REVISION: Final = "0004"  # the newest of ``migrations``, which leads to these tables

metadata = MetaData()

# One row (id 1): the schema's version, and numbers that belong to the whole store.
state = Table(
    "state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("schema_version", Integer, nullable=False),
    Column("generation", Integer, nullable=False),  # grows with every change of what is believed or allowed
    Column("nonces_pruned", Integer, nullable=False),  # nonces that expired up to here are forgotten, and refused
    # Since there are eras; in the first one, which has no name, the column above goes on to count.
    Column("nonce_era", LargeBinary(16)),
    Column("era_pruned", Integer, nullable=False, server_default="0"),  # as ``nonces_pruned``, of this era
)

anchors = Table(
    "anchors",
    metadata,
    Column("fingerprint", LargeBinary(32), primary_key=True),  # SHA-256 of the certificate
    Column("certificate", LargeBinary, nullable=False),  # DER
    Column("ek_class", String, nullable=False),
    Column("label", String, nullable=False),
    Column("added_at", Integer, nullable=False),
)

# The newest edition of each root bundle that was imported, and what is in it.
root_bundles = Table(
    "root_bundles",
    metadata,
    Column("name", String, primary_key=True),
    Column("serial", Integer, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),  # SHA-256 of the document
    Column("added_at", Integer, nullable=False),
)

bundle_certificates = Table(
    "bundle_certificates",
    metadata,
    Column("bundle", ForeignKey("root_bundles.name"), primary_key=True),
    Column("fingerprint", LargeBinary(32), primary_key=True),
    Column("is_anchor", Boolean, nullable=False),  # believed through ``anchors`` only; others fill gaps
    Column("certificate", LargeBinary, nullable=False),  # DER
)

# The newest revocation list of each issuer.
crls = Table(
    "crls",
    metadata,
    Column("issuer", LargeBinary(32), primary_key=True),  # hash of the issuer's name and key
    Column("fingerprint", LargeBinary(32), nullable=False, unique=True),  # SHA-256 of the list
    Column("crl", LargeBinary, nullable=False),  # DER
    Column("issuer_name", String, nullable=False),  # for people
    Column("this_update", Integer, nullable=False),
    Column("next_update", Integer, nullable=False),
    Column("added_at", Integer, nullable=False),
)

ek_pins = Table(
    "ek_pins",
    metadata,
    Column("host_id", LargeBinary(32), primary_key=True),
    Column("ek_public", LargeBinary, nullable=False),  # TPMT_PUBLIC
    Column("ek_class", String, nullable=False),
    Column("label", String, nullable=False),
    Column("added_at", Integer, nullable=False),
)

hosts = Table(
    "hosts",
    metadata,
    Column("host_id", LargeBinary(32), primary_key=True),
    Column("ek_public", LargeBinary, nullable=False),
    Column("ak_public", LargeBinary, nullable=False, unique=True),  # A5: one AK belongs to one host
    Column("ek_class", String, nullable=False),
    Column("enrolled_at", Integer, nullable=False),
    Column("revoked_at", Integer),
    Column("revoked_reason", String),
)

# Kept apart from ``hosts``: rewritten at every quote, and a row exists only once something was seen.
last_seen = Table(
    "last_seen",
    metadata,
    Column("host_id", ForeignKey("hosts.host_id"), primary_key=True),
    Column("reset_count", Integer, nullable=False),
    Column("restart_count", Integer, nullable=False),
    Column("clock", Integer, nullable=False),  # milliseconds
    Column("safe", Boolean, nullable=False),
    Column("time", Integer, nullable=False),
    sqlite_with_rowid=False,
)

runtime_seen = Table(
    "runtime_seen",
    metadata,
    Column("host_id", ForeignKey("hosts.host_id"), primary_key=True),
    Column("reset_count", Integer, nullable=False),
    Column("entries", Integer, nullable=False),
    Column("aggregate", LargeBinary, nullable=False),
    Column("state", LargeBinary),  # RuntimeState: what was judged, so that it need not be sent again
    sqlite_with_rowid=False,
)

profiles = Table(
    "profiles",
    metadata,
    Column("id", LargeBinary(32), primary_key=True),  # SHA-256 of ``document``
    Column("document", LargeBinary, nullable=False),
    Column("name", String, nullable=False),
    Column("added_at", Integer, nullable=False),
    Column("published", Boolean, nullable=False),  # by a tenant, not by the operator; there is a limit to those
)

stacks = Table(
    "stacks",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),  # SHA-256 of the stack document
    Column("document", LargeBinary, nullable=False),
    Column("envelope", LargeBinary),  # the signed form (DSSE); absent when nobody endorsed it
    Column("name", String, nullable=False),
    Column("version", String, nullable=False),
    Column("serial", BigInteger, nullable=False),
    Column("pool", String, nullable=False),
    Column("channel", String, nullable=False),
    Column("state", String, nullable=False),  # draft, active, retiring, revoked
    Column("retire_at", BigInteger),
    Column("added_at", Integer, nullable=False),
    Column("activated_at", Integer),  # when it was active for the first time
)

# Every change of a stack's state, its registration included; rows are never changed or removed.
stack_history = Table(
    "stack_history",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("digest", ForeignKey("stacks.digest"), nullable=False),
    Column("time", Integer, nullable=False),
    Column("state", String, nullable=False),  # from then on
    Column("retire_at", BigInteger),
    Column("by", String, nullable=False),
    Column("reason", String, nullable=False),
    Index("stack_history_digest", "digest", "id"),
)

# Whose signatures on stacks count; a profile then says which of them it wants.
endorsers = Table(
    "endorsers",
    metadata,
    Column("key_id", String, primary_key=True),  # see crypto.dsse
    Column("key_type", String, nullable=False),
    Column("public_key", LargeBinary, nullable=False),  # DER SubjectPublicKeyInfo
    Column("name", String, nullable=False),
    Column("added_at", Integer, nullable=False),
)

# What an endorser may sign for, when that is limited: rows of kind "stack" and "pool"; no row of a kind, no limit.
endorser_limits = Table(
    "endorser_limits",
    metadata,
    Column("key_id", ForeignKey("endorsers.key_id", ondelete="CASCADE"), primary_key=True),
    Column("kind", String, primary_key=True),
    Column("value", String, primary_key=True),
)

# Who must have signed a release of a stack in a pool; without a rule, any one endorser.
stack_rules = Table(
    "stack_rules",
    metadata,
    Column("name", String, primary_key=True),
    Column("pool", String, primary_key=True),
    Column("threshold", Integer, nullable=False),
    Column("added_at", Integer, nullable=False),
)

stack_rule_keys = Table(
    "stack_rule_keys",
    metadata,
    Column("name", String, primary_key=True),
    Column("pool", String, primary_key=True),
    Column("key_id", String, primary_key=True),
    ForeignKeyConstraint(["name", "pool"], ["stack_rules.name", "stack_rules.pool"], ondelete="CASCADE"),
)

# Which endorsers' signatures on which stacks were verified.
endorsements = Table(
    "endorsements",
    metadata,
    Column("digest", ForeignKey("stacks.digest"), primary_key=True),
    Column("key_id", ForeignKey("endorsers.key_id", ondelete="CASCADE"), primary_key=True),
)

# The profiles that all hosts are judged by when they attest.
watched = Table(
    "watched",
    metadata,
    Column("profile_id", ForeignKey("profiles.id"), primary_key=True),
    Column("added_at", Integer, nullable=False),
)

# Which host a launch was released to: what its tenant may go on watching.
placements = Table(
    "placements",
    metadata,
    Column("launch_key", LargeBinary(32), primary_key=True),
    Column("host_id", ForeignKey("hosts.host_id"), primary_key=True),
    Column("profile_id", LargeBinary(32), nullable=False),
    Column("required", Integer, nullable=False),  # the rank that the token demands
    Column("reset_count", Integer, nullable=False),
    Column("time", Integer, nullable=False),
    Index("placements_host", "host_id", "time"),
)

# What each host was worth when it last attested, by each profile that somebody is interested in.
host_states = Table(
    "host_states",
    metadata,
    Column("host_id", ForeignKey("hosts.host_id"), primary_key=True),
    Column("profile_id", LargeBinary(32), primary_key=True),
    Column("standing", String, nullable=False),
    Column("level", String, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("best", Integer, nullable=False),
    Column("since", Integer, nullable=False),
    Column("checked", Integer, nullable=False),
    Column("until", Integer, nullable=False),
    Column("reset_count", Integer, nullable=False),
    Column("stack", LargeBinary, nullable=False),
    Column("code", String, nullable=False),
    Column("reason", String, nullable=False),
    sqlite_with_rowid=False,
)

# The newest authentic evidence of each host, so that a change can be tried before it is made. Logs are kept once,
# however many hosts share them, and in parts as they arrived.
evidence = Table(
    "evidence",
    metadata,
    Column("host_id", ForeignKey("hosts.host_id"), primary_key=True),
    Column("time", Integer, nullable=False),
    Column("record", LargeBinary, nullable=False),  # launch.on_file.Record
)

evidence_logs = Table(
    "evidence_logs",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("data", LargeBinary, nullable=False),  # compressed
)

evidence_parts = Table(
    "evidence_parts",
    metadata,
    Column("host_id", ForeignKey("evidence.host_id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),  # 0: the boot log; the parts of the runtime log follow
    Column("digest", ForeignKey("evidence_logs.digest"), nullable=False, index=True),
)

used_nonces = Table(
    "used_nonces",
    metadata,
    Column("nonce_id", LargeBinary, primary_key=True),
    Column("expires", Integer, nullable=False),  # no index: forgetting reads all of them, which are minutes' worth
    sqlite_with_rowid=False,
)

# Of the era that is not the first. Apart from the others, which programs from before there were eras forget too.
era_nonces = Table(
    "era_nonces",
    metadata,
    Column("nonce_id", LargeBinary, primary_key=True),
    Column("expires", Integer, nullable=False),
    sqlite_with_rowid=False,
)

releases = Table(
    "releases",
    metadata,
    Column("token_id", LargeBinary, primary_key=True),
    Column("count", Integer, nullable=False),
    sqlite_with_rowid=False,
)

decisions = Table(
    "decisions",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("time", Integer, nullable=False),
    Column("launch_key", LargeBinary, nullable=False),
    Column("number", Integer, nullable=False),  # counts the decisions about this launch, from 1; 0 for an act
    Column("salt", LargeBinary(32), nullable=False),
    Column("entry", LargeBinary, nullable=False),
    Column("leaf", LargeBinary, nullable=False),  # what is hashed into the log, and what everybody sees
    Column("frontier", LargeBinary, nullable=False),  # the right edge of the tree that ends with this leaf
    Index("decisions_launch_key", "launch_key", "number"),
)

# Hashes of complete subtrees at the levels where tiles begin (8, 16, …): everything between follows from these.
log_nodes = Table(
    "log_nodes",
    metadata,
    Column("tile_level", Integer, primary_key=True),  # from 1
    Column("node", Integer, primary_key=True),
    Column("hash", LargeBinary(32), nullable=False),
)

# Who is asked to cosign checkpoints, and what they said.
log_witnesses = Table(
    "log_witnesses",
    metadata,
    Column("key", String, primary_key=True),  # verifier key: NAME+ID+KEY
    Column("url", String, nullable=False),  # where to ask; empty for one that comes by itself
    Column("seen_size", Integer, nullable=False),  # the newest checkpoint that it cosigned
    Column("added_at", Integer, nullable=False),
)

log_cosignatures = Table(
    "log_cosignatures",
    metadata,
    Column("size", Integer, primary_key=True),
    Column("witness", ForeignKey("log_witnesses.key", ondelete="CASCADE"), primary_key=True),
    Column("line", String, nullable=False),
)
