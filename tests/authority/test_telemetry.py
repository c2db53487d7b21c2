"""The service's log and metrics: on a real process, on real launches, and on what must never be in them."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.conftest import ROOT
from tests.docs.source import errors, findings
from tests.docs.test_codes import listed

from watchword.agent.enrol import enrol
from watchword.authority.app import Services
from watchword.authority.deciding.launches import Launches
from watchword.authority.keys.keyring import Keyring
from watchword.authority.serving.limits import Load
from watchword.authority.store import StackState
from watchword.authority.telemetry import journal
from watchword.authority.telemetry.codes import CODES, bounded
from watchword.authority.telemetry.events import (
    EVENTS,
    AccessEvent,
    AttestationEvent,
    BugEvent,
    ChallengeEvent,
    Cost,
    DecisionEvent,
    EnrolmentEvent,
    Event,
    FailureEvent,
    PruneEvent,
    RefusalEvent,
    WitnessEvent,
)
from watchword.authority.telemetry.exporter import Exporter
from watchword.authority.telemetry.gauges import Gauges
from watchword.authority.telemetry.metrics import Metrics
from watchword.errors import Rejected, WatchwordError
from watchword.launch.machine import pseudonym
from watchword.launch.receipt import Decision
from watchword.testing.farm import have_swtpm
from watchword.testing.world import World
from watchword.wire.token import token_id
from watchword.wire.trace import launch_trace

from .conftest import authority_in, serving

PROMTOOL = shutil.which("promtool")
RULES = ROOT / "packaging" / "prometheus" / "watchword.rules.yml"
SIDES = ("authority", "crypto", "wire", "launch", "verify", "policy")
_SAMPLE = re.compile(r"^([a-z_]+)(?:\{(.*)\})? ", re.MULTILINE)


@dataclass
class Watched:
    """A world whose authority tells ``events``, counts ``metrics`` and writes the lines in ``log``."""

    world: World
    events: list[Event]
    metrics: Metrics
    log: io.StringIO

    def only(self, kind: type[Event]) -> Any:
        found = [event for event in self.events if isinstance(event, kind)]
        assert len(found) == 1, self.events
        return found[0]

    def text(self) -> str:
        self.metrics.registry.register(gauges := gauges_of(self.world))
        try:
            return scrape(self.metrics)
        finally:
            self.metrics.registry.unregister(gauges)


def gauges_of(world: World, **options: Any) -> Gauges:
    return Gauges(world.store, lambda: world.keys, lambda: None, lambda: world.now, **options)


def scrape(metrics: Metrics) -> str:
    return generate_latest(metrics.registry).decode()


def value(text: str, name: str, **labels: str) -> float:
    """The value of one sample, 0 when there is none."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    return 0.0


@contextmanager
def logging_to(stream: io.StringIO, form: str = "json", level: str = "info") -> Iterator[None]:
    """The log goes to ``stream``; the state of ``logging`` is put back."""
    root, ours = logging.getLogger(), logging.getLogger("watchword.authority")
    before = root.handlers, root.level, ours.level, logging.raiseExceptions
    journal.configure(form, stream, level)
    try:
        yield
    finally:
        root.handlers, logging.raiseExceptions = before[0], before[3]
        root.setLevel(before[1])
        ours.setLevel(before[2])


@pytest.fixture
def watched(boots: Path) -> Iterator[Watched]:
    if not have_swtpm():
        pytest.skip("swtpm is not installed: launches need real emulated TPMs")
    events: list[Event] = []
    metrics, log = Metrics(), io.StringIO()

    def tell(event: Event) -> None:
        events.append(event)
        metrics.observe(event)
        journal.tell(event)

    with World(boots) as world, logging_to(log):
        world.launches = Launches(world.store, lambda: world.keys, lambda: world.now, tell=tell)
        world.watch()
        yield Watched(world, events, metrics, log)


# -- what is told -------------------------------------------------------------------------------------------------


