"""What the scenarios are made with: machines, makers, and the collection of what was made."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, cast

from msgspec.structs import replace

from watchword.conformance.scenario import (
    Anchor,
    Bank,
    Broken,
    Ek,
    Evidence,
    Expected,
    Inputs,
    Request,
    Scenario,
    Selection,
    Template,
)
from watchword.conformance.things import THINGS, differences
from watchword.testing.attack_suite.machine import AKS, Boot, Machine
from watchword.testing.ek_authority import EkAuthority
from watchword.testing.tpm_keys import TpmKeys
from watchword.verify.ek import EkClass
from watchword.wire.ima_log import ImaEntry
from watchword.wire.tcg_log import Event
from watchword.wire.tpm.algorithms import Alg, alg_by_name, hash_name
from watchword.wire.tpm.pcr import PcrSelection, PcrValues, Selections
from watchword.wire.tpm.public import Public
from watchword.wire.tpm.templates import EkKind

__all__ = [
    "BOOT_PCRS",
    "RUNTIME_PCRS",
    "TIME",
    "Bench",
    "asked",
    "changed",
    "claimed",
    "edited",
    "request",
    "template_of",
]

TIME = 1_790_000_000
BOOT_PCRS = (*range(10), 11)
RUNTIME_PCRS = tuple(range(12))


def _software_keys() -> dict[str, TpmKeys]:
    """Keys that sign whatever they are given, by the control that they sign."""
    return {"good-software": TpmKeys(), "good-software-rsa": TpmKeys(ak_scheme=Alg.RSASSA)}


@dataclass
class Bench:
    """The verifier's trust, an honest maker's machine under attack, and another one of that maker."""

    boots: Path
    scenarios: list[Scenario] = field(default_factory=list)
    makers: EkAuthority = field(default_factory=lambda: EkAuthority.create("Emulated TPM"))
    careless: EkAuthority = field(default_factory=lambda: EkAuthority.create("Careless", may_sign=False))
    silicon: EkAuthority = field(default_factory=lambda: EkAuthority.create("Silicon"))
    software: dict[str, TpmKeys] = field(default_factory=_software_keys)

    def __enter__(self) -> Bench:
        self.machine = Machine(self.makers)
        self.other = Machine(self.makers)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.machine.stop()
        self.other.stop()

    def recorded(self, name: str) -> Boot:
        return Boot.recorded(self.boots / name)

    @property
    def anchors(self) -> tuple[Anchor, ...]:
        """Whom the verifier trusts: also a maker whose intermediate authority may not sign, and one of hardware."""
        makers = ((self.makers, "virtual"), (self.careless, "virtual"), (self.silicon, "hardware"))
        return tuple(
            Anchor(ek_class=EkClass(name), label=f"maker {number}", certificate=each.root)
            for number, (each, name) in enumerate(makers, 1)
        )

    def enrolment(self, machine: Machine | None = None, template: Public = AKS["p256"]) -> Inputs:
        """An enrolment of ``machine`` as it should be."""
        machine = machine or self.machine
        ek = Ek(
            template=template_of(machine.kind), certificate=machine.certificate, intermediates=self.makers.intermediates
        )
        return Inputs(
            anchors=self.anchors,
            classes=(EkClass.VIRTUAL,),
            time=TIME,
            ek=ek,
            ak_public=machine.attestation_key(template).encode(),
            credential=machine.credential(template),
        )

    def evidence(self, boot: Boot, asked_for: Request, ak: Public = AKS["p256"]) -> Inputs:
        """Boot the machine, quote what was asked for, and send both logs."""
        self.machine.boot(boot)
        return replace(self.enrolment(template=ak), request=asked_for, evidence=self.quoted(boot, asked_for, ak))

    def quoted(self, boot: Boot, asked_for: Request, ak: Public = AKS["p256"]) -> Evidence:
        """The evidence of a machine that booted."""
        selections = asked(asked_for)
        attest, signature = self.machine.quote(ak, selections, asked_for.qualifying_data)
        runtime = boot.runtime.encode() if boot.runtime and 10 in asked_for.selection[0].pcrs else None
        pcrs = claimed(self.machine.values(selections))
        log = boot.events.encode()
        return Evidence(attest=attest, signature=signature, pcrs=pcrs, event_log=log, ima_log=runtime)

    def again(self, control: str, boot: Boot) -> Inputs:
        """The same request to the same machine after another boot."""
        inputs = self[control].inputs
        assert inputs.request is not None
        self.machine.boot(boot)
        return replace(inputs, evidence=self.quoted(boot, inputs.request))

    def control(self, name: str, title: str, inputs: Inputs) -> None:
        """Add good evidence."""
        expected = Expected(verdict="accept")
        self._add(Scenario(name=name, title=title, attack="", kind=_kind(inputs), expected=expected, inputs=inputs))

    def attack(self, name: str, attack: str, of: str, broken: tuple[str, str], inputs: Inputs, stopped_by: str) -> None:
        """Add ``inputs``, which differ from those of the control ``of`` in one thing, and how.

        ``stopped_by`` is clause and code; with an exclamation mark behind them the attack is unmistakable.
        """
        clause, code, *mark = stopped_by.split()
        thing, text = broken
        found = differences(inputs, self[of].inputs)
        assert found, f"{name} breaks nothing"
        assert found <= THINGS[thing], f"{name}: {sorted(found - THINGS[thing])} is no part of {thing}"
        expected = Expected(verdict="reject", clause=clause, code=code, unmistakable=bool(mark))
        self._add(
            Scenario(
                name=name,
                title=f"{attack[0].upper()}{attack[1:]}: {text}",
                attack=attack,
                kind=_kind(inputs),
                control=of,
                broken=Broken(thing=thing, text=text),
                expected=expected,
                inputs=inputs,
            )
        )

    def _add(self, scenario: Scenario) -> None:
        assert all(each.name != scenario.name for each in self.scenarios), scenario.name
        self.scenarios.append(scenario)

    def __getitem__(self, name: str) -> Scenario:
        return next(each for each in self.scenarios if each.name == name)


def _kind(inputs: Inputs) -> Literal["evidence", "enrolment"]:
    return "enrolment" if inputs.evidence is None else "evidence"


def template_of(kind: EkKind) -> Template:
    """The format's name for ``kind``."""
    return cast(Template, kind.name)


