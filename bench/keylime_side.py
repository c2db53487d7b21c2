"""The other side of ``bin/bench --against keylime``: run by the Python of Keylime's own environment, prints JSON.

Calls Keylime's functions as its verifier does: the measurement list with the policy in memory, the boot log with its
"example" policy, and ten new entries with the policy parsed, which is what every attestation pays.
"""

import base64
import json
import logging
import os
import sys
from pathlib import Path

FOLDER = sys.argv[1]
ENTRIES = int(sys.argv[2])
sys.path.insert(0, FOLDER)
os.environ.setdefault("KEYLIME_VERIFIER_MEASURED_BOOT_POLICY_NAME", "example")
from common import DATA, bench  # noqa: E402

sys.stdout, out = sys.stderr, sys.stdout  # Keylime reports its configuration
from keylime.agentstates import AgentAttestState  # noqa: E402
from keylime.common.algorithms import Hash  # noqa: E402
from keylime.ima import ima  # noqa: E402
from keylime.mba import mba  # noqa: E402

logging.disable(logging.WARNING)
NEW = 10


def boot():
    log = base64.b64encode(Path(DATA, "elog", "kl-secureboot.bin").read_bytes()).decode()
    policy = Path(DATA, "mbpolicy-sb.json").read_text()
    mba.load_imports()

    def run():
        _, _, data, failure = mba.bootlog_parse(log, "sha256")
        assert not failure
        assert not mba.bootlog_evaluate(policy, data, set(range(10)) | {14}, "x")

    return bench(run, 5, 4)[3]


def runtime():
    text = Path(DATA, f"policy-{ENTRIES}.json").read_text()
    policy = ima.deserialize_runtime_policy(text)
    lines = Path(DATA, f"ima-ng-{ENTRIES}.ascii").read_text().split("\n")
    pcr = json.loads(Path(DATA, f"ima-ng-{ENTRIES}.pcr").read_text())["sha256"]

    def whole():
        _, failure = ima.process_measurement_list(
            AgentAttestState("x"), lines, policy, pcrval=pcr, hash_alg=Hash.SHA256
        )
        assert not failure

    mark = ENTRIES - NEW
    before, _ = ima.process_measurement_list(None, lines[:mark], policy, hash_alg=Hash.SHA256)

    def part():
        state = AgentAttestState("x")
        state.set_ima_pcrs({10: bytes.fromhex(before)})
        state.set_next_ima_ml_entry(mark)
        _, failure = ima.process_measurement_list(
            state, lines[mark:], ima.deserialize_runtime_policy(text), pcrval=pcr, hash_alg=Hash.SHA256
        )
        assert not failure

    return bench(whole, 2)[3] / ENTRIES, bench(part, 3)[3]


whole, part = runtime()
json.dump({"boot": boot(), "runtime": whole, "part": part}, out)
