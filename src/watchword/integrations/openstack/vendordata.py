"""Answers nova: nothing for machines that ask for nothing, a key, or why there is none and whose fault that is."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

from watchword.agent.shares import check_bundle
from watchword.errors import MalformedError, WatchwordError
from watchword.integrations.openstack import cloudconfig
from watchword.integrations.openstack.builds import Builds, Deadline, is_request_at_fault
from watchword.integrations.openstack.request import VendordataRequest
from watchword.integrations.openstack.server import Answer, log, log_error, problem
from watchword.integrations.reasons import reason
from watchword.wire.trace import launch_trace, traced

__all__ = ["Callers", "VendordataService"]


class Callers(Protocol):
    """Who may ask, by the token of the identity service that comes with the request."""

    def check(self, token: str, deadline: Deadline) -> None:
        """Raise :class:`Rejected` or :class:`Unavailable` unless ``token`` is that of an allowed caller."""


class VendordataService:
    """``on_refusal`` "boot" answers a refused launch so that it boots visibly untrusted, "fail" so that it does not.

    ``deadline`` is in seconds for each answer; ``callers`` None takes everybody whom the server let through;
    ``report(instance, error)`` is told of every launch that gets no secret.
    """

    def __init__(
        self,
        builds: Builds,
        *,
        deadline: float,
        on_refusal: str,
        report: Callable[[str, WatchwordError], None],
        callers: Callers | None = None,
    ) -> None:
        self._report = report
        self._builds = builds
        self._deadline = deadline
        self._on_refusal = on_refusal
        self._callers = callers

    def answer(self, body: bytes, auth_token: str) -> Answer:
        """The answer to one request, whatever happens: an exception never leaves."""
        deadline = Deadline(self._deadline)
        instance = ""
        try:
            if self._callers is not None:
                self._callers.check(auth_token, deadline)
            request = VendordataRequest.parse(body)
            instance = request.instance
            if request.token is None:
                return Answer(HTTPStatus.OK, b"{}")
            with traced(launch_trace(request.token)):
                return self._launch(request, deadline)
        except MalformedError as error:
            log_error("vendordata-malformed", error, instance=instance)
            return problem(HTTPStatus.BAD_REQUEST, error.code, error.message)
        except WatchwordError as error:
            return self._failed(error, instance)
        except Exception as error:  # noqa: BLE001  # a bug of ours must not boot a machine half done
            log("vendordata-bug", instance=instance, error=type(error).__name__)
            return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "the agent failed; see its log")

    def _launch(self, request: VendordataRequest, deadline: Deadline) -> Answer:
        assert request.token is not None
        try:
            check_bundle(request.token)
        except MalformedError as error:
            return self._refused(error, request.instance)
        try:
            with traced(launch_trace(request.token)):
                key = self._builds.key(request, deadline)
        except MalformedError as error:
            return self._failed(error, request.instance)
        except WatchwordError as error:
            if is_request_at_fault(error):
                return self._refused(error, request.instance)
            return self._failed(error, request.instance)
        trace = launch_trace(request.token)
        log("vendordata-released", instance=request.instance, trace=trace, ssh_fingerprint=key.fingerprint)
        return Answer(HTTPStatus.OK, cloudconfig.released(key, request.instance))

    def _refused(self, error: WatchwordError, instance: str) -> Answer:
        log_error("vendordata-refused", error, instance=instance)
        self._report(instance, error)
        if self._on_refusal == "fail":
            return problem(HTTPStatus.FORBIDDEN, error.code, error.message, reason(error))
        return Answer(HTTPStatus.OK, cloudconfig.refused(error, instance), error.code)

    def _failed(self, error: WatchwordError, instance: str) -> Answer:
        """This host's own failure: nova tries another one."""
        log_error("vendordata-failed", error, instance=instance)
        if error.code == "caller-unknown":
            return problem(HTTPStatus.UNAUTHORIZED, error.code, error.message, reason(error))
        self._report(instance, error)
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, error.code, error.message, reason(error))
