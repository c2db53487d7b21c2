"""The ``watchword`` command: finds the sub-command, and turns errors into sentences and exit statuses.

0 all is well, 1 the caller's mistake, 2 a service or device did not do its part, 3 the evidence, token, receipt or
machine was refused.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import click

from watchword import __version__
from watchword.cli.output import report_error, wants_json
from watchword.errors import UsageError, WatchwordError

__all__ = ["cli", "main"]

# Name on the command line, module, one line of help. Modules are imported when used: the authority's needs an extra.
_COMMANDS = {
    "trust": ("trust", "Pin the authorities that you trust."),
    "profile": ("profile", "Write and check what you demand of a host."),
    "token": ("token", "Seal a launch secret to an authority."),
    "launch": ("launch", "Launch a virtual machine with a token."),
    "verify": ("verify", "Find out whether a machine is yours and where it runs."),
    "watch": ("watch", "Find out whether the host under a machine is still good."),
    "receipt": ("receipt", "Keep and check the proof, offline and for years."),
    "log": ("log", "Check an authority's public log, and find what is about you."),
    "known-hosts": ("known_hosts", "Print the SSH host key before the machine exists."),
    "stack": ("stack", "Describe and endorse the software of a host."),
    "authority": ("authority", "Run and administer an authority."),
    "root": ("root", "Keep an authority's root key, and sign its lists of keys."),
    "agent": ("agent", "Run on a compute host: enrol, attest, launch."),
    "openstack": ("openstack", "Launch, schedule and watch in an OpenStack cloud."),
    "libvirt": ("libvirt", "Check every start of a machine on a compute host."),
    "guest": ("guest", "Find out inside a machine whether it got its key."),
    "relay": ("relay", "Carry messages between hosts and an authority."),
    "explain": ("explain", "Say why something was refused, and what to do."),
    "ear": ("ear", "Check and read attestation results."),
    "attack-suite": ("attack_suite", "Try a verifier against known attacks on evidence."),
    "inspect": ("inspect", "Look into tokens, quotes, logs and certificates."),
}


class _Lazy(click.Group):
    """A group whose commands live in modules of their own, imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"watchword.cli.{_COMMANDS[cmd_name][0]}")
        command = getattr(module, _COMMANDS[cmd_name][0])
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="watchword")
def cli() -> None:
    """Proof that your virtual machine runs on a host whose software somebody independent has checked.

    \b
    Example:
      watchword trust add https://authority.example:8443 --fingerprint SHA256:...
      watchword launch https://cloud.example --authority authority.example --profile gold.json --disk guest.img
      watchword verify my-vm
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the ``watchword`` command; always ends in ``SystemExit``."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(argv))


def run(argv: list[str]) -> int:
    """Run one command line and return its exit status."""
    try:
        result = cli.main(argv, prog_name="watchword", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Abort:
        return report_error(UsageError("interrupted", "interrupted"), as_json=wants_json(argv))
    except click.ClickException as error:
        hint = _usage_hint(error)
        return report_error(UsageError("usage", error.format_message(), hint=hint), as_json=wants_json(argv))
    except WatchwordError as error:
        return report_error(error, as_json=wants_json(argv))
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        name = f" ({error.filename})" if isinstance(error.filename, str) else ""
        text = f"{(error.strerror or str(error)).lower()}{name}"
        return report_error(UsageError("os-error", text), as_json=wants_json(argv))


def _usage_hint(error: click.ClickException) -> str:
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"see '{error.ctx.command_path} --help'"
    return ""
