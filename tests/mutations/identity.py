"""Clauses A1 to A5, B9: who a host is."""

from __future__ import annotations

from .mutation import Mutation

_EK, _AK, _ENROL = "verify/ek.py", "verify/ak.py", "launch/enrol.py"
_TX = "authority/store/transaction.py"
_EK_TESTS = ("tests/verify/test_ek.py", "tests/attacks/test_identity.py")
_AK_TESTS = ("tests/verify/test_ak.py", "tests/attacks/test_identity.py")
_ENROL_TESTS = ("tests/launch/test_enrol.py",)

MUTATIONS = (
    Mutation("A1", _EK, "if basic is not None and basic.ca:", "if False:", _EK_TESTS),
    Mutation("A1", _EK, "if EKU_EK_CERTIFICATE in usage:", "if True:", _EK_TESTS),
    Mutation("A1", _EK, "if not (usage.key_encipherment if is_rsa else usage.key_agreement):", "if False:", _EK_TESTS),
    Mutation("A1", _EK, "if len(intermediates) > MAX_INTERMEDIATES:", "if False:", _EK_TESTS),
    Mutation("A1", _EK, "if not usage.key_cert_sign:", "if False:", _EK_TESTS),
    Mutation("A1", _EK, ".time(datetime.fromtimestamp(now, UTC).replace(tzinfo=None))", "", _EK_TESTS),
    Mutation("A1", _EK, "if ek_class is None:", "if ek_class is None and pins:", (*_EK_TESTS, *_ENROL_TESTS)),
    Mutation("A1", _EK, "    return known[chain[-1]]", "    return next(iter(known.values()))", _EK_TESTS),
    Mutation(
        "A1",
        _EK,
        "if known.setdefault(certificate, anchor).ek_class is not anchor.ek_class:",
        "if known.setdefault(certificate, anchor) is None:",
        _EK_TESTS,
    ),
    Mutation(
        "A2",
        _EK,
        "if not any(public == _template_or_none(kind, public.unique) for kind in EkKind):",
        "if False:",
        _EK_TESTS,
    ),
    Mutation(
        "A2",
        _EK,
        "if key.key_size == parameters.key_bits and numbers.e == _EXPONENT:",
        "if key.key_size == parameters.key_bits:",
        _EK_TESTS,
    ),
    Mutation(
        "A2",
        _EK,
        "if key.key_size == parameters.key_bits and numbers.e == _EXPONENT:",
        "if numbers.e == _EXPONENT:",
        _EK_TESTS,
    ),
    Mutation("A2", _EK, "        and key.curve.name == curve_of(parameters.curve).name\n", "", _EK_TESTS),
    Mutation("A3", _AK, "    if missing or surplus:", "    if surplus:", _AK_TESTS),
    Mutation("A3", _AK, "    if missing or surplus:", "    if missing:", _AK_TESTS),
    Mutation("A3", _AK, "Attributes.RESTRICTED  # signs", "Attributes.SIGN  # signs", _AK_TESTS),
    Mutation("A3", _AK, "    | Attributes.SIGN\n", "", _AK_TESTS),
    Mutation("A3", _AK, "    | Attributes.FIXED_TPM\n", "", _AK_TESTS),
    Mutation("A3", _AK, "    | Attributes.FIXED_PARENT\n", "", _AK_TESTS),
    Mutation("A3", _AK, "    | Attributes.SENSITIVE_DATA_ORIGIN  #", "    #", _AK_TESTS),
    Mutation("A3", _AK, "    if not _algorithm_allowed(ak):", "    if False:", _AK_TESTS),
    Mutation("A3", _AK, "    if ak.name_alg not in _STRONG_HASHES:", "    if False:", _AK_TESTS),
    Mutation("A3", _AK, " and parameters.curve in _CURVES", "", _AK_TESTS),
    Mutation("A3", _AK, "parameters.key_bits >= _MIN_RSA and ", "", _AK_TESTS),
    Mutation("A3", _AK, " and parameters.exponent in _EXPONENTS", "", _AK_TESTS),
    Mutation("A3", _AK, "return known and parameters.scheme.hash_alg in _STRONG_HASHES", "return known", _AK_TESTS),
    Mutation("A4", _AK, "    if not hmac.compare_digest(expected, proof):", "    if False:", _AK_TESTS),
    Mutation("A4", _AK, "    if host_id(ek) != host:", "    if False:", _AK_TESTS),
    Mutation(
        "A3",
        _AK,
        "    verify_ak_public(ak)\n    return _make(host,",
        "    return _make(host,",
        _AK_TESTS,
    ),
    Mutation("A4", _ENROL, "    if not now <= cookie.expires <= now + LIFETIME:", "    if False:", _ENROL_TESTS),
    Mutation("A3", _ENROL, "    verify_ak_public(ak)\n", "", _ENROL_TESTS),
    Mutation(
        "A4",
        "launch/machine.py",
        "if known.ak is None:",
        "if known.ak is None and known.profile is None:",
        ("tests/launch/test_machine.py",),
    ),
    Mutation("A5", "verify/host.py", "    if revoked:  # A5", "    if False:", ("tests/verify/test_host.py",)),
    Mutation(
        "A5",
        _TX,
        "            if row.revoked_at is not None:",
        "            if False:",
        ("tests/attacks/test_identity.py",),
    ),
    Mutation(
        "A5",
        _TX,
        "            if row.host_id != host.host_id:",
        "            if False:",
        ("tests/authority/test_store.py",),
    ),
    Mutation(
        "A5",
        "authority/launches.py",
        "return Known(ak, host.revoked, host.last,",
        "return Known(ak, False, host.last,",
        ("tests/attacks/test_identity.py",),
    ),
)
