"""The console in a real Chromium: nothing to complain about, by keyboard alone, on a phone, and for everybody."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("selenium")

from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By

from .axe import axe_source
from .browser import chromium, have_chromium, screenshot, tunnel
from .scene import MARKED, Scene

DESKTOP, PHONE = (1280, 800), (360, 740)
SCREENSHOTS = "WATCHWORD_SCREENSHOTS"
FOCUSABLE = "a[href], button, select, summary, input:not([type=hidden]), textarea, [tabindex]:not([tabindex='-1'])"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    if not have_chromium():
        pytest.skip("chromium and chromium-driver are not installed")
    with chromium(str(tmp_path_factory.mktemp("chromium"))) as driver:
        yield driver


@pytest.fixture(scope="module")
def ada(console: Scene) -> Iterator[str]:
    """Where an auditor's browser finds the service."""
    with tunnel(console, "ada") as address:
        yield address


@pytest.fixture(scope="module")
def pages(console: Scene) -> dict[str, str]:
    hosts = {f"host-{name}": f"/console/hosts/{host.host_id.hex()}" for name, host in console.hosts.items()}
    stacks = console.world.store.stack_infos()
    draft = next(row for row in stacks if row.version == "2")
    return {
        "fleet": "/console",
        "fleet-filtered": "/console?state=degraded&level=boot",
        "nothing": "/console?state=trusted&level=boot",
        **hosts,
        "stacks": "/console/stacks",
        "stack": f"/console/stacks/{console.world.stack.digest.hex()}",
        "stack-draft": f"/console/stacks/{draft.digest.hex()}",
        "log": "/console/log",
        "log-older": "/console/log?before=6",
        "entry": "/console/log/4",
        "status": "/console/status",
    }


def show(browser: Chrome, size: tuple[int, int], *, dark: bool = False) -> None:
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def complaints(browser: Chrome) -> list[Any]:
    return [line["message"] for line in browser.get_log("browser")]  # type: ignore[no-untyped-call]


@contextmanager
def keeps_quiet(browser: Chrome) -> Iterator[None]:
    """Nothing is said on the browser's console: no error, no violation of the content security policy."""
    complaints(browser)
    yield
    assert complaints(browser) == []


def press(browser: Chrome, *keys: str) -> None:
    browser.switch_to.active_element.send_keys(*keys)


def focused(browser: Chrome) -> Any:
    return browser.switch_to.active_element


# -- every page ----------------------------------------------------------------------------------------------------


def test_pages_fit_a_desk_and_a_phone_and_nothing_is_complained_about(
    browser: Chrome, ada: str, pages: dict[str, str]
) -> None:
    for name, path in pages.items():
        with keeps_quiet(browser):
            show(browser, DESKTOP)
            browser.get(ada + path)
            assert browser.execute_script("return document.compatMode") == "CSS1Compat"
            for size in (DESKTOP, PHONE):
                show(browser, size)
                wide, inner = browser.execute_script("return [document.scrollingElement.scrollWidth, innerWidth]")
                assert (inner, wide) == (size[0], size[0]), name


def test_pages_have_landmarks_headings_in_order_and_names(browser: Chrome, ada: str, pages: dict[str, str]) -> None:
    show(browser, DESKTOP)
    for name, path in pages.items():
        browser.get(ada + path)
        assert browser.title.endswith("– Watchword")
        assert browser.execute_script("return document.documentElement.lang") == "en"
        for landmark in ("header", "main", "footer", "nav[aria-label='Pages']"):
            assert len(browser.find_elements(By.CSS_SELECTOR, landmark)) == 1, (name, landmark)
        found = browser.execute_script("return [...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
        assert found[0] == 1
        assert found.count(1) == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(found)), (name, found)
        unnamed = browser.execute_script(
            "return [...document.querySelectorAll('select, input:not([type=hidden])')]"
            ".filter(e => !e.labels.length).length"
        )
        assert unnamed == 0, name
        ids = browser.execute_script("return [...document.querySelectorAll('[id]')].map(e => e.id)")
        assert len(ids) == len(set(ids)), name


