"""Asking witnesses to cosign the newest checkpoint (C2SP tlog-witness, ``add-checkpoint``), and keeping what they say.

A witness keeps the last checkpoint that it saw of each log and signs a newer one only with a proof that it continues
that. One that does not answer delays nobody: the next round asks again.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable
from typing import Final

import httpx2

from watchword.authority.keys.high_water import Hold, put_hold
from watchword.authority.keys.keyring import Keyring
from watchword.authority.publishing.log import PublicLog
from watchword.authority.store import Store, WitnessRow
from watchword.authority.telemetry import journal
from watchword.authority.telemetry.events import Tell, WitnessEvent
from watchword.crypto.note import COSIGNS, cosigned_by, parse_key
from watchword.errors import MalformedError, Rejected, Unavailable, UsageError
from watchword.verify.log import verify_checkpoint
from watchword.wire.note import MAX_NOTE, Checkpoint, Note, NoteSignature

__all__ = ["Witnesses"]

SECONDS: Final = 10.0  # for one answer
_AHEAD: Final = 300  # seconds that a witness's clock may be ahead of ours
_NUMBER: Final = re.compile(rb"(0|[1-9][0-9]{0,18})\n?")


class Witnesses:
    """Asks those that the store names; ``clock`` gives Unix seconds."""

    def __init__(
        self, store: Store, log: PublicLog, clock: Callable[[], float] = time.time, tell: Tell = journal.tell
    ) -> None:
        self._store = store
        self._log = log
        self._clock = clock
        self._tell = tell

    def ask_all(self, ring: Keyring, *, again: bool = False) -> int:
        """Ask every witness that has not seen the newest checkpoint, ``again`` those that have; how many cosigned now.

        One that has seen more of this log than there is holds the authority: the store went back.
        """
        note = self._log.newest(ring)
        size, done = Checkpoint.parse(note.text).size, 0
        if not size and not again:
            return 0
        for row in self._store.witnesses():
            if not row.url or (row.seen_size == size and self._has(row, note) and not again):
                continue
            try:
                self._ask(row, note, size, ring)
                done += 1
            except (Unavailable, MalformedError, Rejected) as error:
                self._tell(WitnessEvent(row.key.split("+")[0], error.code, error.message))
        return done

    @staticmethod
    def _has(row: WitnessRow, note: Note) -> bool:
        return bool(cosigned_by(note, [parse_key(row.key, COSIGNS)]))

    def _ask(self, row: WitnessRow, note: Note, size: int, ring: Keyring) -> None:
        status, body = self._post(row.url, self._request(row.seen_size, size, note))
        told = _NUMBER.fullmatch(body) if status == 409 else None
        if told and int(told[1]) > self._store.head().seq:
            name = row.key.split("+")[0]
            detail = f"the witness {name} has seen {int(told[1])} entries of this log, which has {size}"
            put_hold(ring.directory, Hold("witness", int(self._clock()), detail))
            raise Unavailable("store-rolled-back", detail)
        if told and int(told[1]) <= size:  # it saw another one last: now we know which
            with self._store.transaction() as tx:
                tx.note_witness_size(row.key, int(told[1]))
            status, body = self._post(row.url, self._request(int(told[1]), size, note))
        if status != 200:
            raise Unavailable("witness-refused", f"it answered {status}")
        self.add(row.key, note, body)

    def _request(self, old: int, size: int, note: Note) -> bytes:
        proof = self._log.consistency(old, size)
        lines = "".join(f"{base64.b64encode(each).decode()}\n" for each in proof)
        bare = Note(note.text, note.signatures[:1])
        return f"old {old}\n{lines}\n".encode() + bare.encode()

    def add(self, witness: str, note: Note, lines: bytes) -> None:
        """Keep what ``witness`` (a verifier key) signed of ``note``, given as signature lines.

        Raises MalformedError, Rejected, :class:`Unavailable` (``witness-refused``) when none is this witness's.
        """
        try:
            text = lines.decode()
        except UnicodeDecodeError:
            raise MalformedError("cosignature: not UTF-8") from None
        found = tuple(NoteSignature.parse(line) for line in text.splitlines()[:16])
        key = parse_key(witness, COSIGNS)
        signed = [each for each in found if cosigned_by(Note(note.text, (each,)), [key])]
        if not signed:
            raise Unavailable("witness-refused", "it did not sign this checkpoint")
        if cosigned_by(Note(note.text, (signed[0],)), [key])[0].time > self._clock() + _AHEAD:
            raise Unavailable("witness-refused", "its clock is ahead")
        with self._store.transaction() as tx:
            tx.put_cosignature(Checkpoint.parse(note.text).size, witness, signed[0].encode().rstrip("\n"))

    def add_note(self, data: bytes, ring: Keyring) -> list[str]:
        """Keep the cosignatures on a checkpoint of this log, of any size that it had; the names of who signed.

        Raises MalformedError, Rejected, :class:`UsageError` (``checkpoint-unknown``, ``witness-unknown``).
        """
        given = verify_checkpoint(data, ring.key_list)
        head = self._store.head_at(given.size)
        if head is None or head.root != given.root:
            raise UsageError("checkpoint-unknown", "this log never had that checkpoint")
        keys = [parse_key(row.key, COSIGNS) for row in self._store.witnesses()]
        found = cosigned_by(given.note, keys)
        if not found:
            raise UsageError("witness-unknown", "no witness that is asked has cosigned it")
        for each in found:
            self.add(each.witness.encode(), given.note, _lines(given.note))
        return [each.witness.name for each in found]

    @staticmethod
    def _post(url: str, body: bytes) -> tuple[int, bytes]:
        data = bytearray()
        headers = {"Content-Type": "text/plain; charset=utf-8", "Accept-Encoding": "identity"}
        try:
            with (
                httpx2.Client(trust_env=False, timeout=SECONDS) as client,
                client.stream("POST", f"{url.rstrip('/')}/add-checkpoint", content=body, headers=headers) as response,
            ):
                for chunk in response.iter_raw():
                    data += chunk
                    if len(data) > MAX_NOTE:
                        raise Unavailable("witness-refused", "its answer is too long")
                return response.status_code, bytes(data)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise Unavailable("witness-unreachable", str(error)[:200] or type(error).__name__) from None


def _lines(note: Note) -> bytes:
    return "".join(each.encode() for each in note.signatures).encode()
