"""CoRIM: our own stacks there and back without loss, and what is taken of other people's documents."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from watchword.crypto.cbor import Tag, dump, load
from watchword.crypto.cose import Sign1, sign
from watchword.errors import MalformedError, Rejected
from watchword.policy.stack import CompiledStack
from watchword.reference.interop.corim.document import (
    Corim,
    check_signer,
    is_signed,
    parse_signed,
    sign_corim,
)
from watchword.reference.interop.corim.foreign import read_corim, read_registers
from watchword.reference.interop.corim.own import PROFILE, read_own, write_corim
from watchword.reference.interop.draft import Draft, Event, Heading, build
from watchword.reference.interop.draft import encode as canonical
from watchword.testing.documents import STACK, encode, event, sha
from watchword.testing.world import stack_from_recording
from watchword.wire.tpm.algorithms import Alg

A, B = bytes.fromhex(sha("a")), bytes.fromhex(sha("b"))
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,20}", fullmatch=True)
notes = st.text(max_size=20).filter(str.isprintable)
digests = st.fixed_dictionaries(
    {"sha256": st.binary(min_size=32, max_size=32).map(bytes.hex)},
    optional={
        "sha384": st.binary(min_size=48, max_size=48).map(bytes.hex),
        "sm3_256": st.binary(min_size=32, max_size=32).map(bytes.hex),
    },
)
events = st.fixed_dictionaries({"pcr": st.sampled_from([0, 4, 9]), "digests": digests}, optional={"note": notes})
variants = st.lists(
    st.fixed_dictionaries({"name": names, "events": st.lists(events, max_size=3)}),
    min_size=1, max_size=3, unique_by=lambda v: v["name"],
)  # fmt: skip
components = st.lists(
    st.fixed_dictionaries({"name": names, "variants": variants}),
    min_size=1, max_size=3, unique_by=lambda c: c["name"],
)  # fmt: skip
texts = st.sampled_from(["sha256:" + sha("a"), "sha256:" + sha("b"), "sha512:" + sha("a") + sha("b")])
sha256s = st.sampled_from(["sha256:" + sha("a"), "sha256:" + sha("b")])
paths = st.sampled_from(["/bin/sh", "/ü", "hex:ff", "relative", "pcr-4/0"])
runtimes = st.fixed_dictionaries(
    {},
    optional={
        "files": st.dictionaries(paths, st.lists(texts, min_size=1, max_size=3)),
        "any_path": st.lists(texts, max_size=2),
        "keyrings": st.dictionaries(st.sampled_from([".ima", ".evm", "%k"]), st.lists(sha256s, max_size=2)),
    },
)
bad = st.fixed_dictionaries({"digest": texts, "what": st.sampled_from(["event", "file"]), "reason": names})
stacks = st.fixed_dictionaries(
    {
        "format": st.just("watchword-stack/1"),
        "name": names,
        "version": names,
        "serial": st.integers(1, 2**53),
        "origin": st.sampled_from(["computed", "captured"]),
        "pcrs": st.just([0, 4, 9]),
        "components": components,
    },
    optional={
        "pool": names,
        "issued": st.integers(0, 1000),
        "supersedes": st.lists(sha256s, max_size=1),
        "known_bad": st.lists(bad, max_size=2, unique_by=lambda b: b["digest"]),
        "not_before": st.integers(0, 1000),
        "not_after": st.none() | st.integers(1001, 2**53),
        "runtime": st.none() | runtimes,
    },
).filter(lambda d: any(v["events"] for c in d["components"] for v in c["variants"]))


@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(stacks)
def test_a_stack_there_and_back(document: dict[str, Any]) -> None:
    written = write_corim(encode(document))
    back = read_own(Corim.parse(written), written)
    assert json.loads(back) == document
    assert write_corim(back) == written
    shuffled = dict(reversed(document.items()))
    assert write_corim(encode(shuffled)) == written


def test_what_our_commands_wrote_comes_back_byte_for_byte() -> None:
    runtime = STACK["runtime"]
    first = {name: value for name, value in STACK.items() if name != "runtime"}
    document = canonical({**first, "not_before": 1, "not_after": 2_000_000_000, "runtime": runtime})
    written = write_corim(document)
    assert read_own(Corim.parse(written), written) == document
    assert Corim.parse(written).validity == (1, 2_000_000_000)


@pytest.mark.parametrize("boot", ["good", "secure-boot-on"])
def test_a_captured_stack_comes_back_byte_for_byte(boots: Path, boot: str) -> None:
    document = stack_from_recording(boots / boot)
    written = write_corim(document)
    assert len(written) < len(document)
    assert read_own(Corim.parse(written), written) == document


def parts(written: bytes) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """The decoded maps of the document and of its CoMID."""
    corim = load(written, "x", len(written)).value
    return copy.copy(corim), load(corim[1][0].value, "x", len(written))


def joined(corim: dict[Any, Any], comid: dict[Any, Any]) -> bytes:
    return dump(Tag(501, {**corim, 1: [Tag(506, dump(comid))]}))


def test_the_mapping_is_the_one_of_the_page() -> None:
    document = copy.deepcopy(STACK)
    document["runtime"]["files"] = {"/a": ["sha256:" + sha("a"), "sha256:" + sha("b")]}
    corim, comid = parts(write_corim(encode(document)))
    assert (corim[0], corim[3]) == ("compute/1.0/5", Tag(32, PROFILE))
    assert corim[-1]["runtime"] == {"files": 1, "any_path": ("sha256:" + sha("anywhere"),)}
    assert corim[-1]["components"] == (("firmware", ("a",)), ("boot", ("one",)))
    kernel = {0: "pcr-4/0", 1: {2: ((1, bytes.fromhex(sha("kernel"))),), 11: "kernel"}}
    initrd = {0: "pcr-9/0", 1: {2: ((1, bytes.fromhex(sha("initrd"))),), 11: "initrd"}}
    assert comid[4][0][1] == ({0: {1: "compute", 2: "boot/one", 3: 1, 4: 0}}, (kernel, initrd))
    assert comid[4][0][2:] == (
        ({0: {1: "compute", 2: "files", 3: 2, 4: 0}}, ({0: "/a", 1: {2: ((1, A),)}},)),
        ({0: {1: "compute", 2: "files", 3: 2, 4: 1}}, ({0: "/a", 1: {2: ((1, B),)}},)),
    )


def test_other_readers_find_the_same_events_and_files() -> None:
    """Without the profile, what the specification has is still there to be read."""
    corim, comid = parts(write_corim(encode(STACK)))
    del corim[3], corim[-1]
    draft = read_corim(Corim.parse(joined(corim, comid)))
    stack = CompiledStack.parse(encode(STACK))
    assert [(c, list(v)) for c, v in draft.components] == [("firmware", ["a"]), ("boot", ["one"])]
    assert draft.files == stack.files
    assert draft.left_out == ()


def test_only_what_we_write_has_our_profile() -> None:
    written = write_corim(encode(STACK))
    corim, comid = parts(written)
    other = {**comid, 1: {0: "another"}}
    triples = comid[4][0]
    rest = corim[-1]
    changes = [
        ({**corim, 0: "another"}, comid),
        ({**corim, 5: [{0: "me", 2: [1]}]}, comid),
        ({**corim, 4: {1: Tag(1, 5)}}, comid),
        ({**corim, -2: 1}, comid),
        ({**corim, -1: {**rest, "name": "other"}}, comid),
        ({**corim, -1: {**rest, "unknown": 1}}, comid),
        ({**corim, -1: {**rest, "runtime": {}}}, comid),
        ({**corim, -1: {**rest, "components": 5}}, comid),
        ({**corim, -1: {**rest, "format": "watchword-stack/2"}}, comid),
        ({**corim, -1: []}, comid),
        ({key: value for key, value in corim.items() if key != -1}, comid),
        (corim, other),
        (corim, {**comid, 4: {0: triples[::-1]}}),
        (corim, {**comid, 4: {0: triples[:-1]}}),
        (corim, {**comid, 4: {0: triples, 1: triples}}),
        (corim, {**comid, 4: {0: (*triples, triples[0])}}),
        (corim, {**comid, 4: {1: triples}}),
        (corim, {**comid, 4: {0: 7}}),
        (corim, {**comid, 4: {0: [[{0: {3: 0, 4: 0}}, [{0: "x", 1: {2: [[1, A]]}}]]]}}),
    ]
    for change in changes:
        data = joined(*change)
        with pytest.raises(MalformedError):
            read_own(Corim.parse(data), data)
    two = dump(Tag(501, {**corim, 1: [corim[1][0]] * 2}))
    with pytest.raises(MalformedError, match="not its parts"):
        read_own(Corim.parse(two), two)
    longer = written.replace(b"\xf5\xa4\x00", b"\xf5\xa4\x18\x00", 1)  # the same document, in a longer form
    assert longer != written
    with pytest.raises(MalformedError, match="not what this profile makes"):
        read_own(Corim.parse(longer), longer)


def corim(*triples: Any, profile: Any = None, **more: Any) -> bytes:
    found: dict[Any, Any] = {0: "id", 1: [Tag(506, dump({1: {0: "comid"}, 4: {0: list(triples)}}))]}
    if profile is not None:
        found[3] = profile
    return dump(Tag(501, found | {int(key[1:]): value for key, value in more.items()}))


def triple(*measurements: Any, model: str = "kernel", **group: Any) -> list[Any]:
    return [{0: {1: "vendor", 2: model, **{int(key[1:]): value for key, value in group.items()}}}, list(measurements)]


def measured(key: Any, *digests: Any, **values: Any) -> dict[Any, Any]:
    found: dict[Any, Any] = {1: {int(name[1:]): value for name, value in values.items()}}
    if digests:
        found[1][2] = list(digests)
    return found if key is None else found | {0: key}


def read(data: bytes) -> Draft:
    return read_corim(Corim.parse(data))


def test_files_are_taken() -> None:
    draft = read(
        corim(
            triple(
                measured("/bin/a", [1, A], _11="a file"),
                measured("/bin/b", ["sha-256", A], [8, A + B], _0={0: "1.0"}),
                measured("/bin/weak", [6, b"1234"], ["my-alg", b""]),
                measured("relative", [1, A]),
                measured("/nul\0", [1, A]),
                measured("x" * 4096, [1, A]),
                measured(7, [1, A]),
                measured(Tag(37, bytes(16)), [1, A]),
            ),
            triple(measured("/bin/a", [1, B])),
            [{1: Tag(550, bytes(8))}, [measured("/bin/instance", [1, A])]],
        )
    )
    assert draft.files == {
        b"/bin/a": {(Alg.SHA256, A), (Alg.SHA256, B)},
        b"/bin/b": {(Alg.SHA256, A), (Alg.SHA512, A + B)},
    }
    assert draft.components == ()
    assert draft.left_out == (
        "digest that is too weak or of no known kind: '/bin/weak'",
        "5 × digest of something that is not called by an absolute path, for example 'relative'",
        "measurements of one instance or group: 'reference-triples[2]'",
    )


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"_1": Tag(552, 3)}, "security version number"),
        ({"_3": {3: False}}, "flags"),
        ({"_4": Tag(560, b"x")}, "raw value"),
        ({"_8": "serial"}, "serial number"),
        ({"_13": [Tag(554, "key")]}, "cryptographic keys"),
        ({"_15": 3}, "range of integers"),
        ({"_99": 3}, "member 99"),
    ],
)
def test_a_measurement_that_asks_for_more_is_left_out(values: dict[str, Any], why: str) -> None:
    draft = read(corim(triple(measured("/a", [1, A], **values), measured("/b", [1, B]))))
    assert draft.files == {b"/b": {(Alg.SHA256, B)}}
    assert draft.left_out == (f"measurement with {why}: '/a'",)


def test_a_measurement_of_some_authority_is_left_out() -> None:
    draft = read(corim(triple(measured("/a", [1, A]) | {2: [Tag(560, b"k")]})))
    assert (draft.files, len(draft.left_out)) == (None, 1)


def test_events_are_taken_in_the_order_of_layers_and_indexes() -> None:
    draft = read(
        corim(
            triple(measured("pcr-4/0", [1, B], _11="new"), model="kernel/new", _3=2, _4=1),
            triple(
                measured("pcr-4/0", [1, A]),
                measured("pcr-9/0", [1, A]),
                measured("pcr-4/1", [1, B]),
                model="kernel/old",
                _3=2,
                _4=0,
            ),
            triple(measured("pcr-0/0", [7, A + A[:16]]), measured("pcr-10/0", [1, A]), model="firmware", _3=1),
        )
    )
    assert draft.components == (
        ("firmware", {"corim": (Event(0, {Alg.SHA384: A + A[:16]}),)}),
        ("kernel", {
            "old": (Event(4, {Alg.SHA256: A}), Event(9, {Alg.SHA256: A}), Event(4, {Alg.SHA256: B})),
            "new": (Event(4, {Alg.SHA256: B}, "new"),),
        }),
    )  # fmt: skip
    assert draft.left_out[0].startswith("event of PCR 10, which a stack cannot cover")


@pytest.mark.parametrize(
    ("triples", "why"),
    [
        ([triple(measured("pcr-4/1", [1, A]))], "event 1 of PCR 4, and the next one is 0"),
        ([triple(measured("pcr-4/0", [1, A]), measured("pcr-4/0", [1, A]))], "event 0 of PCR 4, and the next one is 1"),
        ([triple(measured("pcr-4/0", [2, b"x"]))], "without a strong digest"),
        ([triple(measured("pcr-4/0", [1, A], _1=3))], "something that a stack cannot say"),
        ([triple(measured("pcr-4/0", _1=3))], "something that a stack cannot say"),
        ([triple(measured("pcr-4/0", [1, A]), model="no name")], "no name that a component can have"),
        ([triple(measured("pcr-4/0", [1, A]))] * 2, "a second variant corim of kernel"),
        ([triple(measured("/a", [1, A[:-1]]))], "31 bytes long"),
        ([triple(measured("/a", [1, A], [1, A]))], "second digest of one algorithm"),
        ([triple(measured("/a", [1, A], ["sha-256", B]))], "second digest of one algorithm"),
        ([triple(measured("/a", ["x", b""], ["x", b""]))], "second digest of one algorithm"),
        ([triple(measured("/a", [1]))], "not an algorithm and a value"),
        ([triple(measured("/a", [1, "text"]))], "not a byte string"),
        ([triple(measured("/a", [True, A]))], "not a text"),
        ([triple(measured("/a", *[[n, b""] for n in range(-70, 0)]))], "more than 64 digests"),
        ([triple(measured(-1, [1, A]))], "not an unsigned integer"),
        ([triple(measured(b"x", [1, A]))], "does not have tag 37 or 111"),
        ([triple(measured("/a", [1, A]), _3=-1)], "not an unsigned integer"),
        ([triple(measured("/a", [1, A]), _3=True)], "not an unsigned integer"),
        ([triple(measured("/a", [1, A]), _3="1")], "not an unsigned integer"),
        ([triple(measured("x" * 5000, [1, A]))], "at most 4096 characters"),
        ([[{0: {1: "v"}}, {0: 1}]], "not an array"),
        ([triple(7)], "not a map"),
        ([triple({0: "/a"})], "has no member 1"),
        ([triple({0: "/a", 1: {}})], "no members"),
        ([triple()], "is empty"),
        ([[{}, [measured("/a", [1, A])]]], "no members"),
        ([[{0: {1: "v"}}]], "not an environment and measurements"),
        ([[{0: {0: b"raw"}}, [measured("/a", [1, A])]]], "does not have tag 37 or 111 or 560"),
    ],
)
def test_refused_with_its_place(triples: list[Any], why: str) -> None:
    with pytest.raises(MalformedError, match=rf"^CoRIM: reference-triples\[[01]\].*{why}"):
        read(corim(*triples))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (dump({1: {0: "x"}, 4: {}}), "a part of a CoRIM"),
        (dump(Tag(506, b"")), "a part of a CoRIM"),
        (dump(Tag(500, {})), "does not have tag 501"),
        (dump({0: "x"}), "does not have tag 501"),
        (dump(Tag(501, {0: "x"})), "no member 1"),
        (dump(Tag(501, {0: "x", 1: []})), "tags: is not an array, or is empty"),
        (dump(Tag(501, {0: "x", 1: [{}]})), "something without a tag"),
        (dump(Tag(501, {0: "x", 1: [Tag(506, {})]})), "not a byte string"),
        (dump(Tag(501, {0: "x", 1: [Tag(506, b"\xa1")]})), r"tags\[0\]: is not CBOR"),
        (dump(Tag(501, {0: b"short", 1: [Tag(505, b"")]})), "16 bytes of a UUID"),
        (dump(Tag(501, {0: 7, 1: [Tag(505, b"")]})), "id: is not a text"),
        (dump(Tag(501, {0: "x", 1: [Tag(505, b"")] * 1025})), "more than 1024"),
        (dump(Tag(501, {0: "x", 1: [Tag(505, b"")], 3: "profile"})), "profile: does not have tag 32 or 111"),
        (dump(Tag(501, {0: "x", 1: [Tag(505, b"")], 4: {0: Tag(1, 5)}})), "rim-validity: has no member 1"),
        (dump(Tag(501, {0: "x", 1: [Tag(505, b"")], 4: {1: 5}})), "does not have tag 1"),
        (dump(Tag(501, {0: "x", 1: [Tag(505, b"")], 4: {1: Tag(1, -5)}})), "between 1970 and the far future"),
        (dump(Tag(501, {0: "x", 1: [Tag(505, b"")], 4: {1: Tag(1, True)}})), "between 1970 and the far future"),
    ],
)
def test_refused_documents(data: bytes, why: str) -> None:
    with pytest.raises(MalformedError, match=rf"^CoRIM: .*{why}"):
        Corim.parse(data)


@pytest.mark.parametrize("profile", [Tag(32, "https://example.com/p"), Tag(111, b"\x55\x04\x03")])
def test_an_unknown_profile_is_refused(profile: Tag) -> None:
    data = corim(triple(measured("/a", [1, A])), profile=profile)
    for reader in (read_corim, read_registers):
        with pytest.raises(MalformedError) as refused:
            reader(Corim.parse(data))
        assert refused.value.code == "corim-profile"


def test_what_else_a_document_has_is_said() -> None:
    comid = {1: {0: bytes(16)}, 4: {1: [1], 9: [1], 0: [triple(measured("/a", [1, A]))]}, 7: 1}
    tags = [Tag(506, dump(comid)), Tag(505, b""), Tag(999, b"")]
    draft = read(dump(Tag(501, {0: "id", 1: tags, 2: [{0: Tag(32, "https://x")}], -7: 1})))
    assert draft.files == {b"/a": {(Alg.SHA256, A)}}
    assert sorted(draft.left_out) == [
        "member 7 of a CoMID: '00000000000000000000000000000000'",
        "member of the document that is not known: '-7'",
        "other documents that belong to this one: 'id'",
        "tag 505, CoSWID: 'id'",
        "tag 999, of no known kind: 'id'",
        "triples of kind 1, endorsed values: '00000000000000000000000000000000'",
        "triples of kind 9, not known: '00000000000000000000000000000000'",
    ]


def test_a_replaced_comid_does_not_count() -> None:
    old = {1: {0: "old"}, 4: {0: [triple(measured("/a", [1, A]))]}}
    new = {1: {0: "new"}, 3: [{0: "old", 1: 1}, {0: "x", 1: 0}], 4: {0: [triple(measured("/a", [1, B]))]}}
    draft = read(dump(Tag(501, {0: "id", 1: [Tag(506, dump(each)) for each in (old, new)]})))
    assert draft.files == {b"/a": {(Alg.SHA256, B)}}
    assert draft.left_out == ("CoMID that another one replaces: 'old'",)


def test_validity_is_kept_and_only_becomes_shorter() -> None:
    files = triple(measured("/a", [1, A]))
    draft = read(corim(files, _4={0: Tag(1, 10.5), 1: Tag(1, 99.5)}))
    assert (draft.not_before, draft.not_after) == (11, 99)
    for base, expected in ((STACK, (11, 99)), ({**STACK, "not_before": 20, "not_after": 50}, (20, 50))):
        stack = CompiledStack.parse(build(draft, Heading("n", "1", 1), encode(base)))
        assert (stack.not_before, stack.not_after) == expected


def test_a_document_without_files_does_not_make_a_stack_that_lists_files() -> None:
    draft = read(corim(triple(measured("pcr-4/0", [1, A]))))
    assert CompiledStack.parse(build(draft, Heading("n", "1", 1))).runtime is False


def test_integrity_registers_are_values_to_compare() -> None:
    registers = {4: [[1, A], ["other", b"x"], [7, A + A[:16]]], 0: [[1, B]], 99: [[1, A]], "name": [[1, A]]}
    document = Corim.parse(corim(triple(measured(None, _14=registers), model="host")))
    found = read_registers(document)
    assert [(e.label, e.bank, e.values) for e in found] == [
        ("host reference-triples[0]", Alg.SHA256, {4: A, 0: B}),
        ("host reference-triples[0]", Alg.SHA384, {4: A + A[:16]}),
    ]
    assert read_corim(document).left_out == (
        "integrity registers, which 'stack check --expect' compares: 'host'",
    )  # fmt: skip
    with pytest.raises(MalformedError, match="has no integrity registers"):
        read_registers(Corim.parse(corim(triple(measured(None, _14={99: [[1, A]]})))))


KEY = Ed25519PrivateKey.generate()
META = dump({0: {0: "me"}, 1: {0: Tag(1, 100), 1: Tag(1, 200)}})


def signed(headers: dict[int, Any]) -> Sign1:
    return parse_signed(sign(b"", {3: "application/rim+cbor", **headers}, KEY))


def test_our_signed_documents() -> None:
    data = sign_corim(write_corim(encode(STACK)), "Example Ltd", KEY)
    assert is_signed(data)
    assert not is_signed(write_corim(encode(STACK)))
    message = parse_signed(data)
    assert message.payload == write_corim(encode(STACK))
    assert check_signer(message, 0) == "Example Ltd"
    assert is_signed(b"\xd8\x12" + data[1:])
    assert parse_signed(b"\xd8\x12" + data[1:]).payload == message.payload


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({3: "text/plain", 8: META}, "no application/rim"),
        ({}, "nothing about the signer"),
        ({258: -16, 259: "application/rim+cbor", 8: META}, "only the digest"),
    ],
)
def test_headers_that_are_refused(headers: dict[int, Any], why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        signed(headers)


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({8: META, 15: {1: "another"}}, "two names"),
        ({8: b"\xff"}, "corim-meta: is not CBOR"),
        ({8: dump({1: {}})}, "has no member 0"),
        ({8: dump({0: {1: "x"}})}, "has no member 0"),
        ({8: dump({0: {0: 7}})}, "is not a text"),
        ({15: []}, "not a map"),
        ({15: {1: 7}}, "is not a text"),
        ({15: {1: "me", 4: "soon"}}, "between 1970"),
    ],
)
def test_signers_that_are_refused(headers: dict[int, Any], why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        check_signer(signed(headers), 150)


@pytest.mark.parametrize("headers", [{8: META}, {15: {1: "me", 4: 200, 5: 100}}, {8: META, 15: {1: "me"}}])
def test_a_signature_is_valid_for_a_while(headers: dict[int, Any]) -> None:
    message = signed(headers)
    assert check_signer(message, 100) == check_signer(message, 199) == "me"
    for now in (99, 200):
        with pytest.raises(Rejected) as refused:
            check_signer(message, now)
        assert (refused.value.clause, refused.value.code) == ("S1", "document-validity")


@given(st.binary(max_size=80), st.integers(0, 700))
def test_any_change_is_read_or_refused(patch: bytes, place: int) -> None:
    written = write_corim(encode(STACK))
    data = written[:place] + patch + written[place + len(patch) :]
    with suppress(MalformedError):
        found = Corim.parse(data)
        if found.profile == PROFILE:
            assert write_corim(read_own(found, data)) == data
        else:
            read_corim(found)


def test_events_of_a_foreign_document_make_a_stack() -> None:
    data = corim(triple(measured("pcr-4/0", [1, bytes.fromhex(sha("kernel"))], _11="kernel")))
    stack = CompiledStack.parse(build(read(data), Heading("n", "1", 1)))
    (only,) = stack.components[0].variants[0].events
    assert (only.pcr, only.digests[Alg.SHA256].hex(), only.note) == (4, sha("kernel"), event(4, "kernel")["note"])