# -- the keyboard --------------------------------------------------------------------------------------------------


def test_the_tab_key_reaches_everything_and_it_shows(browser: Chrome, ada: str, pages: dict[str, str]) -> None:
    show(browser, DESKTOP)
    for name in ("fleet", "host-failed", "stacks", "stack", "log-older", "entry", "status"):
        browser.get(ada + pages[name])
        wanted = browser.find_elements(By.CSS_SELECTOR, FOCUSABLE)
        wanted = [each for each in wanted if browser.execute_script("return arguments[0].checkVisibility()", each)]
        browser.execute_script("document.body.tabIndex = -1; document.body.focus()")
        for expected in wanted:
            press(browser, Keys.TAB)
            assert focused(browser) == expected, (name, expected.get_attribute("outerHTML"))
            style, width, top, bottom = browser.execute_script(
                "const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect();"
                "return [s.outlineStyle, parseFloat(s.outlineWidth), r.top, innerHeight - r.bottom]"
            )
            assert (style, width >= 2) == ("solid", True), expected.get_attribute("outerHTML")
            assert top >= -1, name
            assert bottom >= -1 or expected.size["height"] > DESKTOP[1], name


def test_the_first_key_skips_to_the_content(browser: Chrome, ada: str) -> None:
    show(browser, DESKTOP)
    browser.get(f"{ada}/console")
    press(browser, Keys.TAB)
    assert focused(browser).text == "Skip to the content"
    press(browser, Keys.ENTER)
    assert focused(browser).tag_name == "main"


def test_an_auditor_finds_the_reason_without_a_mouse(browser: Chrome, ada: str, console: Scene) -> None:
    """From the fleet to the failed host, by keys alone; a host id by its first digits; a component unfolded."""
    show(browser, PHONE)
    host = console.hosts["failed"].host_id.hex()
    browser.get(f"{ada}/console")
    with keeps_quiet(browser):
        tab_to(browser, "#host")
        press(browser, host[:10], Keys.ENTER)
        assert f"host={host[:10]}" in browser.current_url
        tab_to(browser, f"a[href='/console/hosts/{host}']")
        press(browser, Keys.ENTER)
        assert "The first event that differs" in browser.find_element(By.TAG_NAME, "main").text
        tab_to(browser, "a[href='/console/stacks']")
        press(browser, Keys.ENTER)
        tab_to(browser, f"a[href='/console/stacks/{console.world.stack.digest.hex()}']")
        press(browser, Keys.ENTER)
        tab_to(browser, "summary")
        press(browser, Keys.ENTER)
        assert browser.find_element(By.CSS_SELECTOR, "details[open] td[data-label=Digest]").is_displayed()


def test_a_dry_run_by_keyboard_shows_its_result_by_itself(browser: Chrome, ada: str, pages: dict[str, str]) -> None:
    show(browser, PHONE)
    browser.get(ada + pages["stack"])
    with keeps_quiet(browser):
        tab_to(browser, "button[value=revoke]")
        press(browser, Keys.ENTER)
        deadline = time.monotonic() + 30
        while not browser.find_elements(By.CSS_SELECTOR, "dl.counts") and time.monotonic() < deadline:
            time.sleep(0.2)
        assert "8\nreach no level any more" in browser.find_element(By.TAG_NAME, "main").text
        width = browser.execute_script("return document.scrollingElement.scrollWidth")
        assert width == PHONE[0]


def tab_to(browser: Chrome, selector: str) -> None:
    for _ in range(120):
        press(browser, Keys.TAB)
        if browser.execute_script("return document.activeElement.matches(arguments[0])", selector):
            return
    pytest.fail(f"the Tab key does not lead to {selector}")


# -- what hosts wrote, and who may look ----------------------------------------------------------------------------


def test_what_a_host_wrote_does_nothing(browser: Chrome, ada: str, pages: dict[str, str]) -> None:
    show(browser, DESKTOP)
    for name in ("host-marked", "host-hostile", "fleet-filtered"):
        with keeps_quiet(browser):
            browser.get(ada + pages[name])
            assert browser.execute_script("return document.scripts.length") == 0
            assert not browser.find_elements(By.CSS_SELECTOR, "main script, main img")
    browser.get(ada + pages["host-marked"])
    assert MARKED.decode() in browser.find_element(By.TAG_NAME, "main").text


