"""A launch in an OpenStack cloud, through openstacksdk. What the cloud answers is the provider's word and no more.

``clouds.yaml`` or the OS_* variables say which cloud. The package is an extra: ``pip install 'watchword[openstack]'``.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from msgspec import structs

from watchword.errors import Unavailable, UsageError
from watchword.integrations.openstack.refusals import ROUTE, Refusal
from watchword.tenant.http import exchange, web_context
from watchword.tenant.launcher import Order, Server

__all__ = ["Choices", "Cloud", "ImageWord", "connect", "image_word"]

_SSH_PORT = 22
_CHUNK = 1 << 20
_ALGORITHMS = ("sha512", "sha384", "sha256", "md5")
_TEXT = 400
_SERVICE = "watchword"  # type of the status service in the catalogue
_MAX_REASON, _SECONDS = 4096, 5.0


@dataclass(frozen=True, slots=True)
class Choices:
    """What nova needs beside the order: names or ids; ``hints`` are scheduler hints."""

    flavor: str
    networks: tuple[str, ...] = ()
    availability_zone: str = ""
    security_groups: tuple[str, ...] = ()
    hints: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageWord:
    """What the image service says about an image, and what the tenant's own file says about that.

    ``matches`` is None when the service named no digest that could be compared. Whatever it is, the token binds the
    tenant's own file, and the host compares with the bytes that it really boots.
    """

    image: str
    algorithm: str
    digest: str
    own: str

    @property
    def matches(self) -> bool | None:
        """Whether the service claims to have the tenant's bytes."""
        return self.digest == self.own if self.digest else None

    def sentence(self) -> str:
        """One sentence for people."""
        if self.matches is None:
            return "the image service names no digest; the host will compare with your own file"
        if self.matches:
            return f"the image service claims to have your file ({self.algorithm}); the host will compare it again"
        return f"the image service has another file than yours ({self.algorithm}): the host will refuse it"


def image_word(image: str, algorithm: str, digest: str, disk: Path) -> ImageWord:
    """Compare the digest that the image service names with that of ``disk``. Raises :class:`UsageError`."""
    if algorithm not in _ALGORITHMS or not digest:
        return ImageWord(image, "", "", "")
    hashed = hashlib.new(algorithm, usedforsecurity=False)
    try:
        with disk.open("rb") as file:
            while chunk := file.read(_CHUNK):
                hashed.update(chunk)
    except OSError as error:
        raise UsageError("file-unreadable", f"{disk} cannot be read: {error.strerror}") from None
    return ImageWord(image, algorithm, digest.lower()[:128], hashed.hexdigest())


def connect(name: str | None) -> Any:
    """An openstacksdk connection. Raises :class:`UsageError` (``extra-missing``, ``cloud``)."""
    try:
        import openstack
    except ImportError:
        raise UsageError(
            "extra-missing",
            "openstacksdk is not installed",
            hint="install the Debian package watchword-openstack, or: pip install 'watchword[openstack]'",
        ) from None
    try:
        return openstack.connect(cloud=name)
    except Exception as error:  # noqa: BLE001  # its configuration raises many kinds
        raise UsageError("cloud", f"the cloud cannot be chosen: {_said(error)}", hint="See clouds.yaml.") from None


