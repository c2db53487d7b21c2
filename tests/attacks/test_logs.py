"""Attacks on the logs behind a good quote (clauses C1 to C6, D1 to D6)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from watchword.testing.logs import ima_entry, measured
from watchword.testing.world import TestHost, profile_document, stack_from_recording
from watchword.wire.ima_log import IMA_PCR, ImaEntry, ImaLog, encode_entry, template_digest
from watchword.wire.messages import Release
from watchword.wire.tcg_log import Event, EventLog, EventType
from watchword.wire.tpm.algorithms import Alg, digest
from watchword.wire.uefi import GLOBAL_VARIABLE, UefiVariable

from .helpers import Attempt, Bench, attempt, tamper, with_events

BANKS = (Alg.SHA1, Alg.SHA256, Alg.SHA384, Alg.SHA512)
SECURE_BOOT_ON = UefiVariable(GLOBAL_VARIABLE, "SecureBoot", b"\1").encode()


def measure_event(host: TestHost, pcr: int, kind: int, data: bytes) -> None:
    """Whoever runs after the firmware measures what it likes: into the TPM and into the log."""
    host.machine.extend(pcr, data)
    path = host.machine.event_log_path
    log = EventLog.parse(path.read_bytes())
    event = Event(len(log.events), pcr, kind, tuple((alg, digest(alg, data)) for alg in BANKS), data)
    path.write_bytes(replace(log, events=(*log.events, event), padding=b"").encode())


def find(log: EventLog, pcr: int, kind: int) -> int:
    return next(i for i, event in enumerate(log.events) if event.pcr == pcr and event.type == kind)


# --- the firmware's log ---------------------------------------------------------------------------------------------


def test_event_data_that_does_not_match_its_digest(bench: Bench) -> None:
    """event data that does not match its digest (C3)"""
    token = bench.world.token()
    made = attempt(bench.evil, token)

    def switch_on(events: list[Event]) -> None:
        place = find(made.events, 7, EventType.EFI_VARIABLE_DRIVER_CONFIG)
        events[place] = replace(events[place], data=SECURE_BOOT_ON)

    lie = with_events(made.events, switch_on)
    bench.refused(token, "C3", "boot-log-data", lambda: made.send(event_log=lie))


def test_event_type_rewritten(bench: Bench) -> None:
    """event type rewritten: a variable of the Secure Boot policy that is called something else (C4)"""
    token = bench.world.token()
    made = attempt(bench.evil, token)

    def rename(events: list[Event]) -> None:
        place = find(made.events, 7, EventType.EFI_VARIABLE_DRIVER_CONFIG)
        events[place] = replace(events[place], type=EventType.IPL)

    lie = with_events(made.events, rename)
    bench.refused(token, "C4", "boot-log-pcr-type", lambda: made.send(event_log=lie))


def test_event_type_of_another_pcr(bench: Bench) -> None:
    """event type rewritten: a type that has no business in its PCR (C4)"""
    token = bench.world.token()
    made = attempt(bench.evil, token)

    def rename(events: list[Event]) -> None:
        place = next(i for i, e in enumerate(events) if e.pcr == 9 and e.type != EventType.NO_ACTION)
        events[place] = replace(events[place], type=EventType.EFI_BOOT_SERVICES_APPLICATION)

    lie = with_events(made.events, rename)
    bench.refused(token, "C4", "boot-log-pcr-type", lambda: made.send(event_log=lie))


def test_event_type_rewritten_to_no_action(bench: Bench) -> None:
    """event type rewritten: an event declared a mere note does not replay (C2)"""
    token = bench.world.token()
    made = attempt(bench.evil, token)

    def silence(events: list[Event]) -> None:
        place = next(i for i, e in enumerate(events) if e.pcr == 4 and e.type != EventType.NO_ACTION)
        events[place] = replace(events[place], type=EventType.NO_ACTION)

    lie = with_events(made.events, silence)
    bench.refused(token, "C2", "boot-log-replay", lambda: made.send(event_log=lie))


def test_secure_boot_hidden_by_type(fresh: Bench) -> None:
    """event type rewritten: the state of Secure Boot is unknown then, which is never good enough (E5)"""
    world = fresh.world
    world.add_stack(stack_from_recording(world.boots / "secure-boot-on", version="sb", serial=2))
    world.add_profile(profile_document(secure_boot=True))
    on, token = world.host("secure-boot-on"), world.token()
    made = attempt(on, token)

    def rename(events: list[Event]) -> None:
        place = find(made.events, 7, EventType.EFI_VARIABLE_DRIVER_CONFIG)
        events[place] = replace(events[place], type=EventType.EFI_ACTION)

    lie = with_events(made.events, rename)
    attack = partial(made.send, event_log=lie)
    fresh.refused(token, "E5", "secure-boot", attack, suspect=on, learns=True, still_good=False)
    assert on.obtain(token).secret == token.body.secret


def test_secure_boot_off(fresh: Bench) -> None:
    """untrusted-host launch: Secure Boot is off where the profile wants it on (E5)"""
    world = fresh.world
    world.add_profile(profile_document(secure_boot=True))
    token = world.token()
    fresh.refused(token, "E5", "secure-boot", attempt(fresh.evil, token).send, learns=True, still_good=False)


def test_events_after_the_separator(fresh: Bench) -> None:
    """events after the separator: "Secure Boot is on", measured by whoever was loaded (C5)"""
    off = fresh.world.host("secure-boot-off")
    measure_event(off, 7, EventType.EFI_VARIABLE_DRIVER_CONFIG, SECURE_BOOT_ON)
    token = fresh.world.token()
    fresh.refused(token, "C5", "boot-log-after-separator", attempt(off, token).send, suspect=off)


def test_duplicate_separator(fresh: Bench) -> None:
    """duplicate separator (C5)"""
    measure_event(fresh.evil, 7, EventType.SEPARATOR, bytes(4))
    token = fresh.world.token()
    fresh.refused(token, "C5", "boot-log-separator", attempt(fresh.evil, token).send)


def test_separator_under_another_name(fresh: Bench) -> None:
    """duplicate separator: told by its digest, whatever its type says (C5)"""
    measure_event(fresh.evil, 7, EventType.EFI_ACTION, bytes(4))
    token = fresh.world.token()
    fresh.refused(token, "C5", "boot-log-separator", attempt(fresh.evil, token).send)


def test_one_more_event(fresh: Bench) -> None:
    """untrusted-host launch: the good boot, and one more thing measured after it (E2)"""
    measure_event(fresh.evil, 11, EventType.IPL, b"one more")
    token = fresh.world.token()
    fresh.refused(token, "E2", "stack-none", attempt(fresh.evil, token).send, learns=True)


@pytest.mark.parametrize("keep", [0, 40, 5000, -1])
def test_boot_log_cut_short_inside_an_event(bench: Bench, keep: int) -> None:
    """log cut short (C1)"""
    token = bench.world.token()
    made = attempt(bench.evil, token)
    bench.refused(token, "C1", "evidence-malformed", lambda: made.send(event_log=made.evidence.event_log[:keep]))


def test_boot_log_cut_short_between_events(bench: Bench) -> None:
    """log cut short (C2)"""
    token = bench.world.token()
    made = attempt(bench.evil, token)
    lie = with_events(made.events, lambda events: events.pop())
    bench.refused(token, "C2", "boot-log-replay", lambda: made.send(event_log=lie))


def test_boot_log_of_a_good_host(bench: Bench) -> None:
    """untrusted-host launch: a bad boot behind the log of a good one (C2)"""
    bad, token = bench.world.host("kernel"), bench.world.token()
    good_log = attempt(bench.honest, token).evidence.event_log
    made = attempt(bad, token)
    bench.refused(token, "C2", "boot-log-replay", lambda: made.send(event_log=good_log), suspect=bad)


def test_boot_log_without_the_bank(bench: Bench) -> None:
    """log cut short: to the digests of another bank (C2)"""
    token = bench.world.token()
    made = attempt(bench.evil, token)
    log = made.events
    assert log.spec is not None
    weak = EventLog(
        replace(log.spec, algorithms=((Alg.SHA1, 20),)),
        tuple(replace(event, digests=tuple(d for d in event.digests if d[0] == Alg.SHA1)) for event in log.events),
    ).encode()
    bench.refused(token, "C2", "boot-log-bank", lambda: made.send(event_log=weak))


# --- the kernel's log -----------------------------------------------------------------------------------------------


def edited(made: Attempt, change: Callable[[list[ImaEntry]], object]) -> bytes:
    entries = list(made.runtime.entries)
    change(entries)
    return replace(made.runtime, entries=tuple(entries)).encode()


def test_ima_entry_altered(bench: Bench) -> None:
    """IMA entry altered: its data, and not its digest (D2)"""
    token = bench.world.token()
    made = attempt(bench.evil, token)
    lie = edited(made, lambda entries: entries.__setitem__(5, entries[5]._replace(data=entries[6].data)))
    bench.refused(token, "D2", "runtime-log-digest", lambda: made.send(ima_log=lie))


def test_ima_entry_replaced(bench: Bench) -> None:
    """IMA entry altered: its data and its digest (D3)"""
    token = bench.world.token()
    made = attempt(bench.evil, token)
    lie = edited(made, lambda entries: entries.__setitem__(5, entries[6]))
    bench.refused(token, "D3", "runtime-log-replay", lambda: made.send(ima_log=lie))


@pytest.mark.parametrize("place", [1, 5, -1])
def test_ima_entry_dropped(bench: Bench, place: int) -> None:
    """IMA entry dropped, or the log cut short behind an entry (D3)"""
    token = bench.world.token()
    made = attempt(bench.evil, token)
    lie = edited(made, lambda entries: entries.pop(place))
    bench.refused(token, "D3", "runtime-log-replay", lambda: made.send(ima_log=lie))


def test_ima_entries_reordered(bench: Bench) -> None:
    """IMA entry reordered (D3)"""
    token = bench.world.token()
    made = attempt(bench.evil, token)
    lie = edited(made, lambda entries: entries.insert(3, entries.pop(7)))
    bench.refused(token, "D3", "runtime-log-replay", lambda: made.send(ima_log=lie))


def test_ima_entry_inserted_elsewhere(bench: Bench) -> None:
    """IMA entry altered: a good file claimed under another quoted PCR, which that PCR says nothing of (D3)"""
    token = bench.world.token()
    made = attempt(bench.evil, token)
    lie = edited(made, lambda entries: entries.insert(3, entries[4]._replace(pcr=11)))
    bench.refused(token, "D3", "runtime-log-replay", lambda: made.send(ima_log=lie))


def run_entry(host: TestHost, entry: ImaEntry) -> None:
    """The kernel measures this: into the TPM and into its log."""
    with host.machine.tpm.client() as tpm:
        tpm.extend(entry.pcr, {bank: template_digest(entry, bank) for bank in BANKS})
    with host.machine.ima_log_path.open("ab") as log:
        log.write(encode_entry(entry))


def test_ima_entry_in_another_pcr(fresh: Bench) -> None:
    """untrusted-host launch: a program that the kernel was told to measure into another PCR (D5)"""
    run_entry(fresh.evil, measured(b"/usr/bin/evil", b"evil")._replace(pcr=11))
    token = fresh.world.token()
    made = attempt(fresh.evil, token)
    hidden = edited(made, lambda entries: entries.pop())
    fresh.refused(token, "C2", "boot-log-replay", lambda: made.send(ima_log=hidden), still_good=False)
    token = fresh.world.token()
    fresh.refused(token, "D5", "runtime-file", attempt(fresh.evil, token).send, learns=True, still_good=False)


def test_signer_added_by_the_host(fresh: Bench) -> None:
    """untrusted-host launch: the host loads a key of its own and signs its program with it (D5)"""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "signer")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(365))
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    run_entry(fresh.evil, ima_entry("ima-buf", b"sha256:\0" + digest(Alg.SHA256, certificate), b".ima\0", certificate))
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    blob = key.sign(digest(Alg.SHA256, b"evil"), ec.ECDSA(Prehashed(hashes.SHA256())))
    header = struct.pack(">BBB4sH", 3, 2, 4, digest(Alg.SHA1, point)[-4:], len(blob))
    run_entry(fresh.evil, measured(b"/usr/bin/evil", b"evil", signature=header + blob))
    token = fresh.world.token()
    fresh.refused(token, "D5", "runtime-key", attempt(fresh.evil, token).send, learns=True)
    assert [f.code for f in fresh.world.decisions(token)[0].findings][:2] == ["runtime-key", "runtime-file"]


def test_no_ima_log(bench: Bench) -> None:
    """log cut short: to nothing (C1, the code of every log that does not parse)"""
    token = bench.world.token()
    made = attempt(bench.evil, token)
    bench.refused(token, "C1", "evidence-malformed", lambda: made.send(ima_log=b""))


def test_ima_log_cut_short_inside_an_entry(bench: Bench) -> None:
    """log cut short: the kernel's (C1, the code of every log that does not parse)"""
    token = bench.world.token()
    made = attempt(bench.evil, token)
    bench.refused(token, "C1", "evidence-malformed", lambda: made.send(ima_log=made.evidence.ima_log[:-1]))


