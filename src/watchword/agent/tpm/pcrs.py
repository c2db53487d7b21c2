"""Reading and extending PCRs: TPM 2.0 Library, Part 3, clause 22."""

from __future__ import annotations

from collections.abc import Mapping

from watchword.agent.tpm.commands import Channel, Code, Entity
from watchword.agent.tpm.errors import TpmError
from watchword.agent.tpm.sessions import Password
from watchword.errors import Unavailable
from watchword.wire.reader import Writer
from watchword.wire.tpm.algorithms import Alg, digest_size, hash_name
from watchword.wire.tpm.pcr import PcrSelection, PcrValues, Selections, encode_selections, parse_selections

__all__ = ["extend", "read_pcrs"]

_AT_ONCE = 8  # what TPML_DIGEST carries
_TRIES = 20


def read_pcrs(channel: Channel, selections: Selections) -> PcrValues:
    """The values of ``selections``, all of one moment: the update counter did not move between the first and last.

    Raises TpmError ``tpm-no-bank`` when the TPM does not have one of the banks or PCRs, and Unavailable when PCRs
    keep changing.
    """
    for _ in range(_TRIES):
        values = _read_once(channel, selections)
        if values is not None:
            return values
    raise Unavailable(
        "tpm-pcrs-moving", "PCRs changed each time they were read", hint="try again when the host is quieter"
    )


def _read_once(channel: Channel, selections: Selections) -> PcrValues | None:
    values: dict[Alg, dict[int, bytes]] = {}
    counters: set[int] = set()
    for selection in selections:
        bank = values.setdefault(selection.bank, {})
        wanted = selection.pcrs
        while wanted:
            counter, got = _read_some(channel, selection.bank, wanted[:_AT_ONCE])
            counters.add(counter)
            bank.update(got)
            wanted = tuple(pcr for pcr in wanted if pcr not in got)
    return values if len(counters) <= 1 else None


def _read_some(channel: Channel, bank: Alg, pcrs: tuple[int, ...]) -> tuple[int, dict[int, bytes]]:
    """One TPM2_PCR_Read: the update counter, and at least one of ``pcrs``."""
    asked = (PcrSelection(bank, pcrs),)
    reader = channel.run(Code.PCR_READ, (), encode_selections(asked)).reader("TPM2_PCR_Read")
    counter, selected, count = reader.u32(), parse_selections(reader), reader.u32()
    returned = [pcr for selection in selected if selection.bank == bank for pcr in selection.pcrs]
    if not returned or count == 0:
        raise TpmError(
            "tpm-no-bank",
            f"the TPM has no PCRs {', '.join(map(str, pcrs))} in a bank {hash_name(bank)}",
            hint="ask for a bank that this TPM has switched on",
        )
    if count != len(returned) or not set(returned) <= set(pcrs):
        raise reader.fail("returned other PCRs than those asked for")
    values = {pcr: reader.sized16(digest_size(bank), "PCR value") for pcr in returned}
    reader.finish()
    if any(len(value) != digest_size(bank) for value in values.values()):
        raise reader.fail("a PCR value has the wrong size")
    return counter, values


def extend(channel: Channel, pcr: int, digests: Mapping[Alg, bytes]) -> None:
    """TPM2_PCR_Extend ``pcr`` (0 to 23) in every bank that ``digests`` has a value for. Raises TpmError."""
    parameters = Writer().u32(len(digests))
    for alg, value in digests.items():
        if len(value) != digest_size(alg):
            raise ValueError(f"a {hash_name(alg)} digest has {digest_size(alg)} bytes, not {len(value)}")
        parameters.u16(alg).raw(value)
    channel.run(Code.PCR_EXTEND, (Entity.of(pcr),), parameters.done(), (Password(),))
