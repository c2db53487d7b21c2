"""How every command speaks: the product on stdout, the rest on stderr, one JSON document with ``--json``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from watchword.errors import Rejected, Unavailable, WatchwordError
from watchword.wire.printable import printable

__all__ = ["emit", "json_option", "note", "printable", "report_error", "wants_json"]

F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    """Add ``--json`` to a command; the parameter is called ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")(function)


def emit(document: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print the result of a command: ``document`` as JSON, or ``text`` for people."""
    click.echo(json.dumps(document, ensure_ascii=True) if as_json else text)


def note(message: str) -> None:
    """Say something beside the product, on stderr."""
    click.echo(f"watchword: {message}", err=True)


def wants_json(arguments: list[str]) -> bool:
    """Whether the command line asked for JSON, also when it could not be parsed."""
    return "--json" in arguments


def report_error(error: WatchwordError, *, as_json: bool) -> int:
    """Tell a person (stderr) and, with ``--json``, a program (stdout) what went wrong; returns the exit status."""
    click.echo(f"watchword: error: {printable(error.message)}", err=True)
    findings = error.findings if isinstance(error, Rejected | Unavailable) else ()
    extra = findings[1:] if isinstance(error, Rejected) else findings
    for finding in extra[:20]:
        click.echo(f"watchword: also: {printable(str(finding))}", err=True)
    if len(extra) > 20:
        click.echo(f"watchword: also: {len(extra) - 20} more findings; --json shows all of them", err=True)
    if error.hint:
        click.echo(f"watchword: hint: {printable(error.hint)}", err=True)
    if error.trace:
        click.echo(f"watchword: trace: {error.trace}", err=True)
    if as_json:
        document: dict[str, Any] = {"code": error.code, "message": error.message, "hint": error.hint}
        if error.trace:
            document["trace"] = error.trace
        if findings or isinstance(error, Rejected):
            document["findings"] = [finding_document(finding) for finding in findings]
        click.echo(json.dumps({"error": document} | error.beside, ensure_ascii=True))
    sys.stdout.flush()
    return error.exit_status


def finding_document(finding: Any) -> dict[str, Any]:
    """A finding as JSON has it."""
    return {
        "clause": finding.clause,
        "code": finding.code,
        "message": finding.message,
        "expected": finding.expected,
        "actual": finding.actual,
        "subject": finding.subject,
        "fatal": finding.fatal,
    }