def test_log_ahead_of_the_quote_by_more_than_allowed(fresh: Bench) -> None:
    """log ahead of the quote by more than allowed (D3)"""
    world = fresh.world
    document = profile_document().replace(b'"levels"', b'"max_log_ahead": 2, "levels"')
    world.add_profile(document)
    token = world.token()
    made = attempt(fresh.evil, token)
    extra = made.runtime.entries[-1]
    ahead = edited(made, lambda entries: entries.extend([extra] * 3))
    fresh.refused(token, "D3", "runtime-log-ahead", lambda: made.send(ima_log=ahead))
    token = world.token()
    made = attempt(fresh.evil, token)
    as_allowed = edited(made, lambda entries: entries.extend([extra] * 2))
    assert isinstance(made.send(ima_log=as_allowed), Release)


def test_log_that_does_not_continue(fresh: Bench) -> None:
    """IMA entry dropped: what was shown before in this boot is not in the log any more (D6)

    PCR 10 cannot go back, so nobody can quote this: the authority's record is what the attacker bends.
    """
    world, token = fresh.world, fresh.world.token()
    fresh.evil.obtain(world.token())
    tamper(world, "update runtime_seen set entries = entries - 3 where host_id = ?", fresh.evil.host_id)
    fresh.refused(token, "D6", "runtime-log-truncated", attempt(fresh.evil, token).send)


