"""This host for one exchange: its TPM open, a way to the authority, and its id. One at a time in this process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from watchword.agent.config import Config, Enrolment
from watchword.agent.host import Host
from watchword.agent.tpm.client import Tpm
from watchword.agent.transport import DEFAULT_TIMEOUT
from watchword.errors import Unavailable, UsageError
from watchword.integrations.openstack.builds import Deadline

__all__ = ["Opener"]


class Opener:
    """Settings, keys and enrolment are read anew each time: a change of them needs no restart."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._turn = threading.Lock()

    @contextlib.contextmanager
    def __call__(self, seconds: float) -> Iterator[tuple[Host, bytes]]:
        """The host and its id, for an exchange that must be over in ``seconds``.

        Raises :class:`UsageError` (``not-enrolled``, ``authority-unset``), :class:`Unavailable` (``agent-busy``,
        ``tpm-unreachable``).
        """
        config, deadline = self._config, Deadline(seconds)
        enrolment = Enrolment.read(config.state)
        if enrolment is None:
            raise UsageError("not-enrolled", "this host is not enrolled", hint="Enrol it: watchword agent enrol")
        config.pinned()  # before anybody waits for the TPM
        if not self._turn.acquire(timeout=deadline.left):
            raise Unavailable("agent-busy", "another exchange of this host with the authority takes too long")
        try:
            deadline.check()
            timeout = min(DEFAULT_TIMEOUT, deadline.left)
            with (
                config.links(timeout) as (first, *others),
                Tpm.open(config.tpm, ek_kind=enrolment.ek_kind) as tpm,
            ):
                lock = config.state / "lock"
                host = Host(
                    tpm, first.exchange, first.keys, enrolment.ek_kind, config.event_log, config.runtime_log, lock,
                    tuple(others),
                )  # fmt: skip
                yield host, enrolment.host_id
        finally:
            self._turn.release()
