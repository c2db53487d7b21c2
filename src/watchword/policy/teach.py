"""A stack's files in the form in which kernels measure them, so that even the first host's log holds nothing new."""

from __future__ import annotations

import struct

from watchword.policy.known_bad import NOTHING_BAD, KnownBad
from watchword.policy.stack import CompiledStack
from watchword.verify.known_files import KnownFiles
from watchword.verify.runtime_file import read_file
from watchword.wire.ima_log import IMA_PCR, ImaEntry, encode_entry
from watchword.wire.tpm.algorithms import HASHES, Alg, digest

__all__ = ["TEMPLATES", "teach"]

#: The templates that hold nothing but what a stack lists: the digest and the path, and no signature.
TEMPLATES = ("ima-ng", "ima-sig")
_NO_SIGNATURE = bytes(4)


def teach(
    known: KnownFiles, stack: CompiledStack, templates: tuple[str, ...] = TEMPLATES, bad: KnownBad = NOTHING_BAD
) -> int:
    """Put the entry of every file that ``stack`` lists by path into ``known``, and tell how many were put there.

    Takes a few microseconds for each file and template. An entry that does not read back as the very file is left out,
    and so is a file that is known to be bad.
    """
    count, judge = 0, bad.judge_id(stack.digest)
    for path, digests in stack.files.items():
        name = struct.pack("<I", len(path) + 1) + path + b"\0"
        for alg, value in digests:
            if (alg, value) in bad.files:
                continue
            label = HASHES[alg].encode() + b":\0" + value
            content = struct.pack("<I", len(label)) + label + name
            for template in templates:
                data = content if template == "ima-ng" else content + _NO_SIGNATURE
                entry = ImaEntry(0, IMA_PCR, digest(Alg.SHA1, data), template, data)
                raw = encode_entry(entry)
                file = read_file(raw, len(entry.digest), 0)
                if file is not None and file[1:] == (path, alg, value, None, "ima", None):
                    known.add(raw, digest(known.bank, data))
                    known.clear(judge, raw)
                    count += 1
    return count
