"""A secret that is split over several authorities: which share is which, and the texts that travel together.

Each share is in a token of its own, sealed to one authority. Beside the tokens goes the *launch set*: for each share a
digest that it must have. It is encrypted under the launch id, and the launch id is a hash of it
(``watchword.crypto.launch_set``), so whoever gets a launch id from an authority can tell the right set from any other.
"""

from __future__ import annotations

from dataclasses import dataclass

from watchword.errors import MalformedError
from watchword.wire.metadata_text import MAX_TEXT, from_text, magic, to_text
from watchword.wire.reader import Reader, Writer, parse_whole

__all__ = [
    "DIGEST_SIZE",
    "MAX_BUNDLE",
    "MAX_SHARES",
    "METADATA_KEYS",
    "RUN_SIZE",
    "Bundle",
    "SealedSet",
    "SharePlace",
    "check_numbers",
]

MAX_SHARES = 8
DIGEST_SIZE = 16  # bytes of a share's digest: nobody can find another share that has it
RUN_SIZE = 16  # bytes; names one attempt of one host to collect the shares
_TAG = 16
_SET_START = "WWS1"
_TOKEN_START = "WWT1"  # noqa: S105 - no secret
_SET_MAGIC = magic(_SET_START)
METADATA_KEYS = ("watchword", *(f"watchword_{number}" for number in range(2, MAX_SHARES + 1)), "watchword_set")
MAX_BUNDLE = (MAX_SHARES + 1) * (MAX_TEXT + 2)  # characters


@dataclass(frozen=True, slots=True)
class SharePlace:
    """Share ``index`` of ``count``, numbered from 1, of which ``threshold`` together give the secret."""

    index: int
    threshold: int
    count: int

    def __str__(self) -> str:
        return f"share {self.index} of {self.count}, {self.threshold} needed"

    @classmethod
    def read(cls, r: Reader) -> SharePlace:
        """Three bytes. Raises :class:`MalformedError` for a place that no set has."""
        place = cls(r.u8(), r.u8(), r.u8())
        problem = check_numbers(place.threshold, place.count)
        if problem or not 1 <= place.index <= place.count:
            raise r.fail(problem or f"there is no share {place.index} of {place.count}")
        return place

    def write(self, w: Writer) -> None:
        w.u8(self.index).u8(self.threshold).u8(self.count)


def check_numbers(threshold: int, count: int) -> str:
    """What is wrong with ``threshold`` of ``count`` shares; empty when nothing is.

    More than half of the shares are needed, so that two machines never get enough of them for one launch.
    """
    if not 2 <= count <= MAX_SHARES:
        return f"{count} shares; a secret has 2 to {MAX_SHARES}"
    if not count < 2 * threshold <= 2 * count:
        return f"{threshold} of {count} shares; more than half are needed, and not more than all"
    return ""


@dataclass(frozen=True, slots=True)
class SealedSet:
    """A launch set as it travels: ``threshold`` and ``count`` in clear, ``sealed`` has the digests."""

    threshold: int
    count: int
    sealed: bytes

    @classmethod
    def parse(cls, text: str) -> SealedSet:
        """Read the text form, at most 255 characters. Raises :class:`MalformedError`; one set has one text."""
        return parse_whole(from_text(text, "launch set", _SET_START), "launch set", cls._read)

    @classmethod
    def _read(cls, r: Reader) -> SealedSet:
        r.take(len(_SET_MAGIC))
        threshold, count = r.u8(), r.u8()
        if problem := check_numbers(threshold, count):
            raise r.fail(problem)
        return cls(threshold, count, r.take(count * DIGEST_SIZE + _TAG))

    def header(self) -> bytes:
        """The bytes in front of the digests; the encryption binds them."""
        return Writer().raw(_SET_MAGIC).u8(self.threshold).u8(self.count).done()

    def text(self) -> str:
        return to_text(self.header() + self.sealed)


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a tenant gives to a launch: one token, or a token for each share with their launch set.

    As text: the tokens and then the set, with white space in between. ``launch_set`` is empty for a whole secret.
    """

    tokens: tuple[str, ...]
    launch_set: str = ""

    @classmethod
    def parse(cls, text: str) -> Bundle:
        """Read tokens and set, in any order, and look into none. Raises :class:`MalformedError`."""
        if len(text) > MAX_BUNDLE:
            raise MalformedError(f"tokens: more than {MAX_BUNDLE} characters")
        words = text.split()
        sets = [word for word in words if word.startswith(_SET_START)]
        tokens = tuple(word for word in words if not word.startswith(_SET_START))
        if not sets and (len(tokens) <= 1 or not all(token.startswith(_TOKEN_START) for token in tokens)):
            return cls((text.strip(),))
        if len(sets) != 1 or not 2 <= len(tokens) <= MAX_SHARES:
            raise MalformedError(
                f"tokens: {len(tokens)} tokens and {len(sets)} launch sets do not go together",
                code="bundle",
                hint="Give one token, or the tokens of one split secret (2 to 8) with their one launch set (WWS1…).",
            )
        return cls(tokens, sets[0])

    def metadata(self) -> dict[str, str]:
        """Tokens and set as metadata of a server, each a value of at most 255 characters."""
        found = dict(zip(METADATA_KEYS, self.tokens, strict=False))
        return found | ({METADATA_KEYS[-1]: self.launch_set} if self.launch_set else {})

    def text(self) -> str:
        return "\n".join((*self.tokens, self.launch_set) if self.launch_set else self.tokens)
