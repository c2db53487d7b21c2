"""A small root file system as a dictionary of path to content, and the initramfs archive made from it."""

import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

# What Debian's dropbear needs beside itself; the loader finds libraries in these two folders by default.
LIBRARIES = {
    "libc6": ["lib/x86_64-linux-gnu/libc.so.6", "lib64/ld-linux-x86-64.so.2"],
    "libcrypt1": ["lib/x86_64-linux-gnu/libcrypt.so.1"],
    "libgmp10": ["usr/lib/x86_64-linux-gnu/libgmp.so.10"],
    "libtomcrypt1": ["usr/lib/x86_64-linux-gnu/libtomcrypt.so.1"],
    "libtommath1": ["usr/lib/x86_64-linux-gnu/libtommath.so.1"],
    "zlib1g": ["lib/x86_64-linux-gnu/libz.so.1"],
}


@dataclass
class Rootfs:
    """Files of a root file system, taken from unpacked Debian packages.

    packages: package name to the folder with its files. files: absolute path to (mode, content). links: to the target.
    """

    packages: dict[str, Path]
    files: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)

    def add(self, path: str, content: bytes | str, mode: int = 0o644) -> None:
        """Add one regular file with `mode`, its permission bits."""
        self.files[path] = (mode, content.encode() if isinstance(content, str) else content)

    def add_package_file(self, package: str, source: str, path: str | None = None, mode: int = 0o755) -> None:
        """Add the file `source` of a Debian package (symbolic links resolved), at `path` or at its own place."""
        self.add(path or f"/{source}", self.packages[package].joinpath(source).read_bytes(), mode)

    def add_busybox(self, applets: str) -> None:
        """Add the static busybox and a link for each of the space separated `applets`."""
        self.add_package_file("busybox-static", "bin/busybox")
        for applet in applets.split():
            self.links[f"/bin/{applet}"] = "busybox"

    def add_libraries(self) -> None:
        """Add the C library and the libraries of dropbear."""
        for package, paths in LIBRARIES.items():
            for path in paths:
                self.add_package_file(package, path)

    def add_modules(self, kernel: str, names: list[str]) -> None:
        """Add modules of a kernel package with all they depend on, and their order in /lib/modules/order."""
        found = {p.stem.replace("-", "_"): p for p in self.packages[kernel].glob("lib/modules/*/kernel/**/*.ko")}
        order: list[str] = []

        def visit(name: str) -> None:
            if name in order:
                return
            content = found[name].read_bytes()
            depends = re.search(rb"\0depends=([^\0]*)\0", content)
            for other in filter(None, depends[1].decode().split(",") if depends else []):
                visit(other.replace("-", "_"))
            order.append(name)
            self.add(f"/lib/modules/{name}.ko", content)

        for name in names:
            visit(name.replace("-", "_"))
        self.add("/lib/modules/order", "".join(f"{name}.ko\n" for name in order))

    def all_folders(self) -> list[str]:
        """Return every folder, parents first."""
        leaves = [*self.folders, *(str(Path(p).parent) for p in [*self.files, *self.links])]
        return sorted({str(p) for leaf in leaves for p in [Path(leaf), *Path(leaf).parents]} - {"/"})

    def initramfs(self) -> bytes:
        """Return the tree as an uncompressed cpio archive (format newc) without times, owners or order of its own.

        Uncompressed because an emulated processor takes longer to unpack an archive than to read a larger one.
        """
        entries = [(path, stat.S_IFDIR | 0o755, b"") for path in self.all_folders()]
        entries += [(path, stat.S_IFREG | mode, content) for path, (mode, content) in sorted(self.files.items())]
        entries += [(path, stat.S_IFLNK | 0o777, to.encode()) for path, to in sorted(self.links.items())]
        body = b"".join(_newc(inode, *entry) for inode, entry in enumerate(entries, 1))
        return _pad(body + _newc(0, "/TRAILER!!!", 0, b""), 512)


def _newc(inode: int, path: str, mode: int, content: bytes) -> bytes:
    name = path[1:].encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    numbers = [inode, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name), 0]
    header = b"070701" + b"".join(b"%08X" % number for number in numbers)
    return _pad(header + name, 4) + _pad(content, 4)


def _pad(data: bytes, unit: int) -> bytes:
    return data + bytes(-len(data) % unit)
