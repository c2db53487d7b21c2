"""One boot of a release: from the table in the release file to the events after the Secure Boot policy.

This is where the order between programs is put together; what each of them measures is in ``boot/``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import TypeVar

from watchword.errors import MalformedError, UsageError
from watchword.reference import release_file as tables
from watchword.reference.boot.direct import direct_boot
from watchword.reference.boot.events import Measure, Predicted
from watchword.reference.boot.firmware import boot_attempt
from watchword.reference.boot.grub import Grub, check_grub
from watchword.reference.boot.linux import check_kernel, stub_events
from watchword.reference.boot.loader import check_loader, entry_initrd, entry_options, loader_event, parse_entry
from watchword.reference.boot.secureboot import Authorities, SecureBoot
from watchword.reference.boot.shim import Shim
from watchword.reference.boot.stub import Extras, command_line, stub_measurements
from watchword.wire.pe import MAX_IMAGE, PeImage

__all__ = ["Artifacts", "boot_events"]

_T = TypeVar("_T")
_MAX_ENTRY = 64 * 1024


class Artifacts:
    """The files of a release. Each error names the file that it is about."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str, *, limit: int = MAX_IMAGE, part: bool = False) -> bytes:
        """The content of a file of at most ``limit`` bytes; with ``part`` its first ``limit`` bytes."""
        try:
            with (self.folder / name).open("rb") as file:
                data = file.read(limit + (not part))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise UsageError("artifact", f"{name}: {why.lower()}") from error
        if len(data) > limit:
            raise UsageError("artifact", f"{name}: more than {limit} bytes")
        return data

    def named(self, name: str, parse: Callable[[bytes], _T], *, limit: int = MAX_IMAGE, part: bool = False) -> _T:
        """What ``parse`` makes of a file."""
        return _named(name, lambda: parse(self.read(name, limit=limit, part=part)))

    def program(self, name: str) -> PeImage:
        """An EFI program."""
        return self.named(name, PeImage.parse)

    def below(self, folder: str, path: str) -> tuple[str, bytes]:
        """The file that a boot loader finds as ``path`` on a partition whose content is in ``folder``."""
        parts = PurePosixPath(path.replace("\\", "/")).parts
        if ".." in parts:
            raise UsageError("artifact", f"{path}: leads out of {folder}")
        name = str(PurePosixPath(folder, *(part for part in parts if part != "/")))
        return name, self.read(name)


def _named(name: str, action: Callable[[], _T]) -> _T:
    """Put ``name`` before what is wrong with it."""
    try:
        return action()
    except MalformedError as error:
        raise MalformedError(f"{name}: {error.message}", hint=error.hint) from error
    except UsageError as error:
        if error.message.startswith(f"{name}: "):
            raise
        raise _with_name(error, name) from error


def _with_name(error: UsageError, name: str) -> UsageError:
    """The same error, code and hint as they are."""
    error.message = f"{name}: {error.message}"
    error.args = (error.message,)
    return error


def boot_events(measure: Measure, boot: tables.BootTable, state: SecureBoot, artifacts: Artifacts) -> list[Predicted]:
    """The events of one boot after the Secure Boot policy, each PCR in its order. Raises UsageError, MalformedError."""
    authorities = Authorities(measure, state)
    match boot:
        case tables.Uki():
            return _uki(measure, boot, state, artifacts, authorities)
        case tables.SystemdBoot():
            return _systemd_boot(measure, boot, state, artifacts, authorities)
        case tables.ShimGrub():
            return _shim_grub(measure, boot, state, artifacts, authorities)
        case tables.Grub():
            image = artifacts.named(boot.grub, check_grub)
            events, _ = _grub(measure, boot, artifacts, verified=False)
            return [*boot_attempt(measure), measure.program(image, f"GRUB: {boot.grub}"), *events]
        case tables.Kernel():
            return _direct(measure, boot, artifacts)
        case _:
            raise AssertionError("a kind of boot that the release file does not have")


def _started(measure: Measure, authorities: Authorities, image: PeImage, name: str, note: str) -> list[Predicted]:
    """A program that firmware verifies, measures and starts."""
    return [*_named(name, lambda: authorities.of(image, "program")), measure.program(image, f"{note}: {name}")]


