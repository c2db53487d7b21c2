"""A real Chromium without a window, and a person's certificate put between it and the service.

Chromium takes client certificates from the user's own store, which a test leaves alone: a tunnel on loopback shows the
certificate instead. The bytes in it are the browser's and the service's own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from watchword.authority import tls

from .scene import Scene

__all__ = ["chromium", "have_chromium", "tunnel"]


def have_chromium() -> bool:
    return bool(shutil.which("chromium") and shutil.which("chromedriver"))


@contextmanager
def chromium(folder: str) -> Iterator[webdriver.Chrome]:
    """A browser with a new profile in ``folder``, at 1280 by 800, that keeps what its console says."""
    options = Options()
    options.binary_location = shutil.which("chromium") or ""
    wanted = ["--headless=new", "--ignore-certificate-errors", "--disable-dev-shm-usage", "--disable-gpu",
              "--force-color-profile=srgb", "--hide-scrollbars", "--window-size=1280,800", "--lang=en",
              "--no-first-run", "--disable-background-networking", f"--user-data-dir={folder}"]  # fmt: skip
    if os.geteuid() == 0:
        wanted.append("--no-sandbox")
    for argument in wanted:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        driver.set_page_load_timeout(60)
        yield driver
    finally:
        driver.quit()


@contextmanager
def tunnel(scene: Scene, person: str | None) -> Iterator[str]:
    """The address at which the service can be reached as ``person``."""
    inner = ssl.create_default_context(cadata=scene.world.keys.key_list.tls_ca)
    if person is not None:
        inner.load_cert_chain(scene.files[person].certificate, scene.files[person].key)
    outer = tls.server_context(*scene.world.keys.tls_files, None)
    loop, ready, port = asyncio.new_event_loop(), threading.Event(), [0]
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(task := asyncio.current_task())  # type: ignore[arg-type]
        try:
            there = await asyncio.open_connection(scene.address.host, scene.address.port, ssl=inner)
            await asyncio.gather(_pipe(reader, there[1]), _pipe(there[0], writer))
        finally:
            tasks.discard(task)  # type: ignore[arg-type]

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=outer)
        port[0] = server.sockets[0].getsockname()[1]
        ready.set()
        async with server:
            with suppress(asyncio.CancelledError):
                await server.serve_forever()
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    task = loop.create_task(run())
    thread = threading.Thread(target=loop.run_until_complete, args=(task,))
    thread.start()
    assert ready.wait(10)
    try:
        yield f"https://127.0.0.1:{port[0]}"
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)
        loop.close()


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    sink.close()