def test_a_script_would_not_run(browser: Chrome, ada: str) -> None:
    """Should a template forget to escape: the browser was told that there is no script here."""
    browser.get(f"{ada}/console")
    browser.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s);"
        "const d = document.createElement('div'); d.innerHTML = '<img src=x onerror=\"window.ran = 2\">';"
        "document.body.append(d); const f = document.createElement('style');"
        "f.textContent = 'h1 { color: rgb(1, 2, 3) }'; document.head.append(f)"
    )
    time.sleep(0.3)
    assert browser.execute_script("return window.ran") is None
    assert browser.execute_script("return getComputedStyle(document.querySelector('h1')).color") != "rgb(1, 2, 3)"
    assert any("Content Security Policy" in line for line in complaints(browser))


@pytest.mark.parametrize(("person", "words"), [(None, "does not know who asks"), ("tom", "may not do this")])
def test_others_get_a_page_that_says_no(browser: Chrome, console: Scene, person: str | None, words: str) -> None:
    show(browser, PHONE)
    with tunnel(console, person) as address:
        browser.get(f"{address}/console")
        assert words in browser.find_element(By.TAG_NAME, "h1").text
        assert browser.execute_script("return document.scrollingElement.scrollWidth") == PHONE[0]
        assert not browser.find_elements(By.TAG_NAME, "nav")
    complaints(browser)  # the status itself is told there


# -- for everybody -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "dark"), [(DESKTOP, False), (PHONE, True)])
def test_axe_finds_nothing(browser: Chrome, ada: str, pages: dict[str, str], size: tuple[int, int], dark: bool) -> None:
    """The rules of WCAG 2.2 A and AA and good practice, as axe-core checks them."""
    source = axe_source()
    show(browser, size, dark=dark)
    for name in ("fleet", "host-failed", "host-marked", "host-unknown", "stacks", "stack", "log", "entry", "status"):
        browser.get(ada + pages[name])
        browser.execute_script(source)
        found = browser.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
        wrong = [(rule["id"], [node["html"] for node in rule["nodes"]][:3]) for rule in found["violations"]]
        assert not wrong, (name, json.dumps(wrong, indent=1))
        assert {"color-contrast", "document-title", "landmark-one-main"} <= {rule["id"] for rule in found["passes"]}
    complaints(browser)


# -- pictures for the documentation --------------------------------------------------------------------------------


@pytest.mark.skipif(SCREENSHOTS not in os.environ, reason="pictures are made by bin/screenshots")
def test_screenshots(browser: Chrome, ada: str, pages: dict[str, str]) -> None:
    folder = Path(os.environ[SCREENSHOTS])
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [
        ("fleet", "fleet", DESKTOP, False),
        ("fleet-dark", "fleet", DESKTOP, True),
        ("fleet-phone", "fleet", PHONE, False),
        ("host", "host-failed", DESKTOP, False),
        ("host-dark", "host-marked", DESKTOP, True),
        ("host-phone", "host-failed", PHONE, True),
        ("stacks", "stacks", DESKTOP, False),
        ("stack", "stack", DESKTOP, False),
        ("log", "log", DESKTOP, False),
        ("entry", "entry", DESKTOP, False),
        ("status", "status", DESKTOP, False),
    ]
    for picture, page, size, dark in wanted:
        show(browser, size, dark=dark)
        browser.get(ada + pages[page])
        screenshot(browser, folder / f"{picture}.png", height=1000 if size == PHONE else 1600)
    show(browser, DESKTOP)
    browser.get(ada + pages["stack"])
    browser.find_element(By.CSS_SELECTOR, "button[value=revoke]").click()
    deadline = time.monotonic() + 30
    while not browser.find_elements(By.CSS_SELECTOR, "dl.counts") and time.monotonic() < deadline:
        time.sleep(0.2)
    screenshot(browser, folder / "dry-run.png", height=1600)