def test_boot_aggregate_of_another_boot(fresh: Bench) -> None:
    """IMA entry altered: the runtime log of a good boot, replayed after a bad one (D4)"""
    bad, token = fresh.world.host("kernel"), fresh.world.token()
    good_log = attempt(fresh.honest, token).evidence.ima_log
    bad.machine.reboot(fresh.world.boots / "kernel")
    rebuild_pcr10(bad, good_log, fresh)
    made = attempt(bad, token)
    fresh.refused(token, "D4", "runtime-log-aggregate", lambda: made.send(ima_log=good_log), suspect=bad)


def rebuild_pcr10(host: TestHost, ima_log: bytes, fresh: Bench) -> None:
    """A kernel without IMA lets its owner build PCR 10 from zero."""
    tpm = host.machine.tpm
    tpm.reset()
    log = EventLog.parse((fresh.world.boots / "kernel" / "eventlog.bin").read_bytes())
    with tpm.client() as client:
        for event in log.events:
            if event.type != EventType.NO_ACTION:
                client.extend(event.pcr, {Alg(alg): value for alg, value in event.digests})
        for entry in ImaLog.parse(ima_log).entries:
            client.extend(IMA_PCR, {Alg.SHA256: template_digest(entry, Alg.SHA256)})


def test_altered_binary(bench: Bench) -> None:
    """untrusted-host launch: the good boot, and a program of it was changed (D5)"""
    bad, token = bench.world.host("altered-binary"), bench.world.token()
    bench.refused(token, "D5", "runtime-file", attempt(bad, token).send, suspect=bad, learns=True)


