"""One build of one machine on this host: from nova's question to the vendor data that goes onto its config drive.

Nova asks six times for each config drive, and again after the agent was restarted. A build is known by everything that
it is made from: instance, token, user-data, and the very files that the domain boots. The same build gets the same
answer for as long as the machine did not start; a rebuild, rescue or evacuation is another build, and whether it gets
a secret is the authority's to decide.

What is kept on disk is the release as the authority sealed it: this TPM opens it, in this boot, for two minutes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from watchword.agent.host import Host
from watchword.agent.images import DigestCache, HeldImage, State
from watchword.agent.inputs import check_inputs
from watchword.agent.shares import Kept, check_bundle, obtain, reopen
from watchword.agent.turn import in_turn
from watchword.crypto.envelope import LaunchSecret
from watchword.crypto.ssh_key import SshHostKey, derive
from watchword.errors import Finding, MalformedError, Rejected, Unavailable, WatchwordError
from watchword.integrations.libvirt.domain import Domain
from watchword.integrations.openstack.request import VendordataRequest
from watchword.integrations.openstack.server import log_error
from watchword.wire.inputs import DISK, USER_DATA, inputs_digest
from watchword.wire.messages import Release, encode_reply, parse_reply

__all__ = ["Build", "Builds", "Deadline", "HostOpener", "is_request_at_fault"]

_KEEP = 300.0  # seconds that an answer is repeated to nova, at most: until the machine starts
_WAITS = 3600.0  # seconds after the release in which the next start is the first one
_MAX_BUILDS = 256
_MAX_RECORD = 64 * 1024
HostOpener = Callable[[float], AbstractContextManager[tuple[Host, bytes]]]


# What no other host would decide differently: the token, or what the machine is made from.
_REQUEST_CLAUSES = frozenset({"F1", "F3", "F4", "F6", "L1", "L2"})
_REQUEST_CODES = frozenset({"profile-unknown"})
_HOST_CODES = frozenset({"disk-changed"})


def is_request_at_fault(error: WatchwordError) -> bool:
    """Whether trying another host is of no use. Decides how nova is answered, and nothing about trust."""
    if not isinstance(error, Rejected) or error.code in _HOST_CODES:
        return False
    if error.code == "shares-few":  # then each authority's own word counts
        return all(finding.clause in _REQUEST_CLAUSES for finding in error.findings[1:])
    return error.clause in _REQUEST_CLAUSES or error.code in _REQUEST_CODES


class Deadline:
    """When an answer must be there; ``seconds`` from now."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds, never less than nothing."""
        return max(0.0, self._end - time.monotonic())

    def check(self) -> None:
        """Raise :class:`Unavailable` (``answer-late``) when it is over: nova does not listen any more."""
        if not self.left:
            raise Unavailable(
                "answer-late",
                "this host took too long; nothing was asked of the authority",
                hint="Raise [serve] deadline and nova's vendordata_dynamic_read_timeout, or look at the host's disks.",
            )


@dataclass(frozen=True, slots=True)
class Build:
    """A build that was decided: ``key`` is what its machine shows, or ``refused`` why it has none.

    ``states`` are the files that it boots from, ``until`` how long the answer is repeated (monotonic clock).
    """

    name: str
    key: SshHostKey | None = field(repr=False)
    refused: Rejected | None
    states: tuple[State, ...]
    until: float


