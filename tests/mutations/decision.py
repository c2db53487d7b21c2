"""Clauses E1 to E5, F1 to F5, L1 and L2: what is good enough, what is released, what is started."""

# ruff: noqa: E501 - source text is quoted as it is
from __future__ import annotations

from .mutation import Mutation

_CHECKS, _MATCH, _APPRAISE, _PROFILE = "policy/checks.py", "policy/match.py", "policy/appraise.py", "policy/profile.py"
_RULES = "policy/profile_rules.py"
_MACHINE, _RELEASE, _LAUNCHES = "launch/machine.py", "launch/release.py", "authority/deciding/launches.py"
_ATTEST = "launch/attest.py"
_STANDING_TESTS = ("tests/launch/test_standing.py",)
_EVENT_TESTS = ("tests/launch/test_event.py",)
_WATCH_TESTS = ("tests/authority/test_watch.py",)
_RENEWAL, _RENEWAL_TESTS = "launch/renewal.py", ("tests/authority/test_renewal.py",)
_AT_ONCE_TESTS = ("tests/authority/test_at_once.py",)
_AHEAD_TESTS = ("tests/authority/test_ahead.py",)
_WATCH = "authority/deciding/watch.py"
_ENVELOPE, _INPUTS, _LAUNCH = "crypto/envelope.py", "agent/inputs.py", "agent/launch.py"
_TESTS = ("tests/policy/test_appraise.py",)
_MATCH_TESTS = ("tests/policy/test_match.py",)
_PROFILE_TESTS = ("tests/policy/test_profile.py",)
_RELEASE_TESTS = ("tests/launch/test_release.py",)
_MACHINE_TESTS = ("tests/launch/test_machine.py",)
_SEAL_TESTS = ("tests/crypto/test_seal.py",)
_INPUT_TESTS = ("tests/agent/test_inputs.py",)


def _attack(group: str, name: str) -> tuple[str, ...]:
    return (f"tests/attacks/test_{group}.py::{name}",)


def _without(clause: str, check: str, tests: tuple[str, ...] = _TESTS) -> Mutation:
    """The rule is not evaluated at all."""
    return Mutation(clause, _CHECKS, f"    {check},\n", "", tests)