def test_file_name_with_a_newline(fresh: Bench) -> None:
    """file name with a newline: it is one strange file, not two good ones (D5)"""
    good = fresh.evil.use(lambda host: ImaLog.parse(host.runtime_log.read_bytes())).entries[3].file()
    name = good.path + b"\n10 " + good.digest.hex().encode() + b" ima-ng sha256:" + good.path
    fresh.evil.machine.run_file(name, b"evil")
    token = fresh.world.token()
    fresh.refused(token, "D5", "runtime-file", attempt(fresh.evil, token).send, learns=True)
    finding = fresh.world.decisions(token)[0].findings[0]
    assert finding.subject == f"file hex:{name.hex()}"[:400]


def test_violation(fresh: Bench) -> None:
    """violation hidden: shown, it is refused (D5)"""
    world = fresh.world
    world.add_stack(stack_from_recording(world.boots / "violation", version="2", serial=2))  # lists all files of it
    bad, token = world.host("violation"), world.token()
    fresh.refused(token, "D5", "runtime-violation", attempt(bad, token).send, suspect=bad, learns=True)


@pytest.mark.parametrize("how", ["dropped", "repaired"])
def test_violation_hidden(bench: Bench, how: str) -> None:
    """violation hidden: dropped, or given the digest that it should have had (D3)"""
    bad, token = bench.world.host("violation"), bench.world.token()
    made = attempt(bad, token)
    place, entry = next((i, entry) for i, entry in enumerate(made.runtime.entries) if entry.violation)
    repaired = [entry._replace(digest=digest(Alg.SHA1, entry.data))] if how == "repaired" else []
    lie = edited(made, lambda entries: entries.__setitem__(slice(place, place + 1), repaired))
    bench.refused(token, "D3", "runtime-log-replay", lambda: made.send(ima_log=lie), suspect=bad)
