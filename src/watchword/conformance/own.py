"""Our own verifier over a scenario: the functions that an authority runs, in their order."""

from __future__ import annotations

from dataclasses import dataclass

from watchword.conformance.scenario import Evidence, Inputs, Request, Scenario
from watchword.errors import Finding, MalformedError, Rejected
from watchword.verify.ak import VerifiedAk, prove_ak, verify_ak_public
from watchword.verify.boot_log import verify_boot_log
from watchword.verify.ek import TrustAnchor, VerifiedEk, host_id, verify_ek, verify_pinned_ek
from watchword.verify.ima_continued import continued_pcrs
from watchword.verify.ima_log import RuntimeSeen, verify_ima_log
from watchword.verify.quote import LastSeen, verify_quote
from watchword.wire.ima_log import ImaLog
from watchword.wire.tcg_log import EventLog
from watchword.wire.tpm.algorithms import alg_by_name
from watchword.wire.tpm.pcr import PcrSelection, PcrValues
from watchword.wire.tpm.public import Public

__all__ = ["Answer", "judge"]

_MALFORMED = "evidence-malformed"  # what an authority calls a log that does not parse


@dataclass(frozen=True, slots=True)
class Answer:
    """What a verifier said. ``verdict`` is "accept", "reject", "unsupported" or, when it said nothing, "failed"."""

    verdict: str
    clause: str = ""
    code: str = ""
    reason: str = ""


def judge(scenario: Scenario) -> Answer:
    """Verify identity (A), then the quote (B), the boot log (C) and the runtime log (D), as far as there are any.

    What a stack or a profile demands (D5, E) is no part of it: a scenario has neither.
    """
    inputs = scenario.inputs
    try:
        ak = _identity(inputs)
    except MalformedError as error:
        return Answer("reject", "A1", error.code, error.message)
    except Rejected as error:
        return _refused(error.findings[0])
    if inputs.request is None or inputs.evidence is None:
        return Answer("accept")
    try:
        return _evidence(ak, inputs.request, inputs.evidence)
    except MalformedError as error:
        return Answer("reject", "C1", _MALFORMED, error.message)
    except Rejected as error:
        return _refused(error.findings[0])


def _refused(finding: Finding) -> Answer:
    return Answer("reject", finding.clause, finding.code, str(finding))


def _identity(inputs: Inputs) -> VerifiedAk:
    """A1 to A4, with the anchors and pins of the classes that are accepted."""
    ek = _ek(inputs)
    ak = Public.parse(inputs.ak_public)
    verify_ak_public(ak)
    return prove_ak(ek, ak, inputs.credential.expected, inputs.credential.answer)


def _ek(inputs: Inputs) -> VerifiedEk:
    if inputs.ek.certificate is None:
        pins = {
            host_id(Public.parse(pin.public)): pin.ek_class for pin in inputs.pins if pin.ek_class in inputs.classes
        }
        return verify_pinned_ek(Public.parse(inputs.ek.public or b""), pins)
    anchors = [
        TrustAnchor(anchor.certificate, anchor.ek_class, anchor.label)
        for anchor in inputs.anchors
        if anchor.ek_class in inputs.classes
    ]
    return verify_ek(inputs.ek.certificate, inputs.ek.intermediates, anchors, inputs.ek.kind, inputs.time)


def _evidence(ak: VerifiedAk, request: Request, evidence: Evidence) -> Answer:
    """B to D. Raises Rejected, and MalformedError for logs that do not parse."""
    last, seen, firmware = request.last_seen, request.runtime_seen, request.firmware_allowed
    quoted = verify_quote(
        attest=evidence.attest,
        signature=evidence.signature,
        pcrs=_values(evidence),
        ak=ak,
        binding=request.qualifying_data,
        selections=tuple(PcrSelection(alg_by_name(each.bank), each.pcrs) for each in request.selection),
        last=None if last is None else LastSeen(last.reset_count, last.restart_count, last.clock, last.safe),
        firmware_allowed=None if firmware is None else frozenset(int(version, 16) for version in firmware),
    )
    bank = alg_by_name(request.bank)
    assert isinstance(evidence.event_log, bytes)  # read_scenario put the blobs in
    boot = EventLog.parse(evidence.event_log)
    if evidence.ima_log is None:
        verify_boot_log(boot, quoted, bank)
        return Answer("accept")
    assert isinstance(evidence.ima_log, bytes)
    entries = ImaLog.parse(evidence.ima_log)
    left = verify_boot_log(boot, quoted, bank, continued_pcrs(entries)).left
    known = None if seen is None else RuntimeSeen(seen.reset_count, seen.entries, bytes.fromhex(seen.pcr10))
    continued = {bank: left} if left else {}
    found = verify_ima_log(entries, quoted, bank, max_ahead=request.max_ahead, seen=known, continued=continued)
    fatal = [finding for finding in found.findings if finding.fatal]
    return _refused(fatal[0]) if fatal else Answer("accept")


def _values(evidence: Evidence) -> PcrValues:
    try:
        return {
            alg_by_name(bank): {int(pcr): bytes.fromhex(value) for pcr, value in values.items()}
            for bank, values in evidence.pcrs.items()
        }
    except ValueError:
        raise MalformedError("a PCR is named by a number") from None
