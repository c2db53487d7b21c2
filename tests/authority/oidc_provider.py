"""Run somebody else's OpenID provider over TLS: certificate chain and key in FILE. Prints its port; ends with stdin."""

from __future__ import annotations

import sys
import threading
import warnings

warnings.simplefilter("ignore")

import oidc_provider_mock  # noqa: E402 - its libraries warn about each other
import werkzeug.serving  # noqa: E402


def main() -> None:
    people = [oidc_provider_mock.User(sub="alice", claims={"groups": ["wg-auditor"]})]
    server = werkzeug.serving.make_server(
        "localhost",
        0,
        oidc_provider_mock.app(user_claims=people),
        threaded=True,
        ssl_context=(sys.argv[1], sys.argv[1]),
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


main()