class Builds:
    """All builds of this host. ``opener(seconds)`` gives the host, its TPM open, and its id; ``folder`` is private."""

    def __init__(self, opener: HostOpener, domains: Callable[[str], Domain], base: Path, folder: Path) -> None:
        self._opener = opener
        self._domains = domains
        self._base = base
        self._folder = folder
        self._cache = DigestCache()
        self._builds: dict[str, Build] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def key(self, request: VendordataRequest, deadline: Deadline) -> SshHostKey:
        """The SSH host key for the machine that ``request`` is about; its token must not be None.

        Raises :class:`Rejected` (L1, L2, or the authority's clause), :class:`MalformedError`, :class:`Unavailable`,
        :class:`UsageError` or a TPM error.
        """
        assert request.token is not None
        check_bundle(request.token)
        with self._one_at_a_time(request.instance, deadline):
            domain = self._domains(request.instance)
            if domain.is_rescue:
                raise Rejected(
                    Finding("L1", "launch-detour", "a launch secret is for a fresh boot only", "fresh", "rescue"),
                    hint="The rescue system runs without the secret; unrescue the machine afterwards.",
                )
            return self._build(request, domain, deadline)

    def forget(self, instance: str) -> None:
        """The machine starts: its answer is not repeated any more, and what was kept for it is removed."""
        with self._guard:
            self._builds.pop(instance, None)
        self._record(instance).unlink(missing_ok=True)

    def _measured(self, instance: str) -> str | None:
        """The fingerprint of the files that were measured for ``instance``, when it waits for its start.

        It outlives the answer's five minutes and the agent: a host that is slow to start is checked all the same.
        """
        try:
            record = self._record(instance)
            if time.time() - record.stat().st_mtime > _WAITS:
                return None
            measured = json.loads(record.read_bytes()[:_MAX_RECORD])["measured"]
            return measured if isinstance(measured, str) else ""
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return ""  # what cannot be read names no files: the machine must be built again

    def check_first_start(self, domain: Domain) -> None:
        """A machine that waits for its first start boots exactly the files that were measured for it (clause L2).

        Raises :class:`Rejected` (``disk-changed``, ``launch-detour``). Machines that do not wait are passed.
        """
        measured = self._measured(domain.uuid)
        if measured is None:
            return
        if domain.is_rescue:
            raise Rejected(Finding("L1", "launch-detour", "the machine would boot a rescue system with a fresh secret"))
        with ExitStack() as stack:
            held = _hold(stack, domain)
            if _fingerprint(state for image in held.values() for state in image.states) != measured:
                raise Rejected(Finding("L2", "disk-changed", "the machine would not boot what was measured for it"))

    @contextmanager
    def _one_at_a_time(self, instance: str, deadline: Deadline) -> Iterator[None]:
        with self._guard:
            lock = self._locks.setdefault(instance, threading.Lock())
        if not lock.acquire(timeout=deadline.left):
            raise Unavailable("answer-late", "another request about the same machine is still being answered")
        try:
            yield
        finally:
            lock.release()
            with self._guard:
                if len(self._locks) > _MAX_BUILDS:
                    self._locks = {name: each for name, each in self._locks.items() if each.locked()}

    def _build(self, request: VendordataRequest, domain: Domain, deadline: Deadline) -> SshHostKey:
        with ExitStack() as stack:
            held = _hold(stack, domain)
            states = tuple(state for image in held.values() for state in image.states)
            name = _name(request, domain, states)
            known = self._known(request.instance, name)
            if known is None:
                known = self._decide(request, domain, held, name, deadline)
        if known.key is None:
            assert known.refused is not None
            raise known.refused
        return known.key

    def _decide(
        self,
        request: VendordataRequest,
        domain: Domain,
        held: Mapping[str, HeldImage],
        name: str,
        deadline: Deadline,
    ) -> Build:
        """Measure, ask, compare. A refusal that another attempt would not change is remembered like an answer."""
        states = tuple(state for image in held.values() for state in image.states)
        key, refused = None, None
        try:
            used = self._digests(request, domain, held)
            deadline.check()
            secret = self._secret(request, name, _fingerprint(states), deadline)
            check_inputs(secret.inputs, inputs_digest(used))
            for image in held.values():
                image.check_unchanged()
            key = derive(secret.secret, secret.launch_id)
        except Rejected as rejected:
            self._record(request.instance).unlink(missing_ok=True)
            if not is_request_at_fault(rejected):
                raise
            refused = rejected
        build = Build(name, key, refused, states, time.monotonic() + _KEEP)
        with self._guard:
            self._drop_old()
            self._builds[request.instance] = build
        return build

    def _known(self, instance: str, name: str) -> Build | None:
        with self._guard:
            build = self._builds.get(instance)
            return build if build and build.name == name and build.until > time.monotonic() else None

    def _drop_old(self) -> None:
        now = time.monotonic()
        self._builds = {name: build for name, build in self._builds.items() if build.until > now}

    def _digests(
        self, request: VendordataRequest, domain: Domain, held: Mapping[str, HeldImage]
    ) -> Mapping[str, bytes]:
        """Everything that this machine starts from, under its name. What the tenant did not name is a difference."""
        used = {name: image.digest(self._length(request, name, image), self._cache) for name, image in held.items()}
        if domain.cmdline:
            used["cmdline"] = hashlib.sha256(domain.cmdline.encode()).digest()
        if request.user_data is not None:
            used[USER_DATA] = hashlib.sha256(request.user_data).digest()
        return used

    def _length(self, request: VendordataRequest, name: str, image: HeldImage) -> int | None:
        """How long the tenant's image is, by nova's image cache. A guess: a wrong one makes the digests differ."""
        if name != DISK or image.backing is not None or not request.image:
            return None
        cached = self._base / hashlib.sha1(request.image.encode(), usedforsecurity=False).hexdigest()
        try:
            return min(cached.stat().st_size, image.size)
        except OSError:
            return None

    def _secret(self, request: VendordataRequest, name: str, measured: str, deadline: Deadline) -> LaunchSecret:
        assert request.token is not None
        with self._opener(deadline.left) as (host, host_id), in_turn(host.lock, deadline.left):
            kept = self._kept(request.instance, name)
            if kept is not None:
                try:
                    return reopen(host, request.token, kept)
                except WatchwordError:
                    pass  # its two minutes are over, or the host was rebooted: the authority decides anew
            deadline.check()

            def keep(releases: Kept) -> None:
                self._keep(request.instance, name, measured, releases)

            def tell(authority: str, error: WatchwordError) -> None:
                log_error("share-missing", error, instance=request.instance, authority=authority)

            return obtain(host, host_id, request.token, request.instance, keep=keep, tell=tell, seconds=deadline.left)

    def _record(self, instance: str) -> Path:
        return self._folder / f"{hashlib.sha256(instance.encode()).hexdigest()[:32]}.json"

    def _keep(self, instance: str, name: str, measured: str, releases: Kept) -> None:
        document = {
            "build": name,
            "measured": measured,
            "releases": [
                {"binding": bound.hex(), "release": base64.b64encode(encode_reply(release)).decode()}
                for release, bound in releases
            ],
        }
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._record(instance)
        temporary = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "w") as file:
            json.dump(document, file)
        temporary.replace(path)

    def _kept(self, instance: str, name: str) -> Kept | None:
        try:
            with self._record(instance).open("rb") as file:
                document = json.loads(file.read(_MAX_RECORD))
            if document["build"] != name:
                return None
            return [_kept_release(entry) for entry in document["releases"]]
        except (OSError, ValueError, KeyError, TypeError, RecursionError, MalformedError):
            return None


