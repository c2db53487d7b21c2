"""The Ed25519 keys that a long-running service has in tokens: sessions that are opened when needed, and once again.

A token may be pulled out and put back, or its server restarted. An operation that fails is tried once more with the
library started afresh and a new login; what fails then is the caller's failure, and the next one tries again. A PIN
that was refused is not tried twice: a few wrong ones lock a token for good.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from watchword.errors import Unavailable, UsageError
from watchword.pkcs11.token import (
    ED25519,
    TokenAbsent,
    find_keys,
    find_token,
    library,
    load,
    one_key,
    public_half,
    sign,
)
from watchword.pkcs11.uri import Pkcs11Uri

__all__ = ["TokenKey", "Tokens"]

T = TypeVar("T")
_PROOF: Final = b"watchword: this key signs\n"  # nothing that we sign begins so
# A PKCS#11 library has one state for the whole process: who is logged in, and which tokens there are.
_ONE_AT_A_TIME: Final = threading.RLock()
# What a token that is there says about a request that it will never grant.
_NEVER: Final = (
    "AttributeTypeInvalid",
    "AttributeValueInvalid",
    "DomainParamsInvalid",
    "FunctionNotSupported",
    "KeyFunctionNotPermitted",
    "KeyTypeInconsistent",
    "MechanismInvalid",
    "MechanismParamInvalid",
    "TemplateIncomplete",
    "TemplateInconsistent",
    "TokenWriteProtected",
)


@dataclass(slots=True)
class _Session:
    """A session of a user who is logged in, and the private keys that were looked up in it."""

    p11: Any
    session: Any
    keys: dict[Pkcs11Uri, Any] = field(default_factory=dict)

    def private(self, uri: Pkcs11Uri) -> Any:
        if uri not in self.keys:
            self.keys[uri] = one_key(self.session, self.p11, uri, self.p11.ObjectClass.PRIVATE_KEY)
        return self.keys[uri]

    def public(self, uri: Pkcs11Uri) -> Ed25519PublicKey:
        public = public_half(one_key(self.session, self.p11, uri, self.p11.ObjectClass.PUBLIC_KEY), self.p11)
        if not isinstance(public, Ed25519PublicKey):
            raise UsageError("pkcs11-key", "the key is not an Ed25519 key, which an authority signs with")
        return public


class Tokens:
    """The tokens that somebody has keys in, all with the PIN that ``pin`` gives; for any number of threads.

    ``pin`` is called at each login; without it, keys can be named but do not sign.
    """

    def __init__(self, pin: Callable[[], str] | None = None) -> None:
        self._pin = pin
        self._refused: str | None = None
        self._sessions: dict[tuple[str | None, str | None], _Session] = {}

    def key(self, uri: Pkcs11Uri, public: Ed25519PublicKey) -> TokenKey:
        """The key behind ``uri``, whose public half must be ``public``; the token is not asked yet."""
        return TokenKey(self, uri, public)

    def existing(self, uri: Pkcs11Uri) -> TokenKey:
        """A key that the token has, and that has just signed. Raises as :meth:`use` does."""
        return self._proven(uri, self.use(uri, lambda at: at.public(uri)))

    def generate(self, uri: Pkcs11Uri) -> TokenKey:
        """Make a key under the label or id of ``uri`` that cannot leave the token.

        Raises :class:`UsageError` (``pkcs11-exists``), and as :meth:`use` does.
        """
        named = uri if uri.identity is not None else replace(uri, identity=secrets.token_bytes(8))
        return self._proven(named, self.use(uri, lambda at: _generate(at, uri, named)))

    def _proven(self, uri: Pkcs11Uri, public: Ed25519PublicKey) -> TokenKey:
        key = self.key(uri, public)
        key.sign(_PROOF)
        return key

    def use(self, uri: Pkcs11Uri, work: Callable[[_Session], T]) -> T:
        """What ``work`` makes of a session with the token of ``uri``; once more, afresh, when the first fails.

        Raises :class:`Unavailable`: ``token-gone``, ``pkcs11-token`` when it refuses, a wrong PIN for one;
        :class:`UsageError`: ``pkcs11-pin`` when there is none, ``pkcs11-key``, ``pkcs11-module``, ``extra-missing``.
        """
        with _ONE_AT_A_TIME:
            p11 = library()
            try:
                return work(self._session(p11, load(p11), uri))
            except (p11.exceptions.PKCS11Error, UsageError) as error:
                # A session with a token that was pulled out may fail, or find no keys any more.
                if isinstance(error, UsageError) and error.code != "pkcs11-key":
                    raise
                self._sessions.clear()
            try:
                module = load(p11)
                with ThreadPoolExecutor(1) as apart:  # SoftHSM leaves errors behind in the thread's OpenSSL
                    apart.submit(module.reinitialize).result()
                return work(self._session(p11, module, uri))
            except (p11.exceptions.PKCS11Error, TokenAbsent) as error:
                self._sessions.clear()
                raise _failure(uri, type(error).__name__) from None

    def _session(self, p11: Any, module: Any, uri: Pkcs11Uri) -> _Session:
        where = uri.token, uri.serial
        if where not in self._sessions:
            pin = self._ask()
            self._sessions[where] = _Session(p11, self._login(p11, find_token(module, uri), pin))
        return self._sessions[where]

    def _ask(self) -> str:
        pin = self._pin() if self._pin is not None else ""
        if not pin:
            raise UsageError("pkcs11-pin", "the token's PIN is not known", hint="use --pin-file, or set WATCHWORD_PIN")
        if pin == self._refused:
            raise _wrong_pin()
        return pin

    def _login(self, p11: Any, token: Any, pin: str) -> Any:
        try:
            return token.open(user_pin=pin)
        except p11.exceptions.UserAlreadyLoggedIn:  # somebody else in this process has a session
            return token.open()
        except (p11.exceptions.PinIncorrect, p11.exceptions.PinInvalid, p11.exceptions.PinLenRange):
            self._refused = pin
            raise _wrong_pin() from None
        except p11.exceptions.PinLocked:
            raise Unavailable(
                "pkcs11-token", "the PIN is locked", hint="only the token's administrator helps"
            ) from None


@dataclass(frozen=True, slots=True)
class TokenKey:
    """An :class:`~watchword.crypto.ed25519.Ed25519Signer` whose private half is in a token."""

    _tokens: Tokens = field(repr=False)
    uri: Pkcs11Uri
    _public: Ed25519PublicKey = field(repr=False)

    def public_key(self) -> Ed25519PublicKey:
        return self._public

    def sign(self, data: bytes, /) -> bytes:
        """The signature over ``data``, verified: what a faulty or exchanged key made never leaves.

        Raises as :meth:`Tokens.use` does; a wrong signature is ``pkcs11-key``.
        """

        def work(at: _Session) -> bytes:
            signature = sign(at.p11, at.private(self.uri), self._public, data)
            try:
                self._public.verify(signature, data)
            except InvalidSignature:
                raise _other_key(self.uri) from None
            return signature

        return self._tokens.use(self.uri, work)

    def check(self) -> None:
        """Whether the token is there and has this key; raises as :meth:`sign` does, and signs nothing."""

        def look(at: _Session) -> None:
            at.keys.pop(self.uri, None)
            at.private(self.uri)
            if at.public(self.uri) != self._public:
                raise _other_key(self.uri)

        self._tokens.use(self.uri, look)


def _generate(at: _Session, uri: Pkcs11Uri, named: Pkcs11Uri) -> Ed25519PublicKey:
    p11, kinds = at.p11, (at.p11.ObjectClass.PRIVATE_KEY, at.p11.ObjectClass.PUBLIC_KEY)
    if any(find_keys(at.session, p11, uri, kind) for kind in kinds):
        raise UsageError(
            "pkcs11-exists", "the token has a key of that name", hint="take another name, or --existing to use it"
        )
    curve = {p11.Attribute.EC_PARAMS: ED25519[0]}
    stays = {p11.Attribute.EXTRACTABLE: False, p11.Attribute.SENSITIVE: True}
    with at.session.token.open(rw=True) as writing:
        made = writing.create_domain_parameters(p11.KeyType.EC_EDWARDS, curve, local=True).generate_keypair(
            mechanism=p11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
            store=True,
            id=named.identity,
            label=named.label,
            capabilities=p11.MechanismFlag.SIGN | p11.MechanismFlag.VERIFY,
            private_template=stays,
        )
        if made[1][p11.Attribute.EXTRACTABLE]:
            raise Unavailable("pkcs11-token", "the token made a key that can leave it")
    return at.public(named)


def _wrong_pin() -> Unavailable:
    return Unavailable("pkcs11-token", "the token refused the PIN", hint="a few wrong ones lock it")


def _other_key(uri: Pkcs11Uri) -> UsageError:
    return UsageError("pkcs11-key", f"the key {uri.text} in the token is not the one in the key list")


def _failure(uri: Pkcs11Uri, why: str) -> Unavailable:
    if why in _NEVER:
        return Unavailable(
            "pkcs11-token", f"the token refused: {why}", hint="does it have Ed25519, and may the key sign?"
        )
    return Unavailable(
        "token-gone",
        f"the token with the key {uri.text} does not answer: {why}",
        hint="is it plugged in, and its service up? The next signature tries again",
    )
