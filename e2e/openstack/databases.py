"""MariaDB, and the schemas of four services: made once, and copied after that."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import threading
from pathlib import Path

from e2e.openstack.processes import Daemons, wait_until
from e2e.openstack.settings import IDENTITY, PASSWORD, Places
from e2e.openstack.spaces import run

__all__ = ["Databases"]

_NAMES = ("keystone", "glance", "placement", "nova_api", "nova_cell0", "nova_cell1")


class Databases:
    """The data folder of a run, and in ``cache`` one that was just migrated, per version of OpenStack."""

    def __init__(self, places: Places, daemons: Daemons, environment: dict[str, str], cache: Path) -> None:
        self._places, self._daemons, self._environment = places, daemons, environment
        lock = (places.checkout / "requirements-openstack.lock").read_bytes()
        version = hashlib.sha256(lock + Path(__file__).read_bytes()).hexdigest()[:12]
        self._seed = cache / f"databases-{version}"
        self._data, self._keys = places.state / "mysql", places.state / "keys"

    def start(self) -> None:
        """Have MariaDB running with all schemas in their newest version."""
        if self._seed.is_dir():
            shutil.copytree(self._seed / "mysql", self._data)
            shutil.copytree(self._seed / "keys", self._keys)
            return self._serve()
        self._install()
        self._serve()
        self._migrate()
        self._keep()
        return None

    def _install(self) -> None:
        run("mariadb-install-db", "--no-defaults", f"--datadir={self._data}", "--user=root", "--skip-test-db",
            "--auth-root-authentication-method=normal")  # fmt: skip
        for name in ("fernet", "credential"):
            (self._keys / name).mkdir(parents=True)

    def _serve(self) -> None:
        tuned = ["--innodb-buffer-pool-size=64M", "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0"]
        tuned += ["--innodb-flush-method=nosync", "--performance-schema=off", "--max-connections=300"]
        command = ["mariadbd", "--no-defaults", f"--datadir={self._data}", f"--socket={self._places.socket}"]
        command += ["--pid-file=/run/mysql.pid", "--user=root", "--skip-networking", "--character-set-server=utf8mb4"]
        self._daemons.start("mariadb", [*command, *tuned], self._environment)
        wait_until("MariaDB", self._answers, self._daemons)

    def _client(self, *arguments: str, check: bool) -> bool:
        command = ["mariadb", "--no-defaults", "-S", self._places.socket, *arguments]
        return run(*command, check=check).returncode == 0

    def _answers(self) -> bool:
        return self._client("-e", "select 1", check=False)

    def _migrate(self) -> None:
        for name in _NAMES:
            self._client("-e", f"create database {name} character set utf8mb4", check=True)
        failures: list[str] = []
        # nova's takes as long as the other three together
        threads = [threading.Thread(target=self._commands, args=(commands, failures))
                   for commands in (self._small(), self._nova())]  # fmt: skip
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise RuntimeError(failures[0])

    def _small(self) -> list[list[str]]:
        conf, program = self._places.conf, self._places.program
        keystone = [str(program("keystone-manage")), "--config-file", str(conf("keystone") / "keystone.conf")]
        owner = ["--keystone-user", "root", "--keystone-group", "root"]
        urls = [f"--bootstrap-{kind}-url={IDENTITY}" for kind in ("admin", "internal", "public")]
        return [
            [*keystone, "db_sync"],
            [*keystone, "fernet_setup", *owner],
            [*keystone, "credential_setup", *owner],
            [*keystone, "bootstrap", f"--bootstrap-password={PASSWORD}", "--bootstrap-region-id=RegionOne", *urls],
            [str(program("glance-manage")), "--config-dir", str(conf("glance")), "db_sync"],
            [
                str(program("placement-manage")),
                "--config-file",
                str(conf("placement") / "placement.conf"),
                "db",
                "sync",
            ],
        ]

    def _nova(self) -> list[list[str]]:
        nova = [str(self._places.program("nova-manage")), "--config-file", str(self._places.conf("nova") / "nova.conf")]
        return [
            [*nova, "api_db", "sync"],
            [*nova, "cell_v2", "map_cell0", "--database_connection", self._places.database("nova_cell0")],
            [*nova, "cell_v2", "create_cell", "--name", "cell1"],
            [*nova, "db", "sync"],
        ]

    def _commands(self, commands: list[list[str]], failures: list[str]) -> None:
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=self._environment)
            if done.returncode:
                failures.append(f"{' '.join(command[:4])}: {(done.stderr + done.stdout)[-800:]}")
                return

    def _keep(self) -> None:
        """Copy what was made into the cache: whole, or not at all."""
        self._client("-e", "shutdown", check=True)
        self._daemons.wait("mariadb")
        partial = self._seed.with_name(f"{self._seed.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        shutil.copytree(self._data, partial / "mysql")
        shutil.copytree(self._keys, partial / "keys")
        partial.rename(self._seed)
        self._serve()
