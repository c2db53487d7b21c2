"""A real Chromium without a window, and a person's certificate put between it and the service.

Chromium takes client certificates from the user's own store, which a test leaves alone: a tunnel on loopback shows the
certificate instead. The bytes in it are the browser's and the service's own.
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from watchword.authority.keys import tls

from .scene import Scene

__all__ = ["chromium", "have_chromium", "screenshot", "tunnel"]


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


def screenshot(driver: webdriver.Chrome, file: Path, *, height: int) -> None:
    """The page from its top, at most ``height`` pixels of it, as a PNG."""
    width, whole = driver.execute_script("return [innerWidth, document.documentElement.scrollHeight]")
    clip = {"x": 0, "y": 0, "width": width, "height": min(whole, height), "scale": 1}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    file.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def tunnel(scene: Scene, person: str | None) -> Iterator[str]:
    """The address at which the service can be reached as ``person``."""
    inner = ssl.create_default_context(cadata=scene.world.keys.key_list.tls_ca)
    if person is not None:
        inner.load_cert_chain(scene.files[person].certificate, scene.files[person].key)
    outer = tls.server_context(*scene.world.keys.tls_files, None)
    ready, port, stopping = threading.Event(), [0], [lambda: None]

    async def run() -> None:
        writers: set[asyncio.StreamWriter] = set()
        end, loop = asyncio.Event(), asyncio.get_running_loop()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there = await asyncio.open_connection(scene.address.host, scene.address.port, ssl=inner)
            writers.update((writer, there[1]))
            await asyncio.gather(_pipe(reader, there[1]), _pipe(there[0], writer))

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=outer)
        port[0] = server.sockets[0].getsockname()[1]
        stopping[0] = lambda: loop.call_soon_threadsafe(end.set)
        ready.set()
        await end.wait()
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.1)  # what was aborted is closed in the next turns of the loop

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(10)
    try:
        yield f"https://127.0.0.1:{port[0]}"
    finally:
        stopping[0]()
        thread.join(10)


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    sink.close()