class Cloud:
    """The cloud ``name`` of ``clouds.yaml`` (None: the environment's); a :class:`watchword.tenant.launcher.Launcher`.

    Raises :class:`UsageError` (``extra-missing``, ``cloud``).
    """

    def __init__(self, name: str | None, choices: Choices | None = None) -> None:
        self._cloud: Any = connect(name)
        self.name = name or "environment"
        self._choices = choices

    def word_about(self, image: str, disk: Path) -> ImageWord:
        """What the image service says about ``image`` (name or id). Raises Unavailable, UsageError."""
        found = self._find(lambda: self._cloud.image.find_image(image, ignore_missing=False))
        if found is None:
            raise UsageError("image-unknown", f"the cloud has no image {image[:80]!r}", hint="openstack image list")
        algorithm, digest = str(found.hash_algo or ""), str(found.hash_value or "")
        if not digest and found.checksum:
            algorithm, digest = "md5", str(found.checksum)
        return image_word(str(found.id), algorithm, digest, disk)

    def create(self, order: Order) -> Server:
        """Order a machine. Raises :class:`Unavailable` with the provider's words, :class:`UsageError`."""
        assert self._choices is not None
        choices, compute = self._choices, self._cloud.compute
        flavor = self._find(lambda: compute.find_flavor(choices.flavor, ignore_missing=False))
        if flavor is None:
            raise UsageError("flavor-unknown", f"the cloud has no flavor {choices.flavor[:80]!r}")
        wanted: dict[str, Any] = {
            "name": order.name,
            "image_id": order.image,
            "flavor_id": flavor.id,
            "metadata": dict(order.metadata),
            "config_drive": True,
            "networks": self._networks(choices.networks),
        }
        if order.user_data:
            wanted["user_data"] = base64.b64encode(order.user_data).decode()
        if choices.availability_zone:
            wanted["availability_zone"] = choices.availability_zone
        if choices.security_groups:
            wanted["security_groups"] = [{"name": name} for name in choices.security_groups]
        if choices.hints:
            wanted["scheduler_hints"] = dict(choices.hints)
        return _server(self._call(lambda: compute.create_server(**wanted)))

    def get(self, server_id: str) -> Server:
        """The present state. Raises :class:`Unavailable`."""
        return _server(self._call(lambda: self._cloud.compute.get_server(server_id)))

    def find(self, server: str) -> Server:
        """The server with this name or id. Raises :class:`UsageError` (``server-unknown``)."""
        found = self._find(lambda: self._cloud.compute.find_server(server, ignore_missing=False))
        if found is None:
            raise UsageError("server-unknown", f"the cloud has no server {server[:80]!r}", hint="openstack server list")
        known = self.get(str(found.id))
        return structs.replace(known, reason=self._reason(known.id))

    def _reason(self, server_id: str) -> str:
        """What the provider's status service has of its agents about the server; "" when it has, or is, nothing.

        It is found in the catalogue of the cloud, as service type ``watchword``, and is not shown the tenant's token.
        """
        try:
            place = self._cloud.config.get_session_endpoint(_SERVICE)
            url = f"{str(place).rstrip('/')}{ROUTE}/{server_id}"
            answer = exchange("GET", url, web_context(), limit=_MAX_REASON, timeout=_SECONDS) if place else None
            document = json.loads(answer.body) if answer is not None and answer.status == HTTPStatus.OK else {}
            return Refusal.parse(json.dumps(document).encode()).message if document else ""
        except Exception:  # noqa: BLE001  # the SDK's catalogue raises many kinds; without a reason there is just none
            return ""

    def _networks(self, names: tuple[str, ...]) -> object:
        if not names:
            return "auto"
        if names == ("none",):
            return "none"
        found = []
        for name in names:
            network = self._find(lambda name=name: self._cloud.network.find_network(name, ignore_missing=False))
            if network is None:
                raise UsageError("network-unknown", f"the cloud has no network {name[:80]!r}")
            found.append({"uuid": network.id})
        return found

    def _find(self, action: Any) -> Any:
        """What a look-up finds; None when there is no such thing."""
        from openstack.exceptions import NotFoundException

        def find() -> Any:
            try:
                return action()
            except NotFoundException:
                return None

        return self._call(find)

    @staticmethod
    def _call(action: Any) -> Any:
        try:
            return action()
        except Exception as error:  # noqa: BLE001  # keystoneauth and openstacksdk share no base class
            raise Unavailable("provider-refused", f"the provider answered: {_said(error)}") from None


def _said(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:_TEXT]


def _server(found: Any) -> Server:
    """The fields that are used, of whatever the SDK made of the answer."""
    fault = found.fault if isinstance(found.fault, dict) else {}
    return Server(
        id=str(found.id)[:255],
        status=str(found.status or "BUILD")[:40],
        address=_address(found.access_ipv4, found.access_ipv6, found.addresses or {}),
        port=_SSH_PORT,
        fault=str(fault.get("message") or "")[:_TEXT],
    )


def _address(ipv4: str | None, ipv6: str | None, addresses: Mapping[str, Iterable[Mapping[str, Any]]]) -> str:
    """Where the machine may answer: the address for access, else a floating one, else any."""
    if ipv4 or ipv6:
        return str(ipv4 or ipv6)[:253]
    listed = [entry for entries in addresses.values() for entry in entries]
    listed.sort(key=lambda entry: (entry.get("OS-EXT-IPS:type") != "floating", entry.get("version") != 4))
    return str(listed[0].get("addr", ""))[:253] if listed else ""
