"""Clauses B1 to B10: the quote, its binding and its nonce."""

from __future__ import annotations

from .mutation import Mutation

_QUOTE, _CHALLENGE, _EVIDENCE = "verify/quote.py", "launch/challenge.py", "wire/evidence.py"
_TESTS = ("tests/verify/test_quote.py",)
_NONCE_TESTS = ("tests/launch/test_challenge.py",)
_BINDING_TESTS = ("tests/attacks/test_binding.py",)


def _attack(group: str, name: str) -> tuple[str, ...]:
    return (f"tests/attacks/test_{group}.py::{name}",)


MUTATIONS = (
    Mutation(
        "B1",
        _QUOTE,
        "    if quote.magic != GENERATED_VALUE:",
        "    if False:",
        _attack("quote", "test_quote_with_another_magic"),
    ),
    Mutation("B1", _QUOTE, "    if quote.magic != GENERATED_VALUE:", "    if False:", ("tests/verify/test_quote.py",)),
    Mutation(
        "B2",
        _QUOTE,
        "    if quote.type != ST_ATTEST_QUOTE or not isinstance(quote.attested, QuoteInfo):",
        "    if not isinstance(quote.attested, QuoteInfo):\n        return QuoteInfo((), b'')\n    if False:",
        _attack("quote", "test_another_attestation_posing_as_a_quote"),
    ),
    Mutation("B3", "wire/tpm/attest.py", "    reader.finish()\n", "", _TESTS),
    Mutation(
        "B4",
        _QUOTE,
        "    if (parsed.scheme, parsed.hash_alg) != (scheme.alg, scheme.hash_alg):",
        "    if False:",
        _TESTS,
    ),
    Mutation("B4", _QUOTE, "        _verify(attest, parsed, ak)\n", "        pass\n", _TESTS),
    Mutation("B5", _QUOTE, "    if not hmac.compare_digest(quote.extra_data, binding):", "    if False:", _TESTS),
    Mutation(
        "B5",
        _EVIDENCE,
        ".raw(host_id).raw(nonce).u8(purpose).raw(run)\n    writer.sized16(token.encode()).sized16(instance",
        ".raw(nonce).u8(purpose).raw(run)\n    writer.sized16(token.encode()).sized16(instance",
        _BINDING_TESTS,
    ),
    Mutation(
        "B5",
        _EVIDENCE,
        'Writer().raw(b"watchword/evidence/1\\0").raw(host_id).raw(nonce)',
        'Writer().raw(b"watchword/evidence/1\\0").raw(host_id)',
        _BINDING_TESTS,
    ),
    Mutation(
        "B5",
        _EVIDENCE,
        '/evidence/1\\0").raw(host_id).raw(nonce).u8(purpose)',
        '/evidence/1\\0").raw(host_id).raw(nonce)',
        _BINDING_TESTS,
    ),
    Mutation(
        "B5",
        _EVIDENCE,
        "    writer.sized16(token.encode()).sized16(instance.encode())\n",
        "    writer.sized16(instance.encode())\n",
        _BINDING_TESTS,
    ),
    Mutation(
        "B5",
        _EVIDENCE,
        "    writer.sized16(token.encode()).sized16(instance.encode())\n",
        "    writer.sized16(token.encode())\n",
        _attack("token", "test_token_on_a_second_instance"),
    ),
    Mutation(
        "B5",
        _EVIDENCE,
        '    writer.raw(hashlib.sha256(b"watchword/reply-key/1\\0" + reply_key).digest())\n',
        "",
        _attack("token", "test_replayed_evidence_for_another_reader"),
    ),
    Mutation(
        "B5",
        "authority/deciding/launches.py",
        "if request.purpose not in (Purpose.LAUNCH, Purpose.SHARE):",
        "if False:",
        _attack("token", "test_purpose_confused"),
    ),
    Mutation(
        "B6",
        _CHALLENGE,
        "    if not hmac.compare_digest(mac, _mac(key, body, host_id, purpose, token_id, era)):",
        "    if False:",
        _NONCE_TESTS,
    ),
    Mutation("B6", _CHALLENGE, "    if not now <= expires <= now + lifetime(purpose):", "    if False:", _NONCE_TESTS),
    Mutation(
        "B6", _CHALLENGE, "    if not now <= expires <= now + lifetime(purpose):", "    if now > expires:", _NONCE_TESTS
    ),
    Mutation(
        "B6",
        _CHALLENGE,
        ".raw(body).raw(host_id).u8(purpose).raw(token_id)",
        ".raw(body).u8(purpose).raw(token_id)",
        _NONCE_TESTS,
    ),
    Mutation(
        "B6",
        _CHALLENGE,
        ".raw(body).raw(host_id).u8(purpose).raw(token_id)",
        ".raw(body).raw(host_id).raw(token_id)",
        _NONCE_TESTS,
    ),
    Mutation(
        "B6",
        _CHALLENGE,
        ".raw(body).raw(host_id).u8(purpose).raw(token_id)",
        ".raw(body).raw(host_id).u8(purpose)",
        _NONCE_TESTS,
    ),
    Mutation(
        "B6",
        "launch/machine.py",
        "            if not nonce_is_fresh:",
        "            if False:",
        _attack("token", "test_replayed_evidence"),
    ),
    Mutation(
        "B6",
        "authority/deciding/launches.py",
        "fresh = tx.use_nonce(*spend) if launch.nonce_expires else False",
        "fresh = bool(launch.nonce_expires)",
        _attack("token", "test_replayed_evidence"),
    ),
    Mutation(
        "B6",
        "authority/store/nonces.py",
        "        if expires <= forgotten:",
        "        if False:",
        ("tests/authority/test_store.py",),
    ),
    Mutation(
        "B6",
        "authority/store/nonces.py",
        "        if forgotten is None:  # its era is over\n            return False\n",
        "        forgotten = forgotten or 0\n",
        ("tests/authority/test_store.py",),
    ),
    Mutation("B6", _CHALLENGE, 'challenge/2\\0" + era if era', 'challenge/2\\0" if era', _NONCE_TESTS),
    Mutation(
        "B6",
        "authority/deciding/launches.py",
        "launch.accept_nonce(keys.mac_key, snapshot.nonce_era)",
        "launch.accept_nonce(keys.mac_key)",
        ("tests/authority/test_recovery.py",),
    ),
    Mutation("B7", _QUOTE, "    if signed != asked:", "    if False:", _TESTS),
    Mutation(
        "B7",
        _QUOTE,
        "    if any(not _DEBUG_PCRS.isdisjoint(selection.pcrs) for selection in signed):",
        "    if False:",
        _TESTS,
    ),
    Mutation(
        "B7",
        _QUOTE,
        "    if not any(selection.bank is not Alg.SHA1 and selection.pcrs for selection in signed):",
        "    if False:",
        _TESTS,
    ),
    Mutation("B7", "agent/collect.py", "    _check_banks(tpm, selections)\n", "", ("tests/agent/test_collect.py",)),
    Mutation("B8", _QUOTE, "    if not hmac.compare_digest(computed, info.pcr_digest):", "    if False:", _TESTS),
    Mutation(
        "B8",
        _QUOTE,
        "        bank = {pcr: claimed[pcr] for pcr in selection.pcrs}\n",
        "        bank = dict(claimed)\n",
        _TESTS,
    ),
    Mutation(
        "B8",
        "wire/tpm/pcr.py",
        "if value is None or len(value) != size:",
        "if value is None:",
        ("tests/wire/tpm/test_pcr.py", "tests/verify/test_quote.py"),
    ),
    Mutation("B9", _QUOTE, "    if info.reset_count < last.reset_count:", "    if False:", _TESTS),
    Mutation("B9", _QUOTE, "    if same_boot and info.restart_count < last.restart_count:", "    if False:", _TESTS),
    Mutation("B9", _QUOTE, "    if info.clock + allowed < last.clock:", "    if False:", _TESTS),
    Mutation(
        "B9",
        "authority/deciding/launches.py",
        "            tx.update_seen(launch.evidence.host_id, LastSeen.of(seen), launch.now)\n",
        "",
        _attack("identity", "test_tpm_cleared"),
    ),
    Mutation("B10", _QUOTE, "    if allowed is not None and version not in allowed:", "    if False:", _TESTS),
)
