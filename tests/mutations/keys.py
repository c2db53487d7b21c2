"""Clauses K2 and K6: what a root that is kept elsewhere signs, and what an authority installs."""

from __future__ import annotations

from .mutation import Mutation

_REQUEST, _RECORD, _RING = "crypto/root_request.py", "crypto/root_record.py", "authority/keyring.py"
_ROOT_TESTS = ("tests/authority/test_offline_root.py",)

MUTATIONS = (
    Mutation("K2", _REQUEST, "            if proposed.version != 1:", "            if False:", _ROOT_TESTS),
    Mutation("K2", _REQUEST, "        keylist.check_next(previous, proposed)\n", "", _ROOT_TESTS),
    Mutation(
        "K2",
        _REQUEST,
        "        keylist.verify_chain([self.before], keylist.root_fingerprint(previous.root))\n",
        "",
        _ROOT_TESTS,
    ),
    Mutation(
        "K2",
        _RING,
        "    keylist.verify_chain([text.encode() for text in lists], manifest.fingerprint)\n",
        "",
        _ROOT_TESTS,
    ),
    Mutation("K6", _REQUEST, " or keylist.root_fingerprint(public) not in roots:", ":", _ROOT_TESTS),
    Mutation("K6", _RECORD, "        if keys.version > version or", "        if True or", _ROOT_TESTS),
    Mutation(
        "K6",
        _RECORD,
        "        if keys.version > version or (keys.version == version and (",
        "        if keys.version > version or ((",
        _ROOT_TESTS,
    ),
    Mutation("K6", _RING, "    if request.lists()[1].encode() != asked.encode():", "    if False:", _ROOT_TESTS),
)
