"""Whose TPMs an authority believes: root bundles, revocation lists, and what enrolments make of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from watchword.agent.transport import ask
from watchword.authority.acts.admin import Admin
from watchword.authority.deciding.launches import Launches
from watchword.authority.deciding.snapshot import Snapshots
from watchword.authority.keys.keyring import Keyring
from watchword.authority.store import Store, trust
from watchword.crypto.tpm_seal import Credential
from watchword.errors import Rejected, WatchwordError
from watchword.testing.ek_authority import EkAuthority
from watchword.testing.tpm_keys import TpmKeys
from watchword.testing.world import Direct
from watchword.verify.certificate import Certificate
from watchword.verify.ek import EkClass, host_id
from watchword.verify.roots import Root, RootBundle
from watchword.wire.evidence import enrol_proof
from watchword.wire.messages import EnrolBegin, EnrolChallenge, EnrolFinish, Enrolled
from watchword.wire.tpm.templates import EkKind

from .helpers import NOW

MAKERS, OTHERS = EkAuthority.create(), EkAuthority.create("Another")
DAY = 86_400
ROOTS = (
    Root(MAKERS.root, EkClass.HARDWARE, "Maker", "https://maker.example/root.crt"),
    Root(MAKERS.intermediates[0], EkClass.HARDWARE, "Below", "https://maker.example/ca.crt", is_anchor=False),
)
BUNDLE = RootBundle("makers", 3, "collected for a test", ROOTS)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store.sqlite3") as opened:
        yield opened


@pytest.fixture
def admin(store: Store) -> Admin:
    return Admin(store, NOW, "auditor")


def acts(store: Store) -> list[dict[str, object]]:
    store.verify_decisions()
    return [json.loads(each.entry) for each in store.decisions()]


def code(call: Callable[[], object]) -> str:
    with pytest.raises(WatchwordError) as caught:
        call()
    return caught.value.code


def content(store: Store) -> tuple[object, ...]:
    return store.anchors(), store.bundles(), store.intermediates(), store.crls(), store.head()


# -- bundles -------------------------------------------------------------------------------------------------------


def test_a_bundle_is_taken_over_with_its_origin(store: Store, admin: Admin) -> None:
    row = admin.import_bundle(BUNDLE.encode())
    assert [each.anchor for each in store.anchors()] == list(BUNDLE.anchors())
    assert store.intermediates() == MAKERS.intermediates
    assert store.bundles() == (replace(row, anchors=frozenset({store.anchors()[0].fingerprint})),)
    (act,) = acts(store)
    assert (act["act"], act["subject"], act["by"]) == ("anchor-import", row.digest.hex(), "auditor")
    assert act["details"] == {"name": "makers", "serial": 3, "anchors": 1, "intermediates": 1}


def test_an_older_edition_and_a_second_one_of_the_same_number_are_refused(store: Store, admin: Admin) -> None:
    admin.import_bundle(BUNDLE.encode())
    before = content(store)
    assert code(lambda: admin.import_bundle(replace(BUNDLE, serial=2).encode())) == "roots-rollback"
    assert code(lambda: admin.import_bundle(replace(BUNDLE, about="changed").encode())) == "roots-changed"
    assert content(store) == before
    admin.import_bundle(replace(BUNDLE, name="others", serial=1).encode())
    admin.import_bundle(BUNDLE.encode())
    assert [(each.name, each.serial) for each in store.bundles()] == [("makers", 3), ("others", 1)]


def test_a_new_edition_takes_the_place_of_the_one_before(store: Store, admin: Admin) -> None:
    admin.import_bundle(BUNDLE.encode())
    other = Root(OTHERS.root, EkClass.FIRMWARE, "Another", "paper")
    admin.import_bundle(replace(BUNDLE, serial=4, roots=(other,)).encode())
    assert store.intermediates() == ()
    assert {row.anchor.label for row in store.anchors()} == {"Maker", "Another"}
    assert [each.serial for each in store.bundles()] == [4]
    assert len(store.bundles()[0].anchors) == 1


def test_an_anchor_that_is_believed_already_stays_as_it_is(store: Store, admin: Admin) -> None:
    admin.add_anchor(Certificate.parse(MAKERS.root), EkClass.HARDWARE, "mine")
    before = store.anchors()
    replace(admin, now=NOW + 5).import_bundle(BUNDLE.encode())
    assert store.anchors() == before


def test_a_bundle_does_not_change_the_class_of_an_anchor(store: Store, admin: Admin) -> None:
    admin.add_anchor(Certificate.parse(MAKERS.root), EkClass.VIRTUAL, "mine")
    before = content(store)
    first = Root(OTHERS.root, EkClass.FIRMWARE, "Another", "paper")
    bundle = replace(BUNDLE, roots=(first, *ROOTS))
    assert code(lambda: admin.import_bundle(bundle.encode())) == "anchor-class"
    assert content(store) == before


def test_what_is_no_bundle_changes_nothing(store: Store, admin: Admin) -> None:
    assert code(lambda: admin.import_bundle(b"{}")) == "roots-malformed"
    assert store.head().seq == 0


def test_the_same_intermediate_of_two_bundles_is_there_once(store: Store, admin: Admin) -> None:
    admin.import_bundle(BUNDLE.encode())
    admin.import_bundle(replace(BUNDLE, name="others").encode())
    assert store.intermediates() == MAKERS.intermediates


def test_a_certificate_of_a_tpm_is_no_anchor(store: Store, admin: Admin) -> None:
    leaf = Certificate.parse(MAKERS.issue(TpmKeys().ek))
    assert code(lambda: admin.add_anchor(leaf, EkClass.HARDWARE, "x")) == "anchor-not-ca"
    assert store.anchors() == ()


# -- revocation lists ----------------------------------------------------------------------------------------------


@pytest.fixture
def trusting(admin: Admin) -> Admin:
    admin.import_bundle(BUNDLE.encode())
    return admin


def test_a_list_is_kept_and_recorded(store: Store, trusting: Admin) -> None:
    der = MAKERS.revocation_list(MAKERS.issue(TpmKeys().ek), now=NOW)
    row = trusting.add_crl(der)
    assert store.crls() == (row,)
    assert (row.crl, row.this_update, row.next_update) == (der, NOW, NOW + 30 * DAY)
    assert row.issuer_name == "CN=Emulated TPM EK Intermediate"
    trusting.add_crl(der)
    assert store.crls() == (row,)
    trusting.remove_crl(row.fingerprint)
    assert store.crls() == ()
    assert code(lambda: trusting.remove_crl(row.fingerprint)) == "crl-unknown"
    assert [each["act"] for each in acts(store)[1:]] == ["crl-add", "crl-add", "crl-remove"]
    assert acts(store)[1]["details"] == {"issuer": row.issuer_name, "this_update": NOW}


def test_the_newest_list_of_an_issuer_stays(store: Store, trusting: Admin) -> None:
    older, newer = (MAKERS.revocation_list(now=NOW - age * DAY) for age in (2, 1))
    also_newer = MAKERS.revocation_list(MAKERS.issue(TpmKeys().ek), now=NOW - DAY)
    trusting.add_crl(older)
    trusting.add_crl(newer)
    assert [row.crl for row in store.crls()] == [newer]
    head = store.head()
    for late in (older, also_newer):
        assert code(lambda late=late: trusting.add_crl(late)) == "crl-older"
    assert [row.crl for row in store.crls()] == [newer]
    assert store.head() == head


def test_issuers_of_one_name_and_two_keys_keep_a_list_each(store: Store, admin: Admin) -> None:
    makers = [EkAuthority.create("Same", intermediate=False) for _ in range(2)]
    for each in makers:
        admin.add_anchor(Certificate.parse(each.root), EkClass.HARDWARE, "same")
    lists = {each.revocation_list(now=NOW) for each in makers}
    for der in lists:
        admin.add_crl(der)
    assert {row.crl for row in store.crls()} == lists


def test_one_key_under_two_names_keeps_a_list_for_each(store: Store, trusting: Admin) -> None:
    """A list of the other name must not push one out: that one's certificates would count as not revoked."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Second name")])
    second = replace(MAKERS, _name=name)
    own = x509.load_der_x509_certificate(MAKERS.intermediates[0])
    builder = x509.CertificateBuilder(
        name, name, own.public_key(), 1, own.not_valid_before_utc, own.not_valid_after_utc
    )
    for each in own.extensions:
        builder = builder.add_extension(each.value, each.critical)
    issuer = builder.sign(MAKERS._key, hashes.SHA256()).public_bytes(Encoding.DER)
    first, other = MAKERS.revocation_list(now=NOW), second.revocation_list(now=NOW)
    trusting.add_crl(first)
    trusting.add_crl(other, Certificate.parse(issuer))
    assert {row.crl for row in store.crls()} == {first, other}