def test_a_release_is_one_line_with_its_trace(watched: Watched) -> None:
    world = watched.world
    host = world.host()
    token = world.token()
    watched.events.clear()
    host.obtain(token)
    found = watched.only(DecisionEvent)
    decision = world.decisions(token)[0]
    assert found == DecisionEvent(
        trace=token_id(token.text).hex()[:16],
        entry=world.store.head().seq,
        outcome="released",
        clause="",
        code="",
        host=pseudonym(world.keys.pseudonym_key, host.host_id, world.profile.id),
        profile=world.profile.id.hex(),
        level="full",
        stack=world.stack.digest.hex(),
        releases=1,
        cost=found.cost,
    )
    assert found.host == decision.host
    assert {"open", "read", "appraise", "pack", "commit", "mark", "seal"} == set(found.cost.phases)
    assert found.cost.cpu_seconds > 0
    assert sum(found.cost.phases.values()) <= found.cost.seconds
    assert watched.only(ChallengeEvent).trace == found.trace == launch_trace(token.text)


def test_a_refusal_that_is_a_decision_has_its_reason(watched: Watched) -> None:
    host = watched.world.host("kernel")
    token = watched.world.token()
    with pytest.raises(Rejected):
        host.obtain(token)
    found = watched.only(DecisionEvent)
    assert (found.outcome, found.clause, found.code) == ("refused", "E2", "stack-none")
    assert found.trace == launch_trace(token.text)
    assert [event for event in watched.events if isinstance(event, RefusalEvent)] == []
    text = watched.text()
    assert value(text, "watchword_decisions_total", outcome="refused", code="stack-none") == 1
    assert value(text, "watchword_decisions_total", outcome="released", code="none") == 0


def test_a_refusal_before_a_decision_is_told(watched: Watched) -> None:
    world = watched.world
    host = world.host()
    token = world.token(expires=world.now - 1)
    with pytest.raises(Rejected):
        host.obtain(token)
    found = watched.only(RefusalEvent)
    assert (found.request, found.clause, found.code) == ("challenge", "F3", "token-expired")
    assert found.trace == launch_trace(token.text)
    assert value(watched.text(), "watchword_refusals_total", request="challenge", code="token-expired") == 1


def test_an_attestation_and_an_enrolment_share_a_trace_on_both_ends(watched: Watched) -> None:
    host = watched.world.host()
    steps = [event for event in watched.events if isinstance(event, EnrolmentEvent)]
    assert [step.step for step in steps] == ["begin", "finish"]
    assert steps[0].trace == steps[1].trace != ""
    watched.events.clear()
    host.attest()
    found = watched.only(AttestationEvent)
    assert (found.standing, found.level, found.code) == ("trusted", "full", "")
    assert watched.only(ChallengeEvent).trace == found.trace
    assert found.host == pseudonym(watched.world.keys.pseudonym_key, host.host_id, watched.world.profile.id)
    text = watched.text()
    assert value(text, "watchword_attestations_total", standing="trusted", code="none") == 1
    assert value(text, "watchword_enrolments_total", step="finish") == 1


def test_a_failure_of_the_store_is_told_and_counted(watched: Watched) -> None:
    host, token = watched.world.host(), watched.world.token()
    watched.world.store.close()
    path = watched.world.folder / "store.sqlite3"
    path.rename(path.with_name("away"))
    path.mkdir()
    with pytest.raises(WatchwordError):
        host.obtain(token)
    found = watched.only(FailureEvent)
    assert (found.where, found.code) == ("message", "store-unavailable")
    text = watched.text()
    assert value(text, "watchword_failures_total", where="message", code="store-unavailable") == 1
    assert value(text, "watchword_store_up") == 0
    assert "watchword_log_entries" not in text


# -- what is never told -------------------------------------------------------------------------------------------


