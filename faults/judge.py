"""After the fault: was any secret released beyond its count, is any decision missing, does the service work again?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from faults.load import Load, Token, launch
from faults.outcome import Outcome
from faults.service import Service
from watchword.errors import WatchwordError
from watchword.tenant.audit import audit
from watchword.tenant.client import AuthorityClient
from watchword.tenant.log_state import Seen
from watchword.testing.replayed import Line

__all__ = ["judged", "look_at_log", "violations"]


@contextmanager
def judged(service: Service, outcome: Outcome, tokens: int) -> Iterator[Load]:
    """All hosts of ``service`` launch, with so many fresh tokens of two releases each, while the block does its worst.

    What came of it is added to ``outcome``. The service runs, again or still, when the block ends.
    """
    seen = look_at_log(service, None)
    fresh = [Token.seal(service, allowed=2) for _ in range(tokens)]
    with Load(service, fresh) as load:
        yield load
    outcome.add(load.outcomes, violations(service, fresh, load.received, seen), load.longest)


def look_at_log(service: Service, seen: Seen | None) -> Seen:
    """Audit the log as a tenant does who remembers what was ``seen``. Raises as :func:`audit` does."""
    return audit(AuthorityClient(service.url, service.keys), service.keys, seen).seen


def violations(service: Service, tokens: Sequence[Token], received: Mapping[bytes, int], seen: Seen) -> list[str]:
    """Every promise that was broken; ``received`` are the releases that arrived, by token id. The service runs."""
    found = []
    with service.store() as store:
        try:
            store.verify_decisions()
        except WatchwordError as error:
            found.append(f"record: {error.code}")
        entries = [json.loads(decision.entry) for decision in store.decisions()]
        counted = {token.id: store.releases(token.id) for token in tokens}
    recorded = Counter(bytes.fromhex(e["token"]) for e in entries if e.get("outcome") == "released")
    for token in tokens:
        count = counted[token.id]
        if count > token.allowed:
            found.append(f"{count} releases of {token.allowed} were counted")
        if recorded[token.id] != count:
            found.append(f"{count} releases were counted and {recorded[token.id]} recorded")
        if received.get(token.id, 0) > count:
            found.append(f"{received[token.id]} releases arrived and {count} were counted")
    try:
        look_at_log(service, seen)
    except WatchwordError as error:
        found.append(f"log: {error.code}")
    line = Line(service.url, service.keys)
    outcome = launch(line, service.hosts[0], Token.seal(service))
    line.close()
    if outcome != "released":
        found.append(f"afterwards a launch was {outcome}")
    return found
