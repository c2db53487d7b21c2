"""``watchword explain``: why something was refused, and what to do about it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from watchword.cli.explain_evidence import NOT_CHECKED, EvidenceFolder, appraise_folder, read_release
from watchword.cli.explain_input import MAX_INPUT, read_findings
from watchword.cli.output import emit, json_option, note
from watchword.cli.profile import read_bounded
from watchword.errors import Finding, UsageError
from watchword.policy.appraise import Appraisal
from watchword.policy.document import digest_name
from watchword.policy.explain_rejection import Explanation
from watchword.policy.explain_rejection import explain as explain_findings
from watchword.policy.profile import MAX_PROFILE_SIZE, Profile
from watchword.verify.ek import EkClass

__all__ = ["explain"]

_PATH = click.Path(path_type=Path, exists=True)


@click.command()
@click.argument("file", type=_PATH)
@click.option("--profile", type=_PATH, metavar="FILE", help="With a folder of evidence: the profile to judge it by.")
@click.option("--stack", "stacks", type=_PATH, multiple=True, metavar="FILE", help="A stack to compare with; repeat.")
@click.option("--level", metavar="NAME", help="The level to explain; the highest unless given.")
@click.option("--ek-class", type=click.Choice([c.value for c in EkClass]), help="What the TPM is taken for.")
@json_option
def explain(
    file: Path, profile: Path | None, stacks: tuple[Path, ...], level: str | None, ek_class: str | None, as_json: bool
) -> None:
    """Say why something was refused: which event, what was expected, which component, and what to do.

    FILE is a receipt, a decision, a signed result, the --json output of a refused command, or a folder that 'watchword
    agent evidence' wrote. A folder is appraised offline by --profile with every --stack: for finding the reason, not
    for trusting the host. Signatures of receipts and results are not checked here.

    \b
    Example:
      watchword explain web1.receipt
      watchword explain ./evidence --profile gold.json --stack compute-1.json --stack compute-2.json
    """
    if file.is_dir():
        if profile is None:
            raise UsageError(
                "explain-profile", "a folder of evidence is judged by a profile", hint="add --profile FILE"
            )
        _explain_folder(file, Profile.parse(read_bounded(profile, MAX_PROFILE_SIZE)), stacks, level, ek_class, as_json)
        return
    if profile is not None or stacks or level is not None or ek_class is not None:
        raise UsageError("explain-options", f"{file.name} is not a folder of evidence: give it alone")
    _emit(explain_findings(read_findings(read_bounded(file, MAX_INPUT))), {}, as_json)


def _explain_folder(
    folder: Path, profile: Profile, stacks: tuple[Path, ...], level: str | None, ek_class: str | None, as_json: bool
) -> None:
    rank = len(profile.levels) if level is None else profile.rank_of(level)
    if rank is None:
        names = ", ".join(entry.name for entry in profile.levels)
        raise UsageError("explain-level", f"the profile has no level {level!r}", hint=f"its levels: {names}")
    taken_for = EkClass(ek_class) if ek_class else profile.levels[rank - 1].rules.identity[0]
    releases = [read_release(path, profile) for path in stacks]
    evidence = EvidenceFolder.read(folder)
    findings, appraisal = appraise_folder(evidence, profile, releases, int(time.time()), taken_for)
    if appraisal is not None:
        findings = _of_level(appraisal, rank)
    note("appraised offline, not a verdict; not checked: " + "; ".join(NOT_CHECKED))
    if any(finding.code == "quote-selection" for finding in findings):
        numbers = ",".join(map(str, profile.pcrs))
        note(f"hint: on the host: watchword agent evidence FOLDER --pcrs {digest_name(profile.bank)}:{numbers}")
    extra = {
        "offline": True,
        "not_checked": list(NOT_CHECKED),
        "profile": profile.id.hex(),
        "ek_class": taken_for.value,
    }
    _emit(explain_findings(findings, appraisal, releases), extra, as_json)


def _of_level(appraisal: Appraisal, rank: int) -> tuple[Finding, ...]:
    return (*appraisal.levels[rank - 1].findings, *appraisal.notes)


def _emit(explanation: Explanation, extra: dict[str, Any], as_json: bool) -> None:
    emit({**extra, **explanation.document}, "\n".join(explanation.lines), as_json=as_json)
