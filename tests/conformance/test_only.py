"""For every clause there is a scenario that this clause alone rejects: without its check, the attack is accepted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from watchword.conformance import own
from watchword.conformance.own import judge
from watchword.conformance.scenario import Scenario
from watchword.verify import ak, boot_log, ek, ima_log, quote, runtime_file
from watchword.wire.ima_log import ImaEntry, ImaLog
from watchword.wire.reader import Reader
from watchword.wire.tpm.algorithms import Alg, digest
from watchword.wire.tpm.attest import Attest, QuoteInfo

Check = tuple[Any, str, Any]  # module, name, and what stands there when the check is gone


class _Equal:
    """Equal to anything."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True


def _returns(value: object) -> Callable[..., object]:
    return lambda *_, **__: value


def _patient(*arguments: Any, **more: Any) -> Any:
    return ima_log.verify_ima_log(*arguments, **{**more, "max_ahead": 1000})


def _overlooking(entries: Any, size: int, _: list[Any], *more: Any) -> Any:
    """What was not understood in the entries is not told."""
    return runtime_file.read_files(entries, size, [], *more)


def _reading(change: Callable[[ImaEntry], ImaEntry | None]) -> SimpleNamespace:
    """A parser of runtime logs that overlooks what the check would have objected to."""

    def parse(data: bytes) -> ImaLog:
        log = ImaLog.parse(data)
        return replace(log, entries=tuple(new for entry in log.entries if (new := change(entry)) is not None))

    return SimpleNamespace(parse=parse)


def _repaired(entry: ImaEntry) -> ImaEntry:
    return entry._replace(digest=digest(Alg.SHA1, entry.data))


_NO_COMPARISON = SimpleNamespace(compare_digest=_returns(True))
_NOTHING: list[object] = []
CHECKS: dict[str, tuple[str, list[Check]]] = {
    "A1": ("identity-ca-as-tpm", [(ek, "check_certificate", _returns(()))]),
    "A2": ("identity-no-template", [(ek, "_template_or_none", _returns(_Equal()))]),
    "A3": ("identity-ak-forges", [(module, "verify_ak_public", _returns(None)) for module in (ak, own)]),
    "A4": ("identity-wrong-answer", [(ak, "hmac", _NO_COMPARISON)]),
    "B1": ("quote-magic", [(quote, "GENERATED_VALUE", 0x12345678)]),
    "B2": (
        "quote-type-rewritten",
        [(quote, "_check_kind", lambda attest: QuoteInfo.read(Reader(attest.attested, "quote")))],
    ),
    "B3": ("quote-trailing-signed", [(quote, "_parse", lambda attest: Attest.parse(attest[:-1]))]),
    "B4": ("quote-zero-signature", [(quote, "_check_signature", _returns(None))]),
    "B5": ("quote-replayed", [(quote, "hmac", _NO_COMPARISON)]),
    "B7": ("quote-debug-pcr", [(quote, "_check_selection", _returns(None))]),
    "B8": ("quote-other-boot", [(quote, "_check_values", lambda info, pcrs, key: pcrs)]),
    "B9": ("quote-clock", [(quote, "_check_clock", _returns(None))]),
    "B10": ("quote-firmware", [(quote, "_check_firmware", _returns(None))]),
    "C1": ("boot-header", [(boot_log, "_format_findings", _returns(_NOTHING))]),
    "C2": ("boot-other-log", [(boot_log, "_check_replay", _returns(None))]),
    "C3": ("boot-secure-boot-data", [(boot_log, "_data_findings", _returns(_NOTHING))]),
    "C4": ("boot-type-in-pcr7", [(boot_log, "_type_findings", _returns(_NOTHING))]),
    "C5": ("boot-separator-twice", [(boot_log, "_separator_findings", _returns(_NOTHING))]),
    "C6": ("boot-variable-twice", [(boot_log, "_facts", _returns(boot_log.BootFacts()))]),
    "D1": ("runtime-template", [(ima_log, "read_files", _overlooking)]),
    "D2": ("runtime-digest-altered", [(own, "ImaLog", _reading(_repaired))]),
    "D3": ("runtime-ahead", [(own, "verify_ima_log", _patient)]),
    "D4": ("runtime-other-aggregate", [(ima_log, "_check_boot_aggregate", _returns("unchecked"))]),
    "D6": ("runtime-rewritten", [(ima_log, "_check_continues", _returns(None))]),
}


@pytest.mark.parametrize("clause", CHECKS)
def test_only_this_clause_rejects(suite: dict[str, Scenario], clause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, checks = CHECKS[clause]
    assert judge(suite[name]).clause == clause
    for module, attribute, instead in checks:
        monkeypatch.setattr(module, attribute, instead)
    assert judge(suite[name]).verdict == "accept"
