"""Looks at everything that a launch on this host needs, without asking anybody else."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from watchword.agent.config import Config, Enrolment
from watchword.agent.tpm.client import Tpm
from watchword.errors import WatchwordError
from watchword.wire.tpm.algorithms import hash_name
from watchword.wire.tpm.templates import EkKind

__all__ = ["Status", "report"]

_LISTED = (EkKind.P256, EkKind.P384, EkKind.RSA2048)


@dataclass(slots=True)
class Status:
    """What was found, one value per topic, and the ``problems`` that stand in the way of a launch."""

    tpm: dict[str, Any] = field(default_factory=dict)
    logs: dict[str, Any] = field(default_factory=dict)
    authority: dict[str, Any] = field(default_factory=dict)
    enrolment: dict[str, Any] = field(default_factory=dict)
    problems: list[dict[str, str]] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        """Whether a launch could work."""
        return not self.problems

    def add(self, code: str, message: str, hint: str = "") -> None:
        self.problems.append({"code": code, "message": message, "hint": hint})

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "ready": self.ready,
            "tpm": self.tpm,
            "logs": self.logs,
            "authority": self.authority,
            "enrolment": self.enrolment,
            "problems": self.problems,
        }

    def text(self) -> str:
        """For people."""
        lines = [f"ready: {'yes' if self.ready else 'no'}"]
        for topic, values in (
            ("tpm", self.tpm),
            ("logs", self.logs),
            ("authority", self.authority),
            ("enrolment", self.enrolment),
        ):
            lines += [f"{topic} {name}: {_plain(value)}" for name, value in values.items()]
        for problem in self.problems:
            lines.append(f"problem: {problem['message']}")
            if problem["hint"]:
                lines.append(f"  hint: {problem['hint']}")
        return "\n".join(lines)


def report(config: Config) -> Status:
    """The state of this host under ``config``; never raises for what it finds."""
    status = Status()
    for look in (_tpm, _logs, _authority, _enrolment):
        try:
            look(config, status)
        except WatchwordError as error:
            status.add(error.code, error.message, error.hint)
    return status


def _tpm(config: Config, status: Status) -> None:
    status.tpm["address"] = config.tpm
    with Tpm.open(config.tpm) as tpm:
        clock = tpm.read_clock()
        status.tpm["reset_count"] = clock.reset_count
        status.tpm["banks"] = [hash_name(bank.bank) for bank in tpm.banks() if bank.pcrs]
        status.tpm["ek_certificates"] = [kind.name.lower() for kind in _LISTED if tpm.read_ek_certificate(kind)]


def _logs(config: Config, status: Status) -> None:
    for name, path in (("event_log", config.event_log), ("runtime_log", config.runtime_log)):
        readable = _readable(path)
        status.logs[name] = str(path)
        if not readable:
            status.add(
                "log-unreadable",
                f"{path} cannot be read",
                "It needs root and a mounted securityfs; for the runtime log also a kernel that measures.",
            )


def _readable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.R_OK)


def _authority(config: Config, status: Status) -> None:
    status.authority["way"] = f"relay {config.relay}" if config.relay else "direct"
    keys, *others = config.pinned()
    status.authority["name"] = keys.authority
    status.authority["keys_version"] = keys.version
    if others:
        status.authority["others"] = [each.authority for each in others]
    with config.links():
        pass


def _enrolment(config: Config, status: Status) -> None:
    enrolment = Enrolment.read(config.state)
    if enrolment is None:
        status.add("not-enrolled", "this host is not enrolled", "Enrol it: watchword agent enrol")
        return
    status.enrolment["host_id"] = enrolment.host_id.hex()
    status.enrolment["ek"] = enrolment.ek_kind.name.lower()


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