def test_no_line_and_no_label_has_a_secret_or_a_host(watched: Watched) -> None:
    world = watched.world
    hosts = [world.host(), world.host("kernel")]
    tokens = [world.token(), world.token(), world.token(expires=world.now - 1)]
    for host in hosts:
        for token in tokens:
            with suppress(WatchwordError):
                host.obtain(token)
        host.attest()
        host.use(lambda each: enrol(each, world.makers.intermediates))
    with suppress(WatchwordError):
        hosts[0].obtain("WWT1" + "A" * 200)
    log, text = watched.log.getvalue(), watched.text()
    assert len(log.splitlines()) == len(watched.events) > 15
    forbidden: dict[str, bytes] = {}
    for number, host in enumerate(hosts):
        row = world.store.host(host.host_id)
        assert row is not None
        forbidden |= {f"id {number}": host.host_id, f"ek {number}": row.ek_public, f"ak {number}": row.ak_public}
    for number, token in enumerate(tokens):
        body = token.body
        forbidden |= {f"secret {number}": body.secret, f"launch {number}": body.launch_id}
        assert token.text not in log + text
        assert token.text[8:40] not in log + text
    keys = world.keys
    forbidden |= {"mac": keys.mac_key, "pseudonyms": keys.pseudonym_key}
    forbidden |= {"signing": keys.signing_key.private_bytes_raw(), "log": keys.log_key.private_bytes_raw()}
    forbidden |= {f"sealing {n}": key.private_bytes_raw() for n, key in enumerate(keys.sealing_keys.values())}
    for name, secret in forbidden.items():
        for form in (secret.hex(), repr(secret)[2:-1]):
            assert form not in log + text, name
    names = {each.host for each in watched.events if isinstance(each, DecisionEvent | AttestationEvent)}
    assert names
    assert not any(name in text for name in names)  # pseudonyms are for the log, not for labels


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.NAME)
def test_every_event_is_one_line_of_json(kind: type[Event]) -> None:
    example: dict[str, Any] = {"str": "a\nb\x1b[31m", "int": 7, "Cost": Cost(1.5, 0.5, {"open": 0.25})}
    values = {name: example.get(str(kind.__annotations__[name]), ("f.py:g:1",)) for name in fields_of(kind)}
    log = io.StringIO()
    event = kind(**values)
    with logging_to(log, level="debug"):
        journal.tell(event)
    line = json.loads(log.getvalue())
    assert (line["event"], line["severity"]) == (kind.NAME, logging.getLevelName(event.severity).lower())
    assert list(line)[:3] == ["time", "severity", "event"]
    assert log.getvalue().count("\n") == 1
    assert "\x1b" not in log.getvalue()


@pytest.mark.parametrize(("level", "lines"), [("info", ["attestation", "access"]), ("warning", ["access"])])
def test_an_attestation_that_shows_nothing_new_is_no_news(level: str, lines: list[str]) -> None:
    told = AttestationEvent("t", "trusted", "", "h", "p", "full", "s", renewed=False, cost=Cost())
    events = (told, replace(told, renewed=True), AccessEvent("token", "why"))
    for wanted, expected in ((level, lines), ("debug", ["attestation", "attestation", "access"])):
        log = io.StringIO()
        with logging_to(log, level=wanted):
            for event in events:
                journal.tell(event)
        assert [json.loads(line)["event"] for line in log.getvalue().splitlines()] == expected


def fields_of(kind: type[Event]) -> list[str]:
    return [name for name in kind.__annotations__ if name not in ("NAME", "SEVERITY")]


def test_on_a_terminal_a_stranger_cannot_write_lines() -> None:
    log = io.StringIO()
    with logging_to(log, "console"):
        journal.tell(FailureEvent("chore", "one\ntwo", "\x1b]0;title\x07"))
    assert log.getvalue().count("\n") == 1
    assert not set("\x1b\x07") & set(log.getvalue())


def test_a_line_is_not_long() -> None:
    log = io.StringIO()
    with logging_to(log):
        journal.tell(FailureEvent("chore", "store-busy", "x" * 100_000))
    assert len(log.getvalue()) < 1000


def test_libraries_tell_where_and_not_what() -> None:
    log = io.StringIO()
    with logging_to(log):
        logging.getLogger("sqlalchemy.engine").info("SELECT secret")
        logging.getLogger("uvicorn.error").info("started")
        try:
            raise ZeroDivisionError("what a stranger sent")
        except ZeroDivisionError:
            logging.getLogger("uvicorn.error").exception("Exception in ASGI application\n")
    (line,) = map(json.loads, log.getvalue().splitlines())
    assert (line["event"], line["logger"], line["error"]) == ("library", "uvicorn.error", "ZeroDivisionError")
    assert line["frames"][-1].startswith("test_telemetry.py:test_libraries_tell_where_and_not_what:")
    assert "stranger" not in log.getvalue()


def test_journald_hears_how_bad_a_line_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    log = io.StringIO()
    with logging_to(log):
        journal.tell(FailureEvent("chore", "store-busy", '"severity": "info"'))
        journal.tell(PruneEvent("nonces", 1))
    first, second = log.getvalue().splitlines()
    assert first.startswith('<3>{"time"')
    assert second.startswith('<6>{"time"')