def request(pcrs: Sequence[int] = BOOT_PCRS, banks: Sequence[Bank] = ("sha256",), **more: Any) -> Request:
    """A request for ``pcrs`` of each bank, the last of which judges the logs."""
    data = hashlib.sha256(b"what the verifier asks the host to sign").digest()
    selection = tuple(Selection(bank=bank, pcrs=tuple(pcrs)) for bank in banks)
    return Request(qualifying_data=data, selection=selection, bank=selection[-1].bank, **more)


def asked(what: Request) -> Selections:
    """The selection as a TPM takes it."""
    return tuple(PcrSelection(alg_by_name(each.bank), each.pcrs) for each in what.selection)


def claimed(values: PcrValues) -> dict[str, dict[str, str]]:
    """PCR values as the format has them."""
    return {
        hash_name(alg): {str(pcr): value.hex() for pcr, value in sorted(bank.items())} for alg, bank in values.items()
    }


def changed(inputs: Inputs, **changes: Any) -> Inputs:
    """``inputs`` with changes to its evidence, or else its request, or else its EK."""
    for name in ("evidence", "request", "ek"):
        part = getattr(inputs, name)
        if part is not None and set(changes) <= set(part.__struct_fields__):
            return replace(inputs, **{name: replace(part, **changes)})
    return replace(inputs, **changes)


def edited(entries: Sequence[Event] | Sequence[ImaEntry], change: Callable[[list[Any]], object]) -> list[Any]:
    """A copy of ``entries`` after ``change``."""
    copy = list(entries)
    change(copy)
    return copy
