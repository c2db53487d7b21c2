"""``watchword inspect``: look into files without trusting them. Nothing here is a verdict."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from watchword.cli.inspect_logs import describe_event_log, describe_ima_log, event_log_text, ima_log_text
from watchword.cli.output import emit, json_option, printable
from watchword.errors import MalformedError, UsageError
from watchword.wire import ima_log, tcg_log
from watchword.wire.tcg_log import EventLog
from watchword.wire.token import Token
from watchword.wire.trace import launch_trace

__all__ = ["describe_token", "inspect"]

_MAX_SMALL = 1 << 20  # bytes of a quote, a certificate or a token

_file = click.argument("file", type=click.Path(path_type=Path, allow_dash=True))


@click.group()
def inspect() -> None:
    """Look into tokens, quotes, logs and certificates.

    This only reads what a file says. Whether it is true takes a quote, a key and a policy: nothing here is a verdict.

    \b
    Example:
      watchword inspect eventlog /sys/kernel/security/tpm0/binary_bios_measurements
      watchword inspect ima --json /sys/kernel/security/ima/binary_runtime_measurements
    """


@inspect.command()
@_file
@click.option("--events", is_flag=True, help="List every event, not only the sums.")
@json_option
def eventlog(file: Path, events: bool, as_json: bool) -> None:
    """Read a firmware event log, replay it, and show what it leads to.

    \b
    Example:
      watchword inspect eventlog --events /sys/kernel/security/tpm0/binary_bios_measurements
    """
    document = describe_event_log(EventLog.parse(_read(file, tcg_log.MAX_LOG)), events=events)
    emit(document, event_log_text(document), as_json=as_json)


@inspect.command()
@_file
@click.option("--entries", is_flag=True, help="List every entry, not only the sums.")
@json_option
def ima(file: Path, entries: bool, as_json: bool) -> None:
    """Read a runtime (IMA) log, binary or readable, replay it, and show what it leads to.

    \b
    Example:
      watchword inspect ima /sys/kernel/security/ima/binary_runtime_measurements
    """
    document = describe_ima_log(_read(file, ima_log.MAX_LOG), entries=entries)
    emit(document, ima_log_text(document), as_json=as_json)


@inspect.command()
@_file
@json_option
def quote(file: Path, as_json: bool) -> None:
    """Read a TPM quote (TPMS_ATTEST).

    \b
    Example:
      watchword inspect quote quote.msg
    """
    from watchword.cli.inspect_tpm import describe_quote

    _emit_plain(describe_quote(_read(file, _MAX_SMALL)), as_json=as_json)


@inspect.command("ek-cert")
@_file
@json_option
def ek_cert(file: Path, as_json: bool) -> None:
    """Read an endorsement key certificate: PEM, DER, or as it lies in the TPM.

    \b
    Example:
      watchword inspect ek-cert ek.der
    """
    from watchword.cli.inspect_tpm import describe_ek_certificate

    _emit_plain(describe_ek_certificate(_read(file, _MAX_SMALL)), as_json=as_json)


@inspect.command()
@_file
@json_option
def token(file: Path, as_json: bool) -> None:
    """Read what a launch token shows without its key: to which authority's key it is sealed.

    \b
    Example:
      watchword inspect token token.txt
    """
    text = _read(file, _MAX_SMALL).removesuffix(b"\n").removesuffix(b"\r")
    _emit_plain(describe_token(text), as_json=as_json)


def _read(file: Path, limit: int) -> bytes:
    """The whole file, "-" for standard input; UsageError (exit status 1) when it cannot be read."""
    name = printable(str(file))
    try:
        if str(file) == "-":
            data = sys.stdin.buffer.read(limit + 1)
        else:
            with file.open("rb") as stream:
                data = stream.read(limit + 1)
    except OSError as error:
        raise UsageError("unreadable", f"cannot read {name}: {(error.strerror or 'no reason given').lower()}") from None
    except ValueError:
        raise UsageError("unreadable", f"cannot read {name}: not the name of a file") from None
    if len(data) > limit:
        raise MalformedError(f"{name}: larger than {limit} bytes")
    return data


def _emit_plain(document: Mapping[str, Any], *, as_json: bool) -> None:
    emit(document, "\n".join(_lines(document)), as_json=as_json)


def _lines(document: Mapping[str, Any], indent: str = "") -> list[str]:
    lines: list[str] = []
    for key, value in document.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            lines.append(f"{indent}{key}:" + ("" if value else " none"))
            for item in value:
                inner = "; ".join(_lines(item)) if isinstance(item, Mapping) else str(item)
                lines.append(f"{indent}  - {printable(inner)}")
        else:
            lines.append(f"{indent}{key}: {printable(str(value))}")
    return lines


def describe_token(text: bytes) -> dict[str, Any]:
    """What anybody can see of a token. Raises MalformedError."""
    try:
        parsed = Token.parse(text.decode("ascii"))
    except UnicodeDecodeError:
        raise MalformedError("token: it is not ASCII text") from None
    return {
        "trace": launch_trace(parsed.text()),
        "suite": parsed.suite,
        "key_id": parsed.key_id.hex(),
        "characters": len(text),
        "sealed": len(parsed.sealed),
    }
