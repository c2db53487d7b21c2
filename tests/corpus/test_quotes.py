"""Other people's quotes that come with their keys: ours says what their source says, as far as our clauses let them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from watchword.errors import Rejected
from watchword.testing.tpm_keys import TpmKeys
from watchword.verify.ak import restore_ak
from watchword.verify.ek import EkClass, host_id
from watchword.verify.quote import verify_quote
from watchword.wire.reader import Reader, Writer
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.attest import Attest, QuoteInfo
from watchword.wire.tpm.pcr import pcr_digest

NONCE = b"challenge"
TRUSTEE, TOOLING = "confidential-containers+trustee/az-snp-vtpm", "kinvolk+azure-cvm-tooling/az"
Quoted = tuple[str, bytes, bytes, list[bytes], int]  # name, attest, signature, PCR values, modulus


def hcl_modulus(report: bytes) -> int:
    """The attestation key that a report of the paravisor names, as a JWK behind its fixed part."""
    text = report[report.index(b'{"keys"') :]
    keys: list[dict[str, Any]] = json.JSONDecoder().raw_decode(text.decode("utf-8", "replace"))[0]["keys"]
    (key,) = (key for key in keys if key["kid"] == "HCLAkPub")
    return int.from_bytes(base64.urlsafe_b64decode(key["n"] + "=="), "big")


def bincode(data: bytes) -> tuple[bytes, bytes, list[bytes]]:
    """Signature and message with a little-endian 64-bit size, then a number of PCR values."""
    reader = Reader(data, "quote")
    signature, message = (reader.take(reader.le64()) for _ in range(2))
    values = [reader.take(32) for _ in range(reader.le64())]
    reader.finish()
    return signature, message, values


def quotes(corpus: Path) -> Iterator[Quoted]:
    snp, az = corpus / TRUSTEE, corpus / TOOLING
    old = json.loads((snp / "evidence-v0.json").read_text())
    quote = old["quote"]
    values = [bytes(value) for value in quote["pcrs"]]
    yield "v0", bytes(quote["message"]), bytes(quote["signature"]), values, hcl_modulus(bytes(old["report"]))
    new = json.loads((snp / "evidence-v1.json").read_text())
    quote = new["tpm_quote"]
    values = [bytes.fromhex(value) for value in quote["pcrs"]]
    report = base64.urlsafe_b64decode(new["hcl_report"] + "==")
    yield "v1", bytes.fromhex(quote["message"]), bytes.fromhex(quote["signature"]), values, hcl_modulus(report)
    pem = load_pem_public_key((az / "akpub.pem").read_bytes())
    assert isinstance(pem, rsa.RSAPublicKey)
    signature, message, values = bincode((az / "quote.bin").read_bytes())
    yield "az", message, signature, values, pem.public_numbers().n
    signature, message, values = bincode((snp / "quote.bin").read_bytes())
    report = (snp / "hcl-report.bin").read_bytes()
    yield "trustee", message, signature, values, hcl_modulus(report)


def test_azure_quotes_verify_with_the_key_that_came_with_them(corpus: Path, show: Any) -> None:
    """Magic, type, structure and signature hold; what is not ours is the nonce, so clause B5 is the first to refuse."""
    names = []
    for name, attest, signature, values, modulus in quotes(corpus):
        keys = TpmKeys(ak_scheme=Alg.RSASSA)
        public = replace(keys.ak, unique=modulus.to_bytes(256, "big"))
        ak = restore_ak(host_id(keys.ek), keys.ek.encode(), public.encode(), EkClass.VIRTUAL)
        info = Attest.parse(attest).attested
        assert isinstance(info, QuoteInfo)
        pcrs = {Alg.SHA256: dict(enumerate(values))}
        assert info.pcr_digest == pcr_digest(Alg.SHA256, info.selections, pcrs)
        tpmt = Writer().u16(Alg.RSASSA).u16(Alg.SHA256).sized16(signature).done()

        def refused(wrong: bytes = tpmt, attest: bytes = attest) -> str:
            with pytest.raises(Rejected) as caught:
                verify_quote(
                    attest=attest, signature=wrong, pcrs=pcrs, ak=ak, binding=bytes(32),  # noqa: B023
                    selections=info.selections, last=None, firmware_allowed=None,  # noqa: B023
                )  # fmt: skip
            return f"{caught.value.clause} {caught.value.code}"

        assert Attest.parse(attest).extra_data == NONCE
        assert refused() == "B5 quote-binding"
        assert refused(tpmt[:-1] + bytes((tpmt[-1] ^ 1,))) == "B4 quote-signature"
        names.append(name)
    assert names == ["v0", "v1", "az", "trustee"]
    show("quotes whose key came with them verify", len(names), len(names))
