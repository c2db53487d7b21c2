"""Somebody else's verifier: a command that is started once for each scenario.

It gets ``Scenario.question()`` on standard input and answers with one JSON object on standard output; its standard
error is ours. It runs with our rights: whoever names the command trusts it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from typing import Literal

import msgspec

from watchword.conformance.own import Answer
from watchword.conformance.scenario import Scenario
from watchword.errors import UsageError

__all__ = ["Verifier"]

_MAX_ANSWER = 64 << 10  # bytes


class _Said(msgspec.Struct, frozen=True):
    """The answer; members that we do not know are the other side's business."""

    verdict: Literal["accept", "reject", "unsupported"]
    reason: str = ""


class Verifier:
    """A verifier behind a command line."""

    def __init__(self, command: str, timeout: float) -> None:
        """``command`` is split like a shell does, and no shell sees it; it has ``timeout`` seconds for one scenario.

        Raises UsageError (``verifier-command``) when there is no such program.
        """
        try:
            self._command = shlex.split(command)
        except ValueError as error:
            raise UsageError("verifier-command", f"the command cannot be read: {error}") from None
        if not self._command or shutil.which(self._command[0]) is None:
            raise UsageError("verifier-command", "there is no such program", hint="give --verifier 'PROGRAM ARGUMENT…'")
        self._timeout = timeout

    def judge(self, scenario: Scenario) -> Answer:
        """Ask it. Whatever is not a clear answer in time is "failed", with the reason."""
        with tempfile.TemporaryFile() as output:
            status = self._run(scenario.question(), output.fileno())
            output.seek(0)
            answer = output.read(_MAX_ANSWER + 1)
        if status is None:
            return Answer("failed", reason=f"no answer within {self._timeout:g} seconds")
        if status:
            return Answer("failed", reason=f"it ended with status {status}")
        if len(answer) > _MAX_ANSWER:
            return Answer("failed", reason=f"an answer of more than {_MAX_ANSWER} bytes")
        try:
            said = msgspec.json.decode(answer, type=_Said)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return Answer("failed", reason=f"not an answer: {error}")
        return Answer(said.verdict, reason=said.reason)

    def _run(self, question: bytes, output: int) -> int | None:
        """Its exit status; None when it did not end in time."""
        # A session of its own, so that all of it can be ended, not only what was started first.
        with subprocess.Popen(  # noqa: S603 - the command is the caller's own
            self._command, stdin=subprocess.PIPE, stdout=output, start_new_session=True
        ) as process:
            try:
                process.communicate(question, self._timeout)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                return None
        return process.returncode
