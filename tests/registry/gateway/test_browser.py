"""The dashboard in a real browser."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

import registry
from tests.registry.gateway.conftest import CHAT, Served, Start

pytestmark = pytest.mark.browser

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)
CONTRAST = """
const rgb = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
const light = ([r, g, b]) => {
  const part = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
};
const ground = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const color = getComputedStyle(at).backgroundColor;
    if (color !== "rgba(0, 0, 0, 0)" && color !== "transparent") return rgb(color);
  }
  return [255, 255, 255];
};
const low = [];
for (const node of document.querySelectorAll("main *, header *")) {
  if (!node.textContent.trim() || node.children.length) continue;
  const [a, b] = [light(rgb(getComputedStyle(node).color)), light(ground(node))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) low.push(node.textContent.trim() + " " + ratio.toFixed(1));
}
return low;
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    """Debian's Chromium, without a window."""
    options = webdriver.ChromeOptions()
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.binary_location = "/usr/bin/chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


async def _see(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call the driver outside of the event loop, in which the gateway answers."""
    return await asyncio.to_thread(call, *arguments)


def _wait(browser: webdriver.Chrome, found: Callable[[webdriver.Chrome], Any]) -> Any:
    return WebDriverWait(browser, 20, ignored_exceptions=[Exception]).until(found)


async def _ask(served: Served, number: int) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=60, limits=httpx.Limits()) as http:
        url = f"{served.url}/v1/chat/completions"
        await asyncio.gather(*(http.post(url, json=CHAT) for _ in range(number)))


async def test_the_page_shows_jobs_and_why(start: Start, browser: webdriver.Chrome) -> None:
    """Pools and recent jobs appear; a job's ledger opens and closes by keyboard alone."""
    served = await start()
    await _ask(served, 3)
    await _see(browser.get, served.url)
    buttons = await _see(
        _wait, browser, lambda d: d.find_elements(By.CSS_SELECTOR, "#recent button")
    )
    assert len(buttons) == 3
    assert "r0" in (await _see(browser.find_element, By.ID, "pools")).text

    def open_and_close() -> str:
        def press(d: webdriver.Chrome) -> bool:
            d.find_element(By.CSS_SELECTOR, "#recent button").send_keys(Keys.ENTER)
            return True

        _wait(browser, press)  # once more if the row was made again in between
        dialog = browser.find_element(By.ID, "detail")
        _wait(browser, lambda d: "least_loaded" in dialog.text or "attempt" in dialog.text)
        text = dialog.text
        browser.switch_to.active_element.send_keys(Keys.ESCAPE)
        _wait(browser, lambda d: not dialog.is_displayed())
        return text

    assert "attempt" in await _see(open_and_close)
    errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]  # type: ignore[no-untyped-call]
    assert errors == []


async def test_search_and_events(start: Start, browser: webdriver.Chrome) -> None:
    """The slash key leads to the search, which hides what does not match; events are listed."""
    served = await start()
    await _ask(served, 2)
    await _see(browser.get, served.url)

    def search(text: str) -> int:
        _wait(browser, lambda d: d.find_elements(By.CSS_SELECTOR, "#recent button"))
        browser.find_element(By.TAG_NAME, "body").send_keys("/")
        browser.switch_to.active_element.send_keys(text)
        return len(browser.find_elements(By.CSS_SELECTOR, "#recent button"))

    assert await _see(search, "no such thing") == 0
    assert "Replica r0 of default is ready" in await _see(_events, browser)


def _events(browser: webdriver.Chrome) -> str:
    """Return the text of the events, with the search taken back."""
    browser.find_element(By.ID, "search").clear()
    browser.find_element(By.ID, "search").send_keys("r", Keys.BACKSPACE)
    return browser.find_element(By.ID, "events").text


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_contrast_is_enough(start: Start, browser: webdriver.Chrome, scheme: str) -> None:
    """Every text has a contrast of at least 4.5 in both colour schemes. Source: WCAG 2.2, 1.4.3."""
    served = await start(registry.get("mock", {"error_code": "WORKER_RESET", "error_after": 1}))
    await _ask(served, 2)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    await _see(browser.execute_cdp_cmd, "Emulation.setEmulatedMedia", {"features": features})
    await _see(browser.get, served.url)
    await _see(_wait, browser, lambda d: d.find_elements(By.CSS_SELECTOR, "#recent button"))
    assert await _see(browser.execute_script, CONTRAST) == []


async def test_the_page_fits_a_phone(start: Start, browser: webdriver.Chrome) -> None:
    """At 390 pixels nothing but the tables' own boxes scrolls sideways."""
    served = await start()
    size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    await _see(browser.execute_cdp_cmd, "Emulation.setDeviceMetricsOverride", size)
    try:
        await _see(browser.get, served.url)
        await _see(_wait, browser, lambda d: d.find_elements(By.CSS_SELECTOR, "#pools button"))
        width = await _see(browser.execute_script, "return document.body.scrollWidth")
    finally:
        await _see(browser.execute_cdp_cmd, "Emulation.clearDeviceMetricsOverride", {})
    assert width <= 390


async def test_a_thousand_jobs_keep_it_responsive(start: Start, browser: webdriver.Chrome) -> None:
    """With 1,000 jobs in flight the page is rendered in less than a refresh takes."""
    served = await start(registry.get("mock", {"delay_s": 120}), stall_s=0)
    async with httpx.AsyncClient(
        trust_env=False, timeout=None, limits=httpx.Limits(max_connections=None)
    ) as http:
        url = f"{served.url}/v1/chat/completions"
        body = json.dumps({**CHAT, "stream": True})
        asks = [asyncio.create_task(http.post(url, content=body)) for _ in range(1000)]
        while len(served.gateway.table) < 1000:
            await asyncio.sleep(0.05)
        await _see(browser.get, served.url)
        await _see(_wait, browser, lambda d: "1000" in d.find_element(By.ID, "running-count").text)
        took_ms = await _see(
            browser.execute_script,
            "const began = performance.now(); show(); return performance.now() - began;",
        )
        for ask in asks:
            ask.cancel()
        await asyncio.wait(asks)
    assert took_ms < 1000
