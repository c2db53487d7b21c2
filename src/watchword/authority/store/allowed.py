"""The part of a transaction that changes what hosts may run and tenants may ask for: stacks, rules, profiles."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import delete, func, insert, select, update

from watchword.authority.store import schema
from watchword.authority.store.rows import ProfileRow, StackRow, StackRule, StackState
from watchword.authority.store.trust import TrustTransaction
from watchword.authority.store.upsert import upsert
from watchword.errors import UsageError

__all__ = ["AllowedTransaction"]


class AllowedTransaction(TrustTransaction):
    """See :class:`~watchword.authority.store.Transaction`, which is this and everything else."""

    def put_profile(self, profile: ProfileRow) -> bool:
        """Keep a profile; one that is there already stays as it is (its id is its content). Whether it is new.

        Nothing that was worked out before depends on it, so the generation stays: tenants publish profiles.
        """
        statement = upsert(schema.profiles).values(asdict(profile)).on_conflict_do_nothing()
        return self._connection.execute(statement.returning(schema.profiles.c.id)).first() is not None

    def remove_profile(self, profile_id: bytes) -> None:
        """Forget a profile: tokens that name it are refused.

        Raises :class:`UsageError` (``profile-absent``, ``profile-watched`` when all hosts are judged by it).
        """
        table, watched = schema.profiles, schema.watched
        if self._connection.execute(select(watched.c.profile_id).where(watched.c.profile_id == profile_id)).first():
            raise UsageError(
                "profile-watched",
                f"all hosts are judged by the profile {profile_id.hex()}",
                hint="end that first: watchword authority watch remove PROFILE",
            )
        if self._connection.execute(delete(table).where(table.c.id == profile_id)).rowcount != 1:
            raise UsageError("profile-absent", f"there is no profile {profile_id.hex()} to remove")
        self._next_generation()

    def published_profiles(self) -> int:
        """How many profiles came from tenants."""
        table = schema.profiles
        counted = select(func.count()).select_from(table).where(table.c.published)
        return int(self._connection.execute(counted).scalar_one())

    def put_stack(self, stack: StackRow, *, by: str = "service", reason: str = "") -> None:
        """Keep a stack release. Raises :class:`UsageError` (``stack-known``) when that document was added before.

        Adding again never changes the state of a stack that is there.
        """
        table = schema.stacks
        if self._connection.execute(select(table.c.digest).where(table.c.digest == stack.digest)).first():
            raise UsageError("stack-known", f"the stack {stack.digest.hex()} is here already")
        activated = stack.added_at if stack.state is StackState.ACTIVE else stack.activated_at
        values = asdict(stack) | {"state": str(stack.state), "activated_at": activated}
        del values["endorsed_by"]
        self._connection.execute(insert(table).values(values))
        for key_id in stack.endorsed_by:
            self.put_endorsement(stack.digest, key_id)
        self._note(stack.digest, stack.added_at, stack.state, stack.retire_at, by, reason)
        self._next_generation()

    def put_endorsement(self, digest: bytes, key_id: str) -> None:
        """Note that the endorser ``key_id`` signed the stack ``digest``; the caller has verified the signature."""
        statement = upsert(schema.endorsements).values(digest=digest, key_id=key_id)
        self._connection.execute(statement.on_conflict_do_nothing())
        self._next_generation()

    def remove_endorsement(self, digest: bytes, key_id: str) -> None:
        """Forget that this endorser signed that stack, if it did."""
        table = schema.endorsements
        self._connection.execute(delete(table).where((table.c.digest == digest) & (table.c.key_id == key_id)))
        self._next_generation()

    def set_envelope(self, digest: bytes, envelope: bytes) -> None:
        """Keep another envelope of a stack that is here: one with more signatures over the same document."""
        table = schema.stacks
        self._connection.execute(update(table).values(envelope=envelope).where(table.c.digest == digest))

    def set_stack_state(
        self,
        digest: bytes,
        state: StackState,
        retire_at: int | None,
        *,
        time: int,
        by: str = "service",
        reason: str = "",
    ) -> None:
        """Move a stack on in its life and note it in the history; times in Unix seconds.

        Raises :class:`UsageError` (``stack-unknown``) when there is no such stack.
        """
        table = schema.stacks
        values = {"state": str(state), "retire_at": retire_at}
        moved = self._connection.execute(update(table).values(values).where(table.c.digest == digest))
        if moved.rowcount != 1:
            raise UsageError("stack-unknown", f"there is no stack {digest.hex()}")
        if state is StackState.ACTIVE:
            first = update(table).values(activated_at=time)
            self._connection.execute(first.where(table.c.digest == digest, table.c.activated_at.is_(None)))
        self._note(digest, time, state, retire_at, by, reason)
        self._next_generation()

    def _note(self, digest: bytes, time: int, state: StackState, retire_at: int | None, by: str, reason: str) -> None:
        values = {"digest": digest, "time": time, "state": str(state), "retire_at": retire_at}
        self._connection.execute(insert(schema.stack_history).values(**values, by=by, reason=reason))

    def put_stack_rule(self, rule: StackRule) -> None:
        """Say who must sign releases of a stack in a pool, instead of what was said before."""
        self._drop_stack_rule(rule.name, rule.pool)
        values = {"name": rule.name, "pool": rule.pool}
        row = {**values, "threshold": rule.threshold, "added_at": rule.added_at}
        self._connection.execute(insert(schema.stack_rules).values(row))
        for key_id in sorted(rule.keys):
            self._connection.execute(insert(schema.stack_rule_keys).values(**values, key_id=key_id))

    def remove_stack_rule(self, name: str, pool: str) -> None:
        """Ask for any one endorser again. Raises :class:`UsageError` (``stack-rule-unknown``)."""
        if not self._drop_stack_rule(name, pool):
            raise UsageError("stack-rule-unknown", f"there is no rule for stack {name} in pool {pool}")

    def _drop_stack_rule(self, name: str, pool: str) -> bool:
        table = schema.stack_rules
        gone = self._connection.execute(delete(table).where((table.c.name == name) & (table.c.pool == pool)))
        return gone.rowcount == 1