def test_a_list_of_somebody_unknown_needs_its_issuer(store: Store, trusting: Admin) -> None:
    der = OTHERS.revocation_list(now=NOW)
    issuer = Certificate.parse(OTHERS.intermediates[0])
    assert code(lambda: trusting.add_crl(der)) == "crl-issuer"
    assert code(lambda: trusting.add_crl(der, Certificate.parse(MAKERS.root))) == "crl-issuer"
    impostor = Certificate.parse(EkAuthority.create("Another").intermediates[0])
    assert code(lambda: trusting.add_crl(der, impostor)) == "crl-unusable"
    assert store.crls() == ()
    assert trusting.add_crl(der, issuer).crl == der


def test_a_list_that_would_stop_enrolments_is_refused(store: Store, trusting: Admin) -> None:
    good = MAKERS.revocation_list(now=NOW)
    bent = good[:-1] + bytes([good[-1] ^ 1])
    future, ended = MAKERS.revocation_list(now=NOW + 1), MAKERS.revocation_list(now=NOW - 31 * DAY)
    for der in (bent, future, ended):
        assert code(lambda der=der: trusting.add_crl(der)) == "crl-unusable"
    assert code(lambda: trusting.add_crl(b"nonsense")) == "crl-malformed"
    assert code(lambda: trusting.add_crl(_delta())) == "crl-unusable"
    assert store.crls() == ()