# -- labels -------------------------------------------------------------------------------------------------------


def test_labels_have_only_codes_that_exist() -> None:
    page = {code for codes in listed().values() for code in codes}
    assert page >= CODES
    raised = {each.code for each in findings() if each.function.startswith(SIDES)}
    raised |= {each.code for each in errors() if each.kind == "Unavailable" and each.function.startswith("authority")}
    assert raised - CODES == set(), "add them to authority/telemetry/codes.py"


def test_a_code_from_elsewhere_makes_no_label() -> None:
    assert [bounded(code) for code in ("", "stack-none", "made-up-" + "x" * 90)] == ["none", "stack-none", "other"]
    metrics = Metrics()
    for number in range(50):
        metrics.observe(RefusalEvent("", "launch", "", f"invented-{number}", Cost()))
        metrics.problem(f"invented-{number}")
        metrics.request(f"M{number}", "other", 405, 0.1)
    text = scrape(metrics)
    assert "invented" not in text
    assert value(text, "watchword_refusals_total", request="launch", code="other") == 50
    assert value(text, "watchword_http_problems_total", code="other") == 50
    assert value(text, "watchword_http_requests_total", method="other", route="other", status="405") == 50


# -- gauges -------------------------------------------------------------------------------------------------------


def test_hosts_are_counted_by_how_they_stand(watched: Watched) -> None:
    world = watched.world
    good, bad, silent = world.host(), world.host("kernel"), world.host()
    good.attest()
    bad.attest()
    revoked = world.host()
    revoked.attest()
    with world.store.transaction() as tx:
        tx.revoke_host(revoked.host_id, "stolen", world.now)
    profile = world.profile.id.hex()[:16]

    def hosts(standing: str, level: str = "") -> float:
        return value(watched.text(), "watchword_hosts", profile=profile, standing=standing, level=level)

    assert (hosts("trusted", "full"), hosts("unknown")) == (1, 1)
    assert (hosts("failed"), hosts("revoked")) == (1, 1)
    silent.attest()
    assert hosts("trusted", "full") == 2
    world.now += 3600
    assert (hosts("trusted", "full"), hosts("stale"), hosts("revoked")) == (0, 3, 1)


def test_what_ends_soon_is_a_time(watched: Watched) -> None:
    world = watched.world
    world.set_stack_state(world.stack, StackState.RETIRING, world.now + 600)
    text = watched.text()
    assert value(text, "watchword_stack_retire_timestamp_seconds", stack="compute@1") == world.now + 600
    assert value(text, "watchword_stacks", state="retiring") == 1
    assert value(text, "watchword_key_created_timestamp_seconds", key="sealing") == world.now
    later = world.keys.rotate_sealing(world.now + 1000)
    world.keys = later
    text = watched.text()
    assert value(text, "watchword_key_created_timestamp_seconds", key="sealing") == world.now + 1000
    assert value(text, "watchword_key_created_timestamp_seconds", key="root") == world.now
    server = value(text, "watchword_tls_certificate_not_after_timestamp_seconds", certificate="server")
    assert abs(server - (world.now + 365 * 86400)) < 86400


def test_a_witness_that_is_behind_is_seen(watched: Watched) -> None:
    world = watched.world
    key = "witness.example+01020304+" + "A" * 44
    with world.store.transaction() as tx:
        tx.put_witness(key, "", world.now)
        tx.append_act(world.now, "witness-add", key)
        tx.note_witness_size(key, 1)
    size = world.store.head().seq
    text = watched.text()
    assert value(text, "watchword_log_entries") == size
    assert value(text, "watchword_log_newest_entry_timestamp_seconds") == world.now
    assert value(text, "watchword_log_witness_lag_entries", witness="witness.example") == size - 1
    assert value(text, "watchword_log_published_entries") == 0
    with world.store.transaction() as tx:
        tx.put_cosignature(size, key, "— witness.example AAAA")
    text = watched.text()
    assert value(text, "watchword_log_witness_lag_entries", witness="witness.example") == 0
    assert value(text, "watchword_log_published_entries") == size
    assert value(text, "watchword_log_published_timestamp_seconds") == world.now