def _uki(
    measure: Measure, boot: tables.Uki, state: SecureBoot, artifacts: Artifacts, authorities: Authorities
) -> list[Predicted]:
    def files(names: tuple[str, ...]) -> list[tuple[str, bytes]]:
        return [(PurePosixPath(name).name, artifacts.read(name)) for name in names]

    extras = Extras(files(boot.credentials), files(boot.global_credentials), files(boot.sysexts))
    image = artifacts.program(boot.image)
    inside = _named(boot.image, lambda: stub_measurements(measure, image, secure_boot=state.on, extras=extras))
    return [*boot_attempt(measure), *_started(measure, authorities, image, boot.image, "image"), *inside]


def _systemd_boot(
    measure: Measure, boot: tables.SystemdBoot, state: SecureBoot, artifacts: Artifacts, authorities: Authorities
) -> list[Predicted]:
    loader = artifacts.program(boot.loader)
    _named(boot.loader, lambda: check_loader(loader))
    events = [*boot_attempt(measure), *_started(measure, authorities, loader, boot.loader, "systemd-boot")]
    if boot.image is not None:
        image = artifacts.program(boot.image)
        line = _named(boot.image, lambda: command_line(image))
        events += _started(measure, authorities, image, boot.image, "image")
        events.append(loader_event(measure, line))
        return events + _named(
            boot.image,
            lambda: stub_measurements(measure, image, secure_boot=state.on, extras=Extras(), options=line),
        )
    assert boot.esp is not None
    assert boot.entry is not None
    entry = artifacts.named(boot.entry, parse_entry, limit=_MAX_ENTRY)
    name, kernel = artifacts.below(boot.esp, entry.linux)
    image = _named(name, lambda: PeImage.parse(kernel))
    _named(name, lambda: check_kernel(kernel))
    initrds = [artifacts.below(boot.esp, path)[1] for path in entry.initrds]
    options = entry_options(entry.options, entry.initrds)
    events += _started(measure, authorities, image, name, "kernel")
    events.append(loader_event(measure, options))
    return events + stub_events(measure, options, entry_initrd(initrds))


def _shim_grub(
    measure: Measure, boot: tables.ShimGrub, state: SecureBoot, artifacts: Artifacts, authorities: Authorities
) -> list[Predicted]:
    first = artifacts.program(boot.shim)
    shim = _named(boot.shim, lambda: Shim.read(first))
    grub = artifacts.named(boot.grub, check_grub)
    commands, kernel = _grub(measure, boot, artifacts, verified=state.on)
    events = [*boot_attempt(measure), *_started(measure, authorities, first, boot.shim, "shim")]
    events += shim.start(measure, secure_boot=state.on)
    if state.on:
        for image, what in ((grub, boot.grub), (PeImage.parse(kernel), "the kernel that GRUB loads")):
            shim.check(image, what)
            if authorities.vouches(image):
                raise UsageError("boot-unknown", f"{what}: db vouches for it too, and shim would measure that entry")
        events.append(shim.vouch(measure))
    return [*events, measure.program(grub, f"GRUB: {boot.grub}"), *commands]


def _grub(
    measure: Measure, boot: tables.ShimGrub | tables.Grub, artifacts: Artifacts, *, verified: bool
) -> tuple[list[Predicted], bytes]:
    """The events of GRUB's commands, and the kernel that they load."""
    files: Mapping[str, bytes] = {path: artifacts.read(name) for path, name in boot.files.items()}
    grub = Grub(measure, files, boot.built_in, verified=verified)
    events = grub.run(boot.commands)
    assert grub.kernel is not None
    check_kernel(grub.kernel)
    return events, grub.kernel


def _direct(measure: Measure, boot: tables.Kernel, artifacts: Artifacts) -> list[Predicted]:
    initrd = None if boot.initrd is None else artifacts.read(boot.initrd)
    first, after = artifacts.named(
        boot.kernel, lambda data: direct_boot(measure, data, initrd, boot.command_line, boot.memory << 20)
    )
    return [first, *boot_attempt(measure), *after]
