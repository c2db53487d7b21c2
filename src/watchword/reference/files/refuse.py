"""How an artifact is refused: the file's name and the reason, always."""

from __future__ import annotations

from typing import NoReturn

from watchword.errors import MalformedError, Unavailable, UsageError
from watchword.policy.stack import path_text

__all__ = ["bad_artifact", "bad_member", "bad_source", "missing_tool"]


def bad_artifact(artifact: str, why: str) -> NoReturn:
    """Raise: ``artifact`` (a package, an archive, an image) is not what it claims to be."""
    raise MalformedError(
        f"{artifact}: {why}", code="reference-artifact", hint="fetch or build it again; nothing of it was listed"
    )


def bad_member(artifact: str, path: bytes, why: str) -> NoReturn:
    """Raise: the file ``path`` inside of ``artifact`` cannot be listed."""
    bad_artifact(artifact, f"{path_text(path) if path else 'a file without a name'}: {why}")


def bad_source(source: str, why: str, hint: str = "") -> NoReturn:
    """Raise: ``source``, as the caller named it, cannot be used."""
    raise UsageError("reference-source", f"{source}: {why}", hint=hint)


def missing_tool(artifact: str, tool: str, package: str) -> NoReturn:
    """Raise: reading ``artifact`` needs a program that is not installed."""
    raise Unavailable(
        "reference-tool", f"{artifact}: reading it needs {tool}", hint=f"on Debian: apt install {package}"
    )