def test_many_scrapes_are_one_survey(watched: Watched) -> None:
    metrics = Metrics()
    metrics.registry.register(gauges_of(watched.world, fresh_seconds=3600))
    before = value(scrape(metrics), "watchword_store_rows", table="hosts")
    watched.world.host()
    assert value(scrape(metrics), "watchword_store_rows", table="hosts") == before == 0


# -- the service --------------------------------------------------------------------------------------------------


def test_requests_and_overload_are_counted(tmp_path: Path) -> None:
    metrics = Metrics()
    with authority_in(tmp_path) as running:
        told: list[Event] = []
        services = Services(
            running.answers,
            running.store,
            lambda: running.ring,
            tell=told.append,
            metrics=metrics,
            witness_seconds=3600,
        )
        headers = {"Content-Type": "application/octet-stream"}
        with (
            serving(services, running.ring) as address,
            httpx2.Client(base_url=address.url, verify=running.context, timeout=20) as client,
        ):
            client.get("/v1/status")
            client.get("/v1/launches/" + "0" * 32)
            client.get("/anything/" + "x" * 100)
            client.patch("/v1/status")
            client.post("/v1/messages", content=b"unavailable", headers=headers)
            client.post("/v1/messages", content=b"our bug!", headers=headers)
    text = scrape(metrics)
    for method, route, status in (
        ("GET", "/v1/status", "200"),
        ("GET", "/v1/launches/{launch_id}", "404"),
        ("GET", "other", "404"),
        ("other", "/v1/status", "405"),
        ("POST", "/v1/messages", "503"),
        ("POST", "/v1/messages", "500"),
    ):
        assert value(text, "watchword_http_requests_total", method=method, route=route, status=status) == 1, route
    assert value(text, "watchword_http_problems_total", code="launch-unknown") == 1
    assert value(text, "watchword_http_problems_total", code="store-busy") == 1
    assert [type(event) for event in told] == [FailureEvent, BugEvent]
    bug = told[1]
    assert isinstance(bug, BugEvent)
    assert bug.error == "ZeroDivisionError"
    assert bug.frames[-1].startswith("conftest.py:handle:")


def test_the_load_is_told_while_it_lasts(tmp_path: Path) -> None:
    metrics = Metrics()
    with authority_in(tmp_path) as running:
        metrics.registry.register(
            Gauges(running.store, lambda: running.ring, lambda: Load(3, 10, 1000, 5), fresh_seconds=0)
        )
        text = scrape(metrics)
    assert value(text, "watchword_intake_waiting") == 3
    assert value(text, "watchword_intake_capacity") == 10
    assert value(text, "watchword_intake_held_bytes", size="small") == 1000
    assert value(text, "watchword_intake_held_bytes", size="large") == 5


@contextmanager
def exporter(metrics: Metrics) -> Iterator[tuple[str, int]]:
    with Exporter("127.0.0.1", 0, metrics.registry, seconds=1.0) as running:
        yield "127.0.0.1", running.port


def test_the_exporter_has_metrics_and_nothing_else() -> None:
    with exporter(Metrics()) as (host, port), httpx2.Client(base_url=f"http://{host}:{port}", timeout=10) as client:
        found = client.get("/metrics")
        assert (found.status_code, found.headers["content-type"].split(";")[0]) == (200, "text/plain")
        assert "watchword_build_info" in found.text
        assert client.get("/v1/status").status_code == 404
        assert client.post("/metrics", content=b"x").status_code == 501


def test_a_silent_scraper_does_not_stay() -> None:
    with exporter(Metrics()) as address:
        with socket.create_connection(address) as silent:
            silent.settimeout(10)
            assert silent.recv(1) == b""  # its time was over
        assert httpx2.get(f"http://{address[0]}:{address[1]}/metrics", timeout=10).status_code == 200