def _kept_release(entry: Mapping[str, str]) -> tuple[Release, bytes]:
    release = parse_reply(base64.b64decode(entry["release"], validate=True))
    if not isinstance(release, Release):
        raise MalformedError("build: what was kept is no release")
    return release, bytes.fromhex(entry["binding"])


def _hold(stack: ExitStack, domain: Domain) -> dict[str, HeldImage]:
    """Every file that the machine starts from, opened once, under the name of its launch input."""
    disk = domain.boot_disk
    if disk is None or disk.kind != "file" or not disk.path:
        raise Rejected(
            Finding("L2", "disk-format", "the machine does not boot from an image file of this host"),
            hint="Servers that boot from a volume or from Ceph cannot get a launch secret yet.",
        )
    held = {DISK: stack.enter_context(HeldImage(Path(disk.path), disk.form))}
    for name, path in (("kernel", domain.kernel), ("initrd", domain.initrd)):
        if path:
            held[name] = stack.enter_context(HeldImage(Path(path), "raw"))
    return held


def _name(request: VendordataRequest, domain: Domain, states: tuple[State, ...]) -> str:
    """A name for this build: another file, user-data or token gives another. 64 hex digits."""
    user_data = request.user_data.hex() if request.user_data is not None else None
    text = json.dumps(
        [request.instance, request.token, user_data, domain.kernel, domain.initrd, domain.cmdline, states]
    )
    return hashlib.sha256(b"watchword/build/1\0" + text.encode()).hexdigest()


def _fingerprint(states: Iterable[State]) -> str:
    """A name for these very files in their present state. 64 hex digits."""
    return hashlib.sha256(b"watchword/files/1\0" + json.dumps(tuple(states)).encode()).hexdigest()
