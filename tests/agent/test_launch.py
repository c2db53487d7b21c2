"""One launch on the host: the secret reaches the machine that the tenant meant, and no other."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from watchword.agent.enrol import enrol
from watchword.agent.launch import BootKind, Delivery, Order, launch
from watchword.crypto.envelope import LaunchSecret, seal_reply
from watchword.errors import MalformedError, Rejected, UsageError, WatchwordError
from watchword.wire.inputs import inputs_digest
from watchword.wire.messages import Refusal, encode_reply
from watchword.wire.token import Token

TOKEN = Token(1, b"keyk", bytes(120)).text()
DISK, USER_DATA = b"a disk" * 1000, b"#cloud-config\n"


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@pytest.fixture
def order(tmp_path: Path) -> Order:
    (tmp_path / "disk.img").write_bytes(DISK)
    return Order(TOKEN, "i-1", tmp_path / "disk.img", tmp_path / "vm", user_data=USER_DATA)


@pytest.fixture
def ready(bench):
    """Enrolled, and the authority's secret names exactly the inputs of ``order``."""
    inputs = inputs_digest({"disk": sha256(DISK), "user-data": sha256(USER_DATA)})
    bench.authority.secret = replace(bench.authority.secret, inputs=inputs)
    with bench.tpm.client() as tpm:
        enrol(bench.host(tpm))
    return bench


def run(bench, order: Order):
    with bench.tpm.client() as tpm:
        return launch(bench.host(tpm), bytes(32), order)


def assert_no_machine(order: Order) -> None:
    assert not order.folder.exists()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        assert os.fsencode(order.folder) not in command


@pytest.mark.parametrize("deliver", list(Delivery))
def test_the_machine_runs_and_the_secret_shows_nowhere(ready, order: Order, deliver: Delivery) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with run(ready, replace(order, deliver=deliver)) as running:
        arguments = Path(f"/proc/{running.pid}/cmdline").read_bytes()
        assert (b"-fw_cfg" in arguments) is (deliver is Delivery.FW_CFG)
        assert b"BEGIN" not in arguments
        assert os.fsencode(order.disk) not in arguments
        for path in order.folder.rglob("*"):
            assert b"PRIVATE" not in path.read_bytes()
        assert len(os.listdir("/proc/self/fd")) <= before + 2  # the control connection and no disk, drive or key


@pytest.mark.parametrize("boot", [kind for kind in BootKind if kind is not BootKind.FRESH])
def test_rescue_and_other_detours_are_refused_before_anybody_is_asked(ready, order: Order, boot: BootKind) -> None:
    asked = len(ready.authority.requests)
    with pytest.raises(Rejected) as refused:
        run(ready, replace(order, boot=boot))
    assert (refused.value.clause, refused.value.code) == ("L1", "launch-detour")
    assert len(ready.authority.requests) == asked
    assert_no_machine(order)


def test_a_swapped_image_is_refused(ready, order: Order) -> None:
    order.disk.write_bytes(DISK[:-1] + b"!")
    with pytest.raises(Rejected) as refused:
        run(ready, order)
    assert (refused.value.clause, refused.value.code) == ("L2", "inputs-differ")
    assert_no_machine(order)


@pytest.mark.parametrize("user_data", [USER_DATA + b"#", b"", None])
def test_swapped_user_data_is_refused(ready, order: Order, user_data: bytes | None) -> None:
    with pytest.raises(Rejected) as refused:
        run(ready, replace(order, user_data=user_data))
    assert refused.value.code == "inputs-differ"
    assert_no_machine(order)


def test_fewer_names_than_the_tenant_bound_are_refused(ready, order: Order) -> None:
    """A provider that passes on ``disk`` alone cannot have other user-data accepted."""
    with pytest.raises(Rejected) as refused:
        run(ready, replace(order, inputs=("disk",)))
    assert refused.value.code == "inputs-differ"


def test_a_named_input_that_is_not_used_is_refused_before_anybody_is_asked(ready, order: Order) -> None:
    asked = len(ready.authority.requests)
    with pytest.raises(Rejected) as refused:
        run(ready, replace(order, inputs=("disk", "kernel", "user-data")))
    assert refused.value.code == "inputs-differ"
    assert len(ready.authority.requests) == asked


def test_user_data_that_the_token_does_not_name_is_refused(ready, order: Order) -> None:
    """A provider that adds user-data to a launch of a disk alone, and leaves its name out."""
    secret: LaunchSecret = ready.authority.secret
    ready.authority.secret = replace(secret, inputs=inputs_digest({"disk": sha256(DISK)}))
    with pytest.raises(Rejected) as refused:
        run(ready, replace(order, inputs=("disk",), user_data=b"anything"))
    assert refused.value.code == "inputs-differ"
    assert_no_machine(order)


def test_an_image_that_changes_during_the_launch_is_refused(ready, order: Order) -> None:
    honest = ready.authority.answer

    def write_and_answer(request, reply_key):
        with order.disk.open("r+b") as file:
            file.write(b"evil")
        return honest(request, reply_key)

    ready.authority.answer = write_and_answer
    with pytest.raises(Rejected) as refused:
        run(ready, replace(order, copy_limit=0))
    assert refused.value.code == "disk-changed"
    assert_no_machine(order)


def test_a_refusal_starts_nothing(ready, order: Order) -> None:
    ready.authority.answer = lambda *_: Refusal("token-expired", "F3", "too late")
    with pytest.raises(Rejected) as refused:
        run(ready, order)
    assert refused.value.code == "token-expired"
    assert_no_machine(order)


def test_a_host_that_is_not_the_one_judged_starts_nothing(ready, order: Order, new_tpm) -> None:
    ready.tpm = new_tpm
    with pytest.raises(WatchwordError) as failed:
        run(ready, order)
    assert failed.value.code == "tpm-other-tpm"
    assert_no_machine(order)


def test_an_impostor_of_the_authority_starts_nothing(ready, order: Order) -> None:
    """Who terminates the connection but has not the sealing key never learns the reply key."""
    reply = encode_reply(Refusal("token-expired", "F3", "too late"))
    ready.authority.send = lambda sealed: seal_reply(reply, bytes(32))
    with pytest.raises(MalformedError) as failed:
        run(ready, order)
    assert failed.value.code == "reply-unopenable"
    assert_no_machine(order)


@pytest.mark.parametrize("token", ["", "WWT1", "WWT2" + TOKEN[4:], TOKEN + "=", TOKEN + " x"])
def test_what_is_no_token_is_refused(ready, order: Order, token: str) -> None:
    with pytest.raises(MalformedError):
        run(ready, replace(order, token=token))


@pytest.mark.parametrize("instance", ["", "x" * 256, "é" * 128])
def test_an_instance_has_a_bounded_name(ready, order: Order, instance: str) -> None:
    with pytest.raises(UsageError) as refused:
        run(ready, replace(order, instance=instance))
    assert refused.value.code == "instance"


def test_an_order_does_not_show_its_token(order: Order) -> None:
    assert TOKEN not in repr(order)
