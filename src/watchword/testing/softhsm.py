"""A real PKCS#11 token for tests: SoftHSM, with a directory of its own that can be pulled out and put back."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final, Self

__all__ = ["MODULE", "SoftHsm"]

MODULE: Final = Path("/usr/lib/softhsm/libsofthsm2.so")  # where Debian puts it


class SoftHsm:
    """One token, ``label``, with the user's PIN ``pin``, in ``folder``; ``environment`` is what finds it."""

    def __init__(self, folder: Path, label: str, pin: str) -> None:
        self.folder, self.label, self.pin = folder, label, pin
        self.environment = {"SOFTHSM2_CONF": str(folder / "softhsm.conf"), "WATCHWORD_PKCS11_MODULE": str(MODULE)}

    @staticmethod
    def missing() -> str:
        """What must be installed first, or ""."""
        programs = [name for name in ("softhsm2-util", "pkcs11-tool") if shutil.which(name) is None]
        return " and ".join([*programs, *([] if MODULE.exists() else [str(MODULE)])])

    @classmethod
    def create(cls, folder: Path, label: str = "hsm", pin: str = "98761234") -> Self:
        """Make a token in the new directory ``folder``."""
        made = cls(folder, label, pin)
        (folder / "tokens").mkdir(parents=True)
        (folder / "softhsm.conf").write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\n")
        made._run("softhsm2-util", "--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", "12345678")
        return made

    def use_here(self) -> None:
        """Have this process see the token: its library reads settings when it starts, so it is started afresh."""
        os.environ.update(self.environment)
        importlib.import_module("pkcs11").lib(str(MODULE)).reinitialize()

    def uri(self, name: str) -> str:
        """The key ``name`` in this token."""
        return f"pkcs11:token={self.label};object={name}"

    def remove(self) -> None:
        """Pull the token out."""
        (self.folder / "tokens").rename(self.folder / "drawer")
        (self.folder / "tokens").mkdir()

    def insert(self) -> None:
        """Put it back."""
        (self.folder / "tokens").rmdir()
        (self.folder / "drawer").rename(self.folder / "tokens")

    def delete(self, name: str) -> None:
        """Remove both halves of the key ``name``."""
        for half in ("privkey", "pubkey"):
            self._tool("--delete-object", "--type", half, "--label", name)

    def objects(self) -> str:
        """What pkcs11-tool says about the keys in the token."""
        return self._tool("--list-objects")

    def change_pin(self, pin: str) -> None:
        """Give the token another PIN."""
        self._tool("--change-pin", "--new-pin", pin)
        self.pin = pin

    def _tool(self, *words: str) -> str:
        return self._run(
            "pkcs11-tool", "--module", str(MODULE), "--token-label", self.label, "--login", "--pin", self.pin, *words
        )

    def _run(self, *words: str) -> str:
        environment = {**os.environ, **self.environment}
        return subprocess.run(words, check=True, capture_output=True, text=True, env=environment).stdout
