"""The entries that a stack's files will have, known before any host has shown them."""

from __future__ import annotations

from typing import Any

import pytest

from watchword.policy.runtime import judge_runtime
from watchword.policy.stack import CompiledStack, path_text
from watchword.policy.teach import teach
from watchword.testing.documents import STACK, encode
from watchword.testing.logs import boot_aggregate, ima_log, measured
from watchword.testing.soft_tpm import SoftTpm
from watchword.verify.ima_log import VerifiedRuntimeLog, verify_ima_log
from watchword.verify.known_files import KnownFiles
from watchword.wire.ima_log import ImaEntry, ImaLog, encode_entry, replay
from watchword.wire.tpm.algorithms import Alg, digest

TPM = SoftTpm.create()
BANK = Alg.SHA256
NAMES = [b"/bin/sh", b"/a b", b"/line\nbreak", b"\xff\xfe", b"/" + b"x" * 200]


def stack(paths: list[bytes], alg: str = "sha256", **changes: Any) -> CompiledStack:
    files = {path_text(path): [f"{alg}:{digest(Alg[alg.upper()], path).hex()}"] for path in paths}
    return CompiledStack.parse(encode({**STACK, "runtime": {"files": files}, **changes}))


def verify(entries: list[ImaEntry], known: KnownFiles | None) -> VerifiedRuntimeLog:
    log = ima_log([boot_aggregate({}), *entries])
    proof = TPM.verified_pcrs(BANK, {**dict.fromkeys(range(10), bytes(32)), 10: replay(log, BANK)[10]})
    return verify_ima_log(ImaLog.parse(log.encode(), known), proof, BANK, max_ahead=0, seen=None, known=known)


@pytest.mark.parametrize("signature", [None, b""])
def test_nothing_in_the_log_of_a_first_host_is_new(signature: bytes | None) -> None:
    known, listed = KnownFiles(BANK), stack(NAMES)
    assert teach(known, listed) == 2 * len(NAMES)
    entries = [measured(name, name, signature=signature) for name in NAMES]
    found = verify(entries, known)
    assert found.fresh == {}
    assert list(found.besides(listed.digest)) == []
    assert found.measured == verify(entries, None).measured
    assert judge_runtime(found, listed) == judge_runtime(verify(entries, None), listed)


def test_one_template_only() -> None:
    known, listed = KnownFiles(BANK), stack(NAMES)
    assert teach(known, listed, ("ima-ng",)) == len(known.entries) == len(NAMES)
    assert set(known.entries) == {encode_entry(measured(name, name))[:24] for name in NAMES}


def test_a_path_that_no_entry_can_have_is_left_out() -> None:
    known = KnownFiles(BANK)
    assert teach(known, stack([b"/a\0b", b"/c"])) == 2
    assert all(b"/c\0" in raw for raw, _, _ in known.entries.values())


def test_what_one_stack_lists_another_does_not() -> None:
    known, listed, other = KnownFiles(BANK), stack(NAMES), stack(NAMES[1:], serial=2)
    teach(known, listed)
    teach(known, other)
    found = verify([measured(name, name) for name in NAMES], known)
    assert judge_runtime(found, listed).findings == ()
    (finding,) = judge_runtime(found, other).findings
    assert (finding.code, finding.subject) == ("runtime-file", "file /bin/sh")


def test_another_content_at_a_listed_path_is_not_known() -> None:
    known, listed = KnownFiles(BANK), stack(NAMES)
    teach(known, listed)
    (finding,) = judge_runtime(verify([measured(b"/bin/sh", b"other")], known), listed).findings
    assert finding.code == "runtime-file"


def test_files_are_cleared_by_being_judged() -> None:
    known, listed = KnownFiles(BANK), stack(NAMES)
    entries = [measured(name, name) for name in NAMES]
    assert len(list(verify(entries, known).besides(listed.digest))) == len(NAMES)
    judge_runtime(verify([*entries, measured(b"/bad", b"bad")], known), listed)
    again = verify([*entries, measured(b"/bad", b"bad")], known)
    assert [file.path for _, _, file in again.besides(listed.digest) if file] == [b"/bad"]
    (finding,) = judge_runtime(again, listed).findings
    assert finding.subject == "file /bad"


def test_hosts_that_start_the_same_things_are_compared_by_many_entries_at_once() -> None:
    names = [b"/bin/%d" % number for number in range(70)]
    known, listed = KnownFiles(BANK), stack(names)
    entries = [measured(name, name) for name in names]
    judge_runtime(verify([measured(b"/bad", b"bad"), *entries], known), listed)
    assert known.runs == {}  # a log with anything wrong in it is no example
    known = KnownFiles(BANK)
    judge_runtime(verify(entries, known), listed)
    assert len(known.runs) == 2
    assert verify(entries, known).fresh == {}
    assert list(verify(entries, known).besides(listed.digest)) == []