def test_a_service_logs_json_and_serves_metrics(tmp_path: Path) -> None:
    ready, port = tmp_path / "ready.json", socket.create_server(("127.0.0.1", 0))
    metrics_at = f"127.0.0.1:{port.getsockname()[1]}"
    port.close()
    arguments = ["authority", "serve", "--listen", "127.0.0.1:0", "--data", str(tmp_path / "data")]
    process = subprocess.Popen(
        [
            sys.executable, "-c", "from watchword.cli.main import main; main()",
            *arguments, "--ready-file", str(ready), "--metrics", metrics_at,
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, "JOURNAL_STREAM": ""},
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        url = json.loads(ready.read_text())["url"]
        context = ssl.create_default_context(cadata=Keyring.load(tmp_path / "data" / "keyring").key_list.tls_ca)
        assert httpx2.get(f"{url}/metrics", verify=context, timeout=20).status_code == 404  # not on the public port
        text = httpx2.get(f"http://{metrics_at}/metrics", timeout=20).text
        assert value(text, "watchword_http_requests_total", method="GET", route="other", status="404") == 1
        assert value(text, "watchword_intake_capacity") > 0
        assert value(text, "process_cpu_seconds_total") > 0
        process.send_signal(signal.SIGTERM)
        lines = [json.loads(line) for line in process.communicate(timeout=30)[1].splitlines()]
        assert [(line["event"], line["state"]) for line in lines] == [("service", "starting"), ("service", "stopped")]
        assert process.returncode == 0
        if PROMTOOL is not None:
            checked = promtool("check", "metrics", text=text)
            assert (checked.returncode, checked.stderr) == (0, "")
    finally:
        process.kill()
        process.wait()


# -- alerts -------------------------------------------------------------------------------------------------------


def every_name(metrics: Metrics) -> set[str]:
    return {sample.name for family in text_string_to_metric_families(scrape(metrics)) for sample in family.samples}


def test_rules_ask_for_metrics_that_exist(watched: Watched) -> None:
    cost = Cost(1, 1, {"open": 1})
    for event in (
        DecisionEvent("", 1, "refused", "", "", "", "", "", "", 0, cost),
        FailureEvent("chore", "", ""),
        BugEvent("", ()),
        WitnessEvent("w", "", ""),
    ):
        watched.metrics.observe(event)
    watched.metrics.request("GET", "other", 200, 0.1)
    watched.world.host().attest()
    known = set(_SAMPLE.findall(watched.text()))
    named = set(re.findall(r"\b(?:watchword|process)_[a-z_]+", RULES.read_text()))
    assert named - {name for name, _ in known} - GAUGES_THAT_NEED_MORE == set()


# One of these is there only when there is such a release, witness or list; other tests here read each of them.
GAUGES_THAT_NEED_MORE = {
    "watchword_stack_retire_timestamp_seconds",
    "watchword_log_witness_lag_entries",
    "watchword_crl_next_update_timestamp_seconds",
}


def test_every_alert_is_explained() -> None:
    page = (ROOT / "docs" / "howto" / "monitor-an-authority.md").read_text()
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    assert re.findall(r"^\| `(Watchword\w+)` \|", page, re.MULTILINE) == alerts


def test_every_metric_is_explained() -> None:
    page = (ROOT / "docs" / "howto" / "monitor-an-authority.md").read_text()
    told = set(re.findall(r"^\| `(watchword_[a-z_]+)", page, re.MULTILINE))
    source = "".join(path.read_text() for path in (ROOT / "src/watchword/authority/telemetry").glob("*.py"))
    made = set(re.findall(r'"(watchword_[a-z_]+)"', source))
    made |= {f"watchword_{name}" for name in re.findall(r'_gauge\(\s*"([a-z_]+)"', source)}
    assert told == made


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")
@pytest.mark.parametrize(("what", "file"), [("check", str(RULES)), ("test", "alerts.yml")])
def test_promtool_accepts_the_rules(what: str, file: str) -> None:
    done = promtool(what, "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def promtool(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    assert PROMTOOL is not None
    return subprocess.run(
        [PROMTOOL, *arguments], cwd=Path(__file__).parent, input=text, capture_output=True, text=True, check=False
    )


def test_the_log_tells_a_decision_as_its_receipt_does(watched: Watched) -> None:
    world = watched.world
    token = world.token()
    world.host().obtain(token)
    line = next(each for each in map(json.loads, watched.log.getvalue().splitlines()) if each["event"] == "decision")
    decision: Decision = world.decisions(token)[0]
    assert (line["host"], line["level"], line["profile"]) == (decision.host, decision.level, decision.profile)
    assert decision.token.startswith(line["trace"])
    assert line["seconds"] >= line["phases"]["appraise"] > 0
