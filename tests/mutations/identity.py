"""Clauses A1 to A5, B9: who a host is."""

from __future__ import annotations

from .mutation import Mutation

_EK, _AK, _ENROL = "verify/ek.py", "verify/ak.py", "launch/enrol.py"
_CHAIN, _CRL = "verify/chain.py", "verify/crl.py"
_TX = "authority/store/transaction.py"
_EK_TESTS = ("tests/verify/test_ek.py",)
_CHAIN_TESTS = ("tests/verify/test_certificate_chain.py", "tests/verify/test_ek.py")
_CRL_TESTS = ("tests/verify/test_ek_crl.py",)
_AK_TESTS = ("tests/verify/test_ak.py",)
_ENROL_TESTS = ("tests/launch/test_enrol.py",)

MUTATIONS = (
    Mutation("A1", _EK, "    if extensions.is_ca:", "    if False:", _EK_TESTS),
    Mutation("A1", _EK, "    if EKU_EK_CERTIFICATE in extensions.purposes:", "    if True:", _EK_TESTS),
    Mutation("A1", _EK, "    if KeyUsage.KEY_CERT_SIGN in usage:", "    if False:", _CHAIN_TESTS),
    Mutation(
        "A1",
        _EK,
        "    if (KeyUsage.KEY_ENCIPHERMENT if is_rsa else KeyUsage.KEY_AGREEMENT) not in usage:",
        "    if False:",
        _EK_TESTS,
    ),
    Mutation("A1", _CHAIN, "    if len(intermediates) > MAX_CHAIN:", "    if False:", _EK_TESTS),
    Mutation("A1", _CHAIN, "            if len(chain) <= MAX_DEPTH:", "            if True:", _CHAIN_TESTS),
    Mutation("A1", _CHAIN, "if same_name(issuer.subject, chain[-1].issuer):", "if True:", _CHAIN_TESTS),
    Mutation(
        "A1",
        _CHAIN,
        "        return signature_fault(below.algorithm, below.signed, below.signature, issuer.key)",
        "        return ''",
        _CHAIN_TESTS,
    ),
    Mutation("A1", _CHAIN, "    if not extensions.is_ca:", "    if False:", _CHAIN_TESTS),
    Mutation(
        "A1",
        _CHAIN,
        "    if extensions.usage is None or KeyUsage.KEY_CERT_SIGN not in extensions.usage:",
        "    if extensions.usage is None:",
        _CHAIN_TESTS,
    ),
    Mutation(
        "A1",
        _CHAIN,
        "    if extensions.usage is None or KeyUsage.KEY_CERT_SIGN not in extensions.usage:",
        "    if extensions.usage is not None and KeyUsage.KEY_CERT_SIGN not in extensions.usage:",
        _CHAIN_TESTS,
    ),
    Mutation(
        "A1",
        _CHAIN,
        "    if extensions.path_length is not None and below > extensions.path_length:",
        "    if False:",
        _CHAIN_TESTS,
    ),
    Mutation(
        "A1",
        _CHAIN,
        "if extensions.purposes is not None and not {EKU_EK_CERTIFICATE, EKU_ANY} & set(extensions.purposes):",
        "if False:",
        _CHAIN_TESTS,
    ),
    Mutation("A1", _CHAIN, "    if issuer.key_type == RSAES_OAEP:", "    if False:", _CHAIN_TESTS),
    Mutation("A1", _CHAIN, "or key_weakness(issuer.key)", "or ''", _CHAIN_TESTS),
    Mutation("A1", _CHAIN, "    if now < certificate.not_before:", "    if False:", _CHAIN_TESTS),
    Mutation("A1", _CHAIN, "if now > certificate.not_after else", "if False else", _CHAIN_TESTS),
    Mutation("A1", _CHAIN, "    if certificate.extensions.unknown:", "    if False:", _CHAIN_TESTS),
    Mutation("A1", _CHAIN, "if certificate.extensions.constrained else", "if False else", _CHAIN_TESTS),
    Mutation("A1", _CHAIN, "return _time_fault(leaf, now) or", "return", _CHAIN_TESTS),
    Mutation("A1", _CRL, "if not fault and certificate.serial_number in crl.revoked:", "if False:", _CRL_TESTS),
    Mutation("A1", _CRL, "    if all(faults):", "    if False:", _CRL_TESTS),
    Mutation("A1", _CRL, "if usage is None or KeyUsage.CRL_SIGN not in usage:", "if False:", _CRL_TESTS),
    Mutation("A1", _CRL, "    if fault or crl.partial:", "    if crl.partial:", _CRL_TESTS),
    Mutation("A1", _CRL, "    if fault or crl.partial:", "    if fault:", _CRL_TESTS),
    Mutation("A1", _CRL, "    if not crl.this_update <= now <= crl.next_update:", "    if False:", _CRL_TESTS),
    Mutation("A1", _EK, "if ek_class is None:", "if ek_class is None and pins:", (*_EK_TESTS, *_ENROL_TESTS)),
    Mutation("A1", _EK, " if each.der == chain[-1].der)", ")", _EK_TESTS),
    Mutation(
        "A1",
        _EK,
        "if known.setdefault(anchor.certificate_der, anchor).ek_class is not anchor.ek_class:",
        "if known.setdefault(anchor.certificate_der, anchor) is None:",
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
        ("tests/attacks/test_identity.py::test_revoked_host",),
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
        "authority/deciding/launches.py",
        "return Known(ak, host.revoked, host.last,",
        "return Known(ak, False, host.last,",
        ("tests/attacks/test_identity.py::test_revoked_host",),
    ),
)