def _delta() -> bytes:
    start, end = (MAKERS.revocation_list(now=NOW), x509.DeltaCRLIndicator(1))
    made = x509.load_der_x509_crl(start)
    builder = x509.CertificateRevocationListBuilder(made.issuer, made.last_update_utc, made.next_update_utc)
    return builder.add_extension(end, critical=True).sign(MAKERS._key, hashes.SHA256()).public_bytes(Encoding.DER)


def test_there_is_an_end_to_lists(store: Store, admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "MAX_CRLS", 1)
    admin.add_crl(MAKERS.revocation_list(now=NOW - 1), Certificate.parse(MAKERS.intermediates[0]))
    other = OTHERS.revocation_list(now=NOW), Certificate.parse(OTHERS.intermediates[0])
    assert code(lambda: admin.add_crl(*other)) == "crl-full"
    admin.add_crl(MAKERS.revocation_list(now=NOW), Certificate.parse(MAKERS.intermediates[0]))


# -- enrolments ----------------------------------------------------------------------------------------------------


class Host:
    """A host that enrols at an authority over ``store``, with a soft TPM and without its maker's intermediates."""

    def __init__(self, store: Store, folder: Path) -> None:
        ring = Keyring.create(folder / "keyring", authority="test", now=NOW)
        self.keys = ring.key_list
        self.exchange = Direct(Launches(store, lambda: ring, lambda: NOW))
        self.tpm = TpmKeys()
        certificate = MAKERS.issue(self.tpm.ek)
        self.introduction = EnrolBegin(EkKind.P256, certificate, self.tpm.ek.encode(), (), self.tpm.ak.encode())

    def begin(self) -> EnrolFinish:
        challenge = ask(self.exchange, self.keys, self.introduction, EnrolChallenge)
        secret = self.tpm.activate(Credential(challenge.id_object, challenge.encrypted_secret))
        return EnrolFinish(challenge.cookie, enrol_proof(secret, challenge.cookie))

    def finish(self, message: EnrolFinish) -> bytes:
        return ask(self.exchange, self.keys, message, Enrolled).host_id


@pytest.fixture
def enrolling(store: Store, tmp_path: Path) -> Host:
    return Host(store, tmp_path)


def test_a_bundle_makes_a_host_known_that_carries_no_intermediates(admin: Admin, enrolling: Host) -> None:
    assert code(enrolling.begin) == "ek-chain"
    admin.import_bundle(replace(BUNDLE, roots=ROOTS[:1]).encode())
    assert code(enrolling.begin) == "ek-chain"
    admin.import_bundle(replace(BUNDLE, serial=4).encode())
    assert enrolling.finish(enrolling.begin()) == host_id(enrolling.tpm.ek)


def test_a_revocation_list_keeps_a_host_out(trusting: Admin, enrolling: Host) -> None:
    begun = enrolling.begin()
    row = trusting.add_crl(MAKERS.revocation_list(enrolling.introduction.ek_certificate, now=NOW))
    for step in (enrolling.begin, lambda: enrolling.finish(begun)):
        with pytest.raises(Rejected) as caught:
            step()
        assert (caught.value.clause, caught.value.code) == ("A1", "ek-revoked")
    trusting.remove_crl(row.fingerprint)
    assert enrolling.finish(begun) == host_id(enrolling.tpm.ek)


def test_a_pin_goes_before_a_revoked_certificate(store: Store, trusting: Admin, enrolling: Host) -> None:
    trusting.add_crl(MAKERS.revocation_list(enrolling.introduction.ek_certificate, now=NOW))
    trusting.pin_ek(enrolling.tpm.ek, EkClass.FIRMWARE, "ours")
    enrolling.finish(enrolling.begin())
    assert store.hosts()[0].ek_class is EkClass.FIRMWARE


def test_the_intermediates_are_parsed_once(store: Store, trusting: Admin) -> None:
    snapshots = Snapshots(store)
    before = snapshots.current().trusted
    trusting.pin_ek(TpmKeys().ek, EkClass.FIRMWARE, "x")
    after = snapshots.current().trusted
    assert after.intermediates is before.intermediates
    assert len(after.pins) == 1
    trusting.import_bundle(replace(BUNDLE, serial=4, roots=ROOTS[:1]).encode())
    assert snapshots.current().trusted.intermediates is not before.intermediates
