"""Good evidence of every kind. Whoever rejects one of these is wrong, or cannot read it."""

from __future__ import annotations

import dataclasses

from msgspec.structs import replace

from watchword.conformance.scenario import Credential, Ek, Inputs, LastSeen, Pin, RuntimeSeen
from watchword.testing.attack_suite.bench import RUNTIME_PCRS, Bench, changed, request, template_of
from watchword.testing.attack_suite.machine import AKS, Machine
from watchword.testing.logs import measured, note
from watchword.testing.tpm_keys import TpmKeys
from watchword.verify.ek import EkClass
from watchword.wire.ima_log import ImaLog
from watchword.wire.ima_log import replay as replay_entries
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.attest import Attest
from watchword.wire.tpm.templates import EkKind

__all__ = ["SEEN", "add_controls", "further", "newline_path"]

SEEN = 6  # entries of the runtime log that were shown before
_STARTUP = b"StartupLocality\0"


def add_controls(bench: Bench) -> None:
    """Enrolments, keys and banks, boots, runtime logs, and what a verifier remembers."""
    _enrolments(bench)
    _keys_and_banks(bench)
    _boots(bench)
    _runtime(bench)
    _memory(bench)


def _enrolments(bench: Bench) -> None:
    bench.control("good-enrolment", "An EK on P-256 with a certificate, and an AK beside it", bench.enrolment())
    for kind in (EkKind.RSA2048, EkKind.P384):
        machine = Machine(bench.makers, kind)
        name = kind.name.lower()
        bench.control(f"good-enrolment-{name}", f"An EK of template {kind.name}", bench.enrolment(machine))
        machine.stop()
    public = bench.machine.ek.encode()
    pinned = replace(
        bench.enrolment(),
        ek=Ek(template="P256", certificate=None, public=public),
        pins=(Pin(ek_class=EkClass.VIRTUAL, public=public),),
    )
    bench.control("good-enrolment-pinned", "An EK without a certificate that the verifier wrote down", pinned)


def _keys_and_banks(bench: Bench) -> None:
    good = bench.recorded("good")
    for name, ak in AKS.items():
        inputs = bench.evidence(good, request(RUNTIME_PCRS), ak)
        bench.control(f"good-{name}", f"Boot and runtime of a whole machine, quoted by a key of kind {name}", inputs)
    inputs = bench.evidence(good, request(RUNTIME_PCRS, ["sha384"]))
    bench.control("good-sha384", "The same in the bank of SHA-384", inputs)
    inputs = bench.evidence(good.without_runtime(), request(banks=["sha1", "sha256"]))
    bench.control("good-two-banks", "One quote over the banks of SHA-1 and SHA-256", inputs)
    title = "The same boot with keys in software, which sign what no TPM would"
    for name, keys in bench.software.items():
        bench.control(name, title, _software(bench, bench["good-two-banks"].inputs, keys))


def _software(bench: Bench, base: Inputs, keys: TpmKeys) -> Inputs:
    """The quote of ``base`` by ``keys``, which the same maker certified."""
    assert base.evidence is not None
    data = Attest.parse(base.evidence.attest)
    attest = dataclasses.replace(data, qualified_signer=keys.ak.name()).encode()
    secret = bytes(range(32))
    certificate = bench.makers.issue(keys.ek)
    inputs = replace(
        base,
        ek=Ek(template=template_of(keys.kind), certificate=certificate, intermediates=bench.makers.intermediates),
        ak_public=keys.ak.encode(),
        credential=Credential(expected=secret, answer=secret),
    )
    return changed(inputs, attest=attest, signature=keys.sign(attest))


def _boots(bench: Bench) -> None:
    for name in ("good", "secure-boot-on", "secure-boot-off"):
        inputs = bench.evidence(bench.recorded(name).without_runtime(), request())
        label = "boot" if name == "good" else name
        bench.control(f"good-{label}", f"Only the boot, recording {name}", inputs)
    padded = changed(bench["good-boot"].inputs, event_log=_log(bench["good-boot"].inputs) + b"\xff" * 64)
    bench.control("good-padding", "Only the boot; the firmware hands out the unused end of its log as well", padded)
    good = bench.recorded("good").without_runtime()
    locality = note(_STARTUP + b"\3", banks=(Alg.SHA1, Alg.SHA256, Alg.SHA384, Alg.SHA512))
    inputs = bench.evidence(good.with_events([locality, *good.events.events]), request())
    bench.control("good-locality", "Only the boot; the firmware started the TPM from locality 3", inputs)


def _log(inputs: Inputs) -> bytes:
    assert inputs.evidence is not None
    assert isinstance(inputs.evidence.event_log, bytes)
    return inputs.evidence.event_log


def _runtime(bench: Bench) -> None:
    good = bench.recorded("good")
    for name, title in (("ima-sig", "Entries with signatures"), ("violation", "A violation, openly shown")):
        bench.control(f"good-{name}", title, bench.evidence(bench.recorded(name), request(RUNTIME_PCRS)))
    assert good.runtime is not None
    strange = measured(newline_path(good.runtime), b"whatever it is")
    inputs = bench.evidence(good.with_entries([*good.runtime.entries, strange]), request(RUNTIME_PCRS))
    title = "The name of a file is a line break and the text of another entry: one strange file, authentic"
    bench.control("good-newline", title, inputs)
    other = measured(b"/usr/bin/true", b"measured by a rule for another PCR")._replace(pcr=11)
    inputs = bench.evidence(good.with_entries([*good.runtime.entries, other]), request(RUNTIME_PCRS))
    title = "The kernel measured a file into PCR 11, behind what the boot measured there; that PCR is quoted too"
    bench.control("good-other-pcr", title, inputs)
    ahead = bench.evidence(good, request(RUNTIME_PCRS, max_ahead=2))
    bench.control("good-ahead", "Two more entries were logged after the quote", further(ahead, 2))


def newline_path(log: ImaLog) -> bytes:
    """A path that shows in the readable log as the end of one line and all of another."""
    shown = log.entries[3]
    file = shown.file()
    line = f"10 {shown.digest.hex()} ima-ng {file.algorithm}:{file.digest.hex()} ".encode()
    return b"/usr/bin/true\n" + line + file.path


def further(inputs: Inputs, count: int) -> Inputs:
    """The last entry ``count`` times more, behind what was quoted."""
    assert inputs.evidence is not None
    assert isinstance(inputs.evidence.ima_log, bytes)
    log = ImaLog.parse(inputs.evidence.ima_log)
    longer = dataclasses.replace(log, entries=(*log.entries, *[log.entries[-1]] * count))
    return changed(inputs, ima_log=longer.encode())


def _memory(bench: Bench) -> None:
    """The verifier saw this TPM a minute ago, when the log had a few entries less, and names the firmware it allows."""
    good = bench.recorded("good")
    inputs = bench.evidence(good, request(RUNTIME_PCRS))
    assert inputs.evidence is not None
    assert good.runtime is not None
    data = Attest.parse(inputs.evidence.attest)
    info = data.clock_info
    value = replay_entries(ImaLog(20, good.runtime.entries[:SEEN]), Alg.SHA256)[10].hex()
    inputs = changed(
        inputs,
        last_seen=LastSeen(
            reset_count=info.reset_count, restart_count=info.restart_count, clock=max(info.clock - 60_000, 0), safe=True
        ),
        runtime_seen=RuntimeSeen(reset_count=info.reset_count, entries=SEEN, pcr10=value),
        firmware_allowed=(f"{data.firmware_version:016x}",),
    )
    bench.control("good-memory", "A host that was seen before in this boot, with a firmware that is allowed", inputs)
