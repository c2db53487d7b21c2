"""Clauses F6, L3 and V6: secrets that are split over several authorities."""

from __future__ import annotations

from .mutation import Mutation

_TOKEN_TESTS, _SHARE_TESTS = ("tests/wire/test_token.py",), ("tests/wire/test_share.py",)
_SEAL_TESTS, _SET_TESTS = ("tests/crypto/test_seal.py",), ("tests/crypto/test_launch_set.py",)
_SHAMIR_TESTS = (
    "tests/crypto/test_shamir.py::test_numbers_that_make_no_set",
    "tests/crypto/test_shamir.py::test_random_bytes_are_never_stretched",
    "tests/crypto/test_shamir.py::test_shares_that_do_not_go_together",
)
_ATTACKS, _SPLIT_TESTS = ("tests/attacks/test_shares.py",), ("tests/tenant/test_split.py",)
_OPENSTACK = ("tests/integrations/openstack/test_shares.py",)
_VERDICT = "tenant/split_verdict.py"
_MACHINE_TESTS = ("tests/launch/test_machine.py",)
_SET, _SHAMIR, _SHARE = "crypto/launch_set.py", "crypto/shamir.py", "wire/share.py"

MUTATIONS: tuple[Mutation, ...] = (
    Mutation(
        "F1",
        "wire/token.py",
        "        if body.place is None and r.take(len(_WHOLE)) != _WHOLE:",
        "        if body.place is None and not r.take(len(_WHOLE)):",
        _TOKEN_TESTS,
    ),
    Mutation(
        "F1", _SHARE, "        if problem or not 1 <= place.index <= place.count:", "        if problem:", _TOKEN_TESTS
    ),
    Mutation(
        "F1",
        _SHARE,
        "        if problem or not 1 <= place.index <= place.count:",
        "        if not 1 <= place.index <= place.count:",
        _TOKEN_TESTS,
    ),
    Mutation("F1", _SHARE, "    if not 2 <= count <= MAX_SHARES:", "    if not 2 <= count:", _SHARE_TESTS),
    Mutation(
        "F1",
        _SHARE,
        "    if not count < 2 * threshold <= 2 * count:",
        "    if not 2 <= threshold <= count:",
        _SHARE_TESTS,
    ),
    Mutation(
        "F1",
        _SHARE,
        "    if not count < 2 * threshold <= 2 * count:",
        "    if not count < 2 * threshold:",
        _SHARE_TESTS,
    ),
    Mutation("F1", "wire/metadata_text.py", "    if to_text(data) != text:", "    if False:", _SHARE_TESTS),
    Mutation(
        "F1",
        _SHARE,
        "        if problem := check_numbers(threshold, count):\n            raise r.fail(problem)\n",
        "",
        _SHARE_TESTS,
    ),
    Mutation(
        "F1",
        _SHARE,
        "        if len(sets) != 1 or not 2 <= len(tokens) <= MAX_SHARES:",
        "        if len(sets) != 1:",
        _SHARE_TESTS,
    ),
    Mutation(
        "F1",
        _SHARE,
        "        if len(sets) != 1 or not 2 <= len(tokens) <= MAX_SHARES:",
        "        if not 2 <= len(tokens) <= MAX_SHARES:",
        _SHARE_TESTS,
    ),
    Mutation("F1", _SHARE, "        if len(text) > MAX_BUNDLE:", "        if False:", _SHARE_TESTS),
    Mutation(
        "F1", "crypto/token.py", "    if token.is_share != (body.place is not None):", "    if False:", _SEAL_TESTS
    ),
    Mutation("F1", "crypto/hpke.py", 'SHARE = b"watchword/share-token/1"', 'SHARE = b"watchword/token/1"', _SEAL_TESTS),
    Mutation(
        "F6",
        "crypto/envelope.py",
        "encrypt(_ONCE, share.encode(), context)",
        'encrypt(_ONCE, share.encode(), b"context")',
        _MACHINE_TESTS,
    ),
    Mutation("F6", "launch/release.py", "    if purpose is not wanted:", "    if False:", _MACHINE_TESTS),
    Mutation(
        "F6",
        "launch/machine.py",
        "            release.check_purpose(self.grant, evidence.purpose)  # F6\n",
        "",
        _MACHINE_TESTS,
    ),
    Mutation(
        "B5",
        "wire/evidence.py",
        ".u8(purpose).raw(run)\n    writer.sized16",
        ".u8(purpose)\n    writer.sized16",
        _MACHINE_TESTS,
    ),
    Mutation(
        "F6",
        "launch/machine.py",
        "            share=_share_record(grant, self.evidence.run) if grant.place is not None else msgspec.UNSET,\n",
        "",
        _MACHINE_TESTS,
    ),
    Mutation("L3", _SET, "    if not hmac.compare_digest(found.launch_id(), launch_id):", "    if False:", _SET_TESTS),
    Mutation(
        "L3",
        _SET,
        "    if (place.threshold, place.count) != (found.threshold, len(found.digests)):",
        "    if False:",
        _SET_TESTS,
    ),
    Mutation(
        "L3",
        _SET,
        "    if not hmac.compare_digest(actual, found.digests[place.index - 1]):",
        "    if False:",
        _SET_TESTS,
    ),
    Mutation("L3", _SET, ".u8(index).raw(inputs)", ".u8(index)", _SET_TESTS),
    Mutation("L3", _SET, ".u16(flags).raw(share)", ".raw(share)", _SET_TESTS),
    Mutation("L3", _SET, ".u8(self.threshold).u8(len(self.digests))", ".u8(len(self.digests))", _SET_TESTS),
    Mutation(
        "L3",
        _SHAMIR,
        "    if problem := check_numbers(threshold, count):\n        raise ValueError(problem)\n",
        "",
        _SHAMIR_TESTS,
    ),
    Mutation(
        "L3",
        _SHAMIR,
        "    if not secret or len(random) != random_size(len(secret), threshold):",
        "    if not secret:",
        _SHAMIR_TESTS,
    ),
    Mutation("L3", _SHAMIR, "not all(0 < x < 256 for x in shares)", "False", _SHAMIR_TESTS),
    Mutation("L3", "agent/shares.py", "    if share.place.index in shares:", "    if False:", _ATTACKS),
    Mutation("L3", "agent/shares.py", "    check_share(sealed, share)\n", "", _ATTACKS),
    Mutation(
        "L3",
        "agent/shares.py",
        "            if token in found or link in found.values():",
        "            if False:",
        _ATTACKS,
    ),
    Mutation("L3", "agent/shares.py", "    if not all(shares):", "    if False:", _ATTACKS),
    Mutation("L3", "agent/shares.py", "        if shares[0]:", "        if False:", _ATTACKS),
    Mutation("L3", "agent/shares.py", "    if len(shares) != sealed.threshold:", "    if False:", _OPENSTACK),
    Mutation(
        "L3",
        "integrations/openstack/request.py",
        "    if not all(isinstance(value, str) for value in found):",
        "    if False:",
        _OPENSTACK,
    ),
    Mutation(
        "L3",
        "integrations/openstack/vendordata.py",
        "            check_bundle(request.token)\n",
        "            pass\n",
        _OPENSTACK,
    ),
    Mutation(
        "L3", "integrations/openstack/builds.py", '    if error.code == "shares-few":', "    if False:", _OPENSTACK
    ),
    Mutation("V6", _VERDICT, "    if len(words) - len(silent) >= threshold:", "    if True:", _SPLIT_TESTS),
    Mutation("V6", _VERDICT, "    if not complete:", "    if False:", _SPLIT_TESTS),
    Mutation("V6", _VERDICT, "    if stray:", "    if False:", _SPLIT_TESTS),
    Mutation(
        "V6", _VERDICT, "    if complete != releases or most > releases:", "    if complete != releases:", _SPLIT_TESTS
    ),
    Mutation(
        "V6", _VERDICT, "    if complete != releases or most > releases:", "    if most > releases:", _SPLIT_TESTS
    ),
    Mutation("V5", _VERDICT, "        check_level(receipt.decision, record)\n", "        pass\n", _SPLIT_TESTS),
    Mutation("V3", "tenant/verdict.py", '        ("share", record.place(), _place(decision)),\n', "", _SPLIT_TESTS),
    Mutation(
        "V3",
        "tenant/launches.py",
        "    if record.share or (split and (record.authority or check_numbers(record.threshold, len(record.shares)))):",
        "    if record.share:",
        _SPLIT_TESTS,
    ),
)