MUTATIONS = (
    Mutation("E1", _RULES, "if rules.stacks is None and rules.endorsers is None:", "if False:", _PROFILE_TESTS),
    Mutation("E1", _PROFILE, "levels: Annotated[tuple[Level, ...], Meta(min_length=1, max_length=100)]", "levels: tuple[Level, ...]", _attack("policy", "test_empty_profile")),
    Mutation("E1", _PROFILE, "    if not set(document.pcrs) - {RUNTIME_PCR}:".strip("\n"), "    if False:", _PROFILE_TESTS),
    Mutation("E1", _RULES, "if set(rules.covers) - set(quoted):", "if False:", _PROFILE_TESTS),
    Mutation("E1", _RULES, 'if rules.runtime == "listed" and RUNTIME_PCR not in quoted:', "if False:", _PROFILE_TESTS),
    Mutation("E1", _RULES, "if rules.secure_boot is not None and _SECURE_BOOT_PCR not in quoted:", "if False:", _PROFILE_TESTS),
    Mutation("E1", _RULES, "if endorsers.threshold > len(endorsers.keys):", "if False:", _PROFILE_TESTS),
    Mutation("E1", "policy/document.py", "if len(found) != len(pairs):", "if False:", ("tests/policy/test_document.py",)),
    Mutation("B7", "policy/stack.py", "    if DEBUG_PCRS & set(pcrs):", "    if False:", ("tests/policy/test_stack.py", "tests/policy/test_profile.py")),
    Mutation("E2", _MATCH, "actual is None or actual.digest != expected.digests[self.bank]", "actual is None", _MATCH_TESTS),
    Mutation("E2", _MATCH, "            if at < len(self.events[slot]):", "            if False:", _MATCH_TESTS),
    Mutation("E2", _MATCH, "    if unsigned:\n", "    if False:\n", _MATCH_TESTS),
    Mutation("E2", _MATCH, "    if log.bank not in stack.banks:", "    if False:", _MATCH_TESTS),
    Mutation("E2", _MATCH, "            if len(after) > _MAX_STATES:", "            if False:", _MATCH_TESTS),
    _without("E2", "stack_matched"),
    _without("E2", "stack_named"),
    _without("E2", "coverage"),
    _without("E3", "validity"),
    _without("E3", "not_revoked"),
    _without("E3", "not_rolled_back"),
    _without("E3", "endorsed"),
    Mutation("E3", _CHECKS, "    if stack.not_before is not None and now < stack.not_before:", "    if False:", _TESTS),
    Mutation("E3", _CHECKS, "    if stack.not_after is not None and now >= stack.not_after:", "    if False:", _TESTS),
    Mutation("E3", _CHECKS, "    if release.retire_at is not None and now >= release.retire_at:", "    if False:", _TESTS),
    Mutation("E3", "authority/deciding/snapshot.py", "        state=row.state.value,\n        retire_at=row.retire_at,", '        state="active",', _attack("policy", "test_old_stack_after_revocation")),
    Mutation("E3", "authority/deciding/snapshot.py", "        endorsed_by=row.endorsed_by,", "        endorsed_by=frozenset({'ab' * 32}),", _attack("policy", "test_stack_that_a_rule_excludes")),
    _without("E4", "age"),
    Mutation("E4", _CHECKS, "    if not 0 <= seconds <= rules.max_age_seconds:", "    if not seconds <= rules.max_age_seconds:", _TESTS),
    _without("E5", "identity_class"),
    _without("E5", "secure_boot"),
    _without("B10", "tpm_firmware"),
    _without("D5", "runtime_listed"),
    _without("D5", "no_violations"),
    Mutation("E5", "policy/checks_boot.py", "found is not rules.secure_boot:", "found is (not rules.secure_boot):", _attack("logs", "test_secure_boot_hidden_by_type")),
    Mutation("E5", _APPRAISE, "    _check_quoted(host, profile)\n", "", _TESTS),
    _without("D3", "log_ahead", _WATCH_TESTS),
    Mutation("W1", _ATTEST, "selections_for(known.profiles)  # W1\n", "()\n", _WATCH_TESTS),
    Mutation("W2", _ATTEST, "    check_new(host.pcrs.clock_info, known.last)\n", "", _WATCH_TESTS),
    Mutation("W3", _ATTEST, "if self.checked <= now < self.until else", "if self.checked <= now else", _WATCH_TESTS),
    Mutation("W3", _ATTEST, "if self.checked <= now < self.until else", "if now < self.until else", _WATCH_TESTS),
    Mutation("A4", _ATTEST, "    if known.ak is None:\n", "    if False:\n", _WATCH_TESTS),
    Mutation("B5", _LAUNCHES, "    if request.evidence.purpose is not Purpose.ATTEST:", "    if False:", _WATCH_TESTS),
    Mutation("B5", _LAUNCHES, "request.purpose is Purpose.ATTEST and not request.token:", "request.purpose is Purpose.ATTEST:", _WATCH_TESTS),
    Mutation("W2", "authority/deciding/watch.py", "            if is_own(refusal):\n", "            if True:\n", _RENEWAL_TESTS),
    Mutation("W2", _WATCH, "        check_new(info, tx.last_seen(host_id))", "        pass", _AHEAD_TESTS),
    Mutation("W2", _WATCH, "            check_new(info, tx.last_seen(evidence.host_id))\n", "", _AHEAD_TESTS),
    Mutation("W3", _ATTEST, "best, now, challenged_at, challenged_at + lease,", "best, now, now, now + lease,", _AHEAD_TESTS),
    Mutation("W6", _ATTEST, "    _check_current(evidence, selections, wanted, known)\n", "", _AHEAD_TESTS),
    Mutation("W6", _ATTEST, "    if selections == wanted and ", "    if ", _AHEAD_TESTS),
    Mutation("W6", _ATTEST, " and evidence.ima_from in (0, ends):", ":", _AHEAD_TESTS),
    Mutation("W6", _ATTEST, "known.runtime is not None and known.continues else 0", "known.runtime is not None else 0", _AHEAD_TESTS),
    Mutation("E4", _WATCH, "        if may_ask_ahead(look.profiles):", "        if True:", _AHEAD_TESTS),
    Mutation("W8", _RENEWAL, "    if not _still(verdict, now) or evidence.ima_log", "    if evidence.ima_log", _RENEWAL_TESTS),
    Mutation("W8", _RENEWAL, "verdict.judged_at <= now and ", "", _RENEWAL_TESTS),
    Mutation("W8", _RENEWAL, "not _still(verdict, now) or evidence.ima_log or not", "not _still(verdict, now) or not", _RENEWAL_TESTS),
    Mutation("W8", _RENEWAL, "    if any(state.at(now) is Standing.STALE for state in before.values()):\n", "    if False:\n", _RENEWAL_TESTS),
    Mutation("W8", _RENEWAL, "    if evidence.event_log and hashlib", "    if False and hashlib", _RENEWAL_TESTS),
    Mutation("W8", _RENEWAL, ".u64(generation)\n", "\n", _RENEWAL_TESTS),
    Mutation("W8", _RENEWAL, "        writer.raw(profile.id)\n", "        pass\n", _RENEWAL_TESTS),
    Mutation("W8", _RENEWAL, ".sized16(info.pcr_digest)\n", "\n", _RENEWAL_TESTS),
    Mutation("W8", _RENEWAL, "    writer.u32(quote.clock_info.reset_count).u64(", "    writer.u64(", _RENEWAL_TESTS),
    Mutation("W8", _RENEWAL, ".u64(quote.firmware_version)", "", _RENEWAL_TESTS),
    Mutation("W8", _RENEWAL, ".u32(ima_from)\n", "\n", _RENEWAL_TESTS),
    Mutation("W8", _RENEWAL, "known.runtime.encode() if known.runtime is not None else ", "", _RENEWAL_TESTS),
    Mutation("W8", _RENEWAL, "    if known.seen is not None:\n", "    if False and known.seen is not None:\n", _RENEWAL_TESTS),
    Mutation("W8", "authority/deciding/look.py", "        if len(profiles) < len(ids):\n", "        if False:\n", _RENEWAL_TESTS),
    Mutation("W8", "authority/deciding/snapshot.py", "snapshot if snapshot is not None and snapshot.generation == generation else None", "snapshot", _AT_ONCE_TESTS),
    Mutation("F5", _LAUNCHES, "        self._water.check_held(keys)\n        self._rates.evidence.check(host_id)\n", "        self._rates.evidence.check(host_id)\n", _AT_ONCE_TESTS),
    Mutation("W8", _RENEWAL, "    for profile_id in sorted(states):\n", "    for profile_id in []:\n", _RENEWAL_TESTS),
    Mutation("A5", _RENEWAL, "        revoked=known.revoked,\n", "        revoked=False,\n", _RENEWAL_TESTS),
    Mutation("W2", _RENEWAL, "    check_new(pcrs.clock_info, known.last)\n", "", _RENEWAL_TESTS),
    Mutation("W2", "authority/deciding/renewals.py", "            check_new(renewal.last, self.last(renewal.host_id))\n", "", _RENEWAL_TESTS),
    Mutation("W6", "authority/deciding/on_file.py", "record is not None and record.reset_count == answer.quote.clock_info.reset_count:", "record is not None:", _RENEWAL_TESTS),
    Mutation("W7", "launch/event.py", "    if event.number <= seen.number:", "    if False:", _EVENT_TESTS),
    Mutation("W7", "launch/event.py", "    if event.number > seen.number + 1:", "    if False:", _EVENT_TESTS),
    Mutation("W7", "launch/event.py", "    if event.previous != seen.digest:", "    if False:", _EVENT_TESTS),
    Mutation("W4", "launch/standing.py", "    if about != (keys.authority, launch, profile):", "    if False:", _STANDING_TESTS),
    Mutation("W4", "launch/standing.py", "    if abs(now - statement.time) > MAX_AGE:", "    if False:", _STANDING_TESTS),
    Mutation("W5", "launch/standing.py", "    if host is None:\n", "    if host is None and False:\n", _STANDING_TESTS),
    Mutation("W5", "launch/standing.py", "    if host.rebooted:\n", "    if False:\n", _STANDING_TESTS),
    Mutation("W5", "launch/standing.py", '    if host.state in ("stale", "unknown"):', "    if False:", _STANDING_TESTS),
    Mutation("W5", "launch/standing.py", "    if host.state not in _GOOD or host.rank < rank:", "    if host.rank < rank:", _STANDING_TESTS),
    Mutation("W5", "launch/standing.py", "    if host.state not in _GOOD or host.rank < rank:", "    if host.state not in _GOOD:", _STANDING_TESTS),
    Mutation("D6", "launch/on_file.py", "    if host.runtime is not None and host.runtime.seen.entries != record.entries:", "    if False:", ("tests/authority/test_dry_run.py",)),
    Mutation("E5", _APPRAISE, "        return not self.findings\n", "        return True\n", _TESTS),
    Mutation("F2", _APPRAISE, "if self.rank < required_rank or self.release is None or self.level is None:", "if self.release is None or self.level is None:", _attack("policy", "test_level_not_reached")),
    Mutation("F2", _APPRAISE, "        if not 1 <= required_rank <= len(self.profile.levels):", "        if not 1 <= required_rank:", _TESTS),
    Mutation("F2", _APPRAISE, "        if not 1 <= required_rank <= len(self.profile.levels):", "        if not required_rank <= len(self.profile.levels):", _TESTS),
    # -- release
    Mutation("F1", "crypto/hpke.py", 'REQUEST = b"watchword/request/1"', 'REQUEST = b"watchword/token/1"', _SEAL_TESTS),
    Mutation("F1", "wire/metadata_text.py", "    if to_text(data) != text:", "    if False:", ("tests/wire/test_token.py",)),
    Mutation("F1", "wire/token.py", "        if body.flags:", "        if False:", ("tests/wire/test_token.py",)),
    Mutation("F1", "wire/token.py", "        if body.releases < 1 or body.level < 1:", "        if False:", ("tests/wire/test_token.py",)),
    Mutation("F2", _MACHINE, "if known.profile is None or known.profile.id != self.grant.profile:", "if known.profile is None:", _MACHINE_TESTS),
    Mutation("F2", _MACHINE, "self._approved = self._appraisal.approve(self.grant.level)", "self._approved = self._appraisal.approve(1)", _attack("policy", "test_level_not_reached")),
    Mutation("F2", _RELEASE, "    if grant.profile != approved.profile_id or approved.rank < grant.level:", "    if approved.rank < grant.level:", _RELEASE_TESTS),
    Mutation("F2", _RELEASE, "    if grant.profile != approved.profile_id or approved.rank < grant.level:", "    if grant.profile != approved.profile_id:", _RELEASE_TESTS),
    Mutation("F3", _RELEASE, "    if now >= grant.expires:", "    if False:", _RELEASE_TESTS),
    Mutation("F3", _MACHINE, "            release.check_grant(self.grant, self.now)  # F3\n", "", _MACHINE_TESTS),
    Mutation("F3", _LAUNCHES, "        release.check_grant(grant, now)\n", "", _attack("token", "test_expired_token")),
    Mutation("F4", _MACHINE, "            if releases >= grant.releases:", "            if False:", _attack("token", "test_replayed_token")),
    Mutation("F4", _LAUNCHES, "            releases = tx.count_release(launch.token_id)\n", "            releases = tx.releases(launch.token_id) + 1\n", _attack("token", "test_replayed_token")),
    Mutation("F4", _LAUNCHES, "launch.count(nonce_is_fresh=fresh, releases=tx.releases(launch.token_id))", "launch.count(nonce_is_fresh=fresh, releases=0)", _attack("token", "test_replayed_token")),
    Mutation("F5", _MACHINE, '        self._expect("seal")\n', "", _MACHINE_TESTS),
    Mutation("F5", _MACHINE, '    "seal": (frozenset({State.RECORDED}), State.CLOSED),', '    "seal": (frozenset({State.RECORDED, State.COUNTED}), State.CLOSED),', _MACHINE_TESTS),
    Mutation("F5", _LAUNCHES, "        entry = tx.append_decision(launch.now, launch_key(launch.grant.launch_id), decision.encode())\n        return entry.seq, decision", "        return 0, decision", _attack("token", "test_replayed_token")),
    Mutation("F5", "authority/store/record.py", "        if decision.frontier != tree:", "        if False:", ("tests/authority/test_store.py",)),
    Mutation("F5", "authority/store/record.py", "    if leaf.commitment != expected:", "    if False:", _attack("token", "test_forked_log_at_its_end")),
    Mutation("R2", "launch/receipt.py", "    if actual != opened.commitment:", "    if False:", ("tests/launch/test_receipt.py",)),
    Mutation("R3", "launch/receipt.py", "    if marked != opened.tag:", "    if False:", ("tests/launch/test_receipt.py",)),
    Mutation("T1", "crypto/note.py", "        Ed25519PublicKey.from_public_bytes(key.key).verify(signature, message)", "        pass", ("tests/crypto/test_note.py",)),
    Mutation("T1", "verify/log.py", "    if checkpoint.origin != log_origin(keys.authority):", "    if False:", ("tests/launch/test_receipt.py",)),
    Mutation("T2", "verify/log.py", "    if root != checkpoint.root:", "    if False:", ("tests/launch/test_receipt.py",)),
    Mutation("T3", "verify/log.py", "    if new.size == old.size and new.root != old.root:", "    if False:", ("tests/tenant/test_audit.py",)),
    Mutation("T3", "tenant/audit.py", "        if whole.root() == new.root:", "        if False:", ("tests/tenant/test_audit.py",)),
    Mutation("T3", "tenant/audit.py", "    if seen is not None and walk.passed not in (None, seen.frontier):", "    if False:", ("tests/tenant/test_audit.py",)),
    Mutation("T3", "tenant/verdict.py", "        if found is not None and roots.setdefault(found.size, found.root) != found.root:", "        if False:", ("tests/tenant/test_verdict.py",)),
    Mutation("V3", "tenant/verdict.py", "    if numbers != list(range(1, len(numbers) + 1)):", "    if False:", ("tests/tenant/test_verdict.py",)),
    Mutation("T4", "verify/log.py", "    if new.size < old.size:", "    if False:", ("tests/tenant/test_audit.py",)),
    Mutation("T5", "verify/log.py", "    if len(found) < quorum:", "    if False:", ("tests/authority/test_log.py",)),
    Mutation("T6", "tenant/audit.py", "    if tree.root() != checkpoint.root:", "    if False:", ("tests/tenant/test_audit.py",)),
    Mutation("T6", "tenant/audit.py", "                if read[index][node % WIDTH] != expected:", "                if False:", ("tests/authority/test_log.py",)),
    Mutation("T6", "tenant/audit.py", "            if leaf_hash(entry) != hashes[offset]:", "            if False:", ("tests/tenant/test_audit.py",)),
    Mutation("T7", "tenant/monitor.py", "        if missing or gaps:", "        if False:", ("tests/authority/test_log.py",)),
    Mutation("T7", "tenant/monitor.py", "            if self._endorser in endorsers and digest not in self._logged_stacks:", "            if False:", ("tests/authority/test_log.py",)),
    Mutation("F5", "authority/store/record.py", "        if decision.seq != seq:", "        if False:", ("tests/authority/test_store.py",)),
    Mutation("F5", "authority/store/record.py", "        _check_filing(decision)\n", "", ("tests/authority/test_store.py",)),
    Mutation("F2", _RELEASE, "pcr_digest(Alg.SHA256, selections, pcrs.values), pcrs.clock_info.reset_count, clock_limit", "pcr_digest(Alg.SHA256, (), pcrs.values), pcrs.clock_info.reset_count, clock_limit", _RELEASE_TESTS),
    Mutation("F2", "crypto/tpm_seal.py", "attributes = Attributes.ADMIN_WITH_POLICY | Attributes.NO_DA\n", "attributes = Attributes.ADMIN_WITH_POLICY | Attributes.NO_DA | Attributes.USER_WITH_AUTH\n", _RELEASE_TESTS),
    # -- envelopes, receipts
    Mutation("B5", _ENVELOPE, "encrypt(_ONCE, secret.encode(), context)", "encrypt(_ONCE, secret.encode(), b'')", _RELEASE_TESTS),
    Mutation("S1", "crypto/dsse.py", "            _verify_one(key, _b64(signature.sig, \"signature\"), message)\n", "            _b64(signature.sig, \"signature\")\n", _attack("token", "test_forged_receipt")),
    Mutation("S2", "crypto/dsse.py", "    if len(good) < threshold:", "    if False:", _attack("token", "test_forged_receipt")),
    Mutation("S1", "crypto/cose.py", "            key.verify(message.signature, signed)\n", "            pass\n", ("tests/crypto/test_cose.py",)),
    Mutation("S1", "crypto/cose.py", "            key.verify(_der(message.signature, size), signed, ECDSA(hashed))\n", "            _der(message.signature, size)\n", ("tests/crypto/test_cose.py",)),
    Mutation("S1", "crypto/cose.py", "    if message.algorithm != algorithm:", "    if False:", ("tests/crypto/test_cose.py",)),
    Mutation("S1", "crypto/cose.py", "    if _CRIT in headers or _CRIT in unprotected:", "    if False:", ("tests/crypto/test_cose.py",)),
    Mutation("S1", "reference/interop/corim/document.py", "        if (begin is not None and now < begin) or (end is not None and now >= end):", "        if False:", ("tests/reference/interop/test_corim.py",)),
    Mutation("S2", "cli/stack_corim.py", "        if demanded:", "        if False:", ("tests/cli/test_stack_corim.py",)),
    Mutation("R1", "launch/receipt.py", "    if document.authority != keys.authority:", "    if False:", ("tests/launch/test_receipt.py",)),
    # -- the agent
    Mutation("L1", _LAUNCH, "    if order.boot is not BootKind.FRESH:", "    if False:", _attack("release", "test_rescue_with_another_image")),
    Mutation("L2", _LAUNCH, "        check_inputs(secret.inputs, actual)\n", "", _attack("release", "test_swapped_image")),
    Mutation("L2", _LAUNCH, "        disk.check_unchanged()\n", "", _attack("release", "test_image_written_to_while_it_is_used")),
    Mutation("L2", _INPUTS, "    if expected != actual:", "    if False:", _INPUT_TESTS),
    Mutation("L2", _INPUTS, "    if missing:\n", "    if False:\n", _INPUT_TESTS),
    Mutation("L2", _INPUTS, "        if _state(self._original) != self._before:", "        if False:", _INPUT_TESTS),
    Mutation("L2", _INPUTS, "                _refuse_other_formats(self.path, chunk)\n", "                pass\n", _INPUT_TESTS),
    Mutation("L2", _INPUTS, "    if not stat.S_ISREG(os.fstat(fd).st_mode):", "    if False:", _INPUT_TESTS),
    Mutation("L2", "wire/inputs.py", "writer.sized16(name.encode()).raw(inputs[name])", "writer.raw(inputs[name])", ("tests/wire/test_inputs.py",)),
)  # fmt: skip
