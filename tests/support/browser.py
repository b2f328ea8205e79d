"""A headless Chromium, driven by the WebDriver protocol over HTTP: what the browser tests need and no more."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOOPBACK = "127.0.0.1"

PATIENCE_SECONDS = 90.0
"""For a page to show what it should: 1 to 5 s on two idle cores; a loaded machine gets this."""

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {LOOPBACK}",  # nothing outside this machine has an address
    "--window-size=1600,1200",
)


def missing_browser() -> str | None:
    """Why there is no browser, or None."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"no chromium: {' and '.join(missing)} not found" if missing else None


@dataclass
class Browser:
    """One window of a browser.

    Attributes:
        session: Address of the WebDriver session.
        shots: Folder for screenshots.
    """

    session: str
    shots: Path

    def __post_init__(self) -> None:
        self._client = httpx.Client(timeout=120, trust_env=False)
        self._hosts: set[str] = set()

    def open(self, url: str) -> None:
        """Go to an address and wait for the document (not for what its scripts fetch)."""
        self._post("url", {"url": url})

    def script(self, source: str, *arguments: Any) -> Any:
        """Run JavaScript in the page and return its value."""
        return self._post("execute/sync", {"script": source, "args": list(arguments)})

    def text(self) -> str:
        """All text that a person can see."""
        return str(self.script("return document.body ? document.body.innerText : ''"))

    def click(self, selector: str, *, text: str = "") -> None:
        """Click the first element of a CSS selector, once it is there; with `text`, the first that says just that."""
        find = """const found = [...document.querySelectorAll(arguments[0])].filter(
            e => !arguments[1] || e.innerText.trim() === arguments[1]);
            if (found.length) found[0].click(); return found.length"""
        self.wait(lambda: self.script(find, selector, text) > 0, f"an element {selector} {text!r} to click")

    def see(self, *texts: str, url: str | None = None, pattern: str = "") -> str:
        """Wait until a page shows all these texts (upper and lower case alike); return everything it shows.

        Args:
            *texts: What to wait for.
            url: Page to open before.
            pattern: Regular expression to wait for as well.
        """
        if url is not None:
            self.open(url)
        wanted = [text.lower() for text in texts]

        def shown() -> str:
            seen = self.text()
            is_there = all(text in seen.lower() for text in wanted) and re.search(pattern, seen)
            return seen if is_there else ""

        return str(self.wait(shown, f"the texts {texts} {pattern}"))

    def wait(self, condition: Callable[[], Any], what: str, *, seconds: float = PATIENCE_SECONDS) -> Any:
        """Wait until a condition gives something true and return that."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPStatusError):  # the page changed under the script
                if found := condition():
                    return found
            time.sleep(0.25)
        picture = self.shoot("waited-in-vain")
        raise AssertionError(
            f"waited {seconds:.0f} s for {what} on {self.script('return location.href')}; look at {picture}. "
            f"The page says: {self.text()[:2000]}"
        )

    def emulate(self, *, width: int, height: int, scheme: str = "light") -> None:
        """Show pages as a screen of this size does, for a reader who asked for this colour scheme."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._command("Emulation.setDeviceMetricsOverride", metrics)
        self._command("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def write(self, text: str) -> None:
        """Enter text where the keyboard is, all at once."""
        self._command("Input.insertText", {"text": text})

    def shoot(self, name: str) -> Path:
        """Save a screenshot and return its path."""
        path = self.shots / f"{name}.png"
        path.write_bytes(base64.b64decode(self._get("screenshot")))
        return path

    def hosts(self) -> set[str]:
        """Hosts that any page has asked for something so far."""
        for entry in self._post("se/log", {"type": "performance"}):
            message = json.loads(entry["message"])["message"]
            if message["method"] in {"Network.requestWillBeSent", "Network.webSocketCreated"}:
                parameters = message["params"]
                parts = urlsplit(parameters.get("request", parameters)["url"])
                if parts.scheme in {"http", "https", "ws", "wss"}:
                    self._hosts.add(parts.hostname or "")
        return self._hosts

    def close(self) -> None:
        """End the session; the browser goes with it."""
        with contextlib.suppress(httpx.HTTPError):
            self._client.delete(self.session)
        self._client.close()

    def _command(self, name: str, parameters: dict[str, Any]) -> Any:
        return self._post("goog/cdp/execute", {"cmd": name, "params": parameters})

    def _post(self, command: str, body: dict[str, Any]) -> Any:
        return _value(self._client.post(f"{self.session}/{command}", json=body))

    def _get(self, command: str) -> Any:
        return _value(self._client.get(f"{self.session}/{command}"))


@contextmanager
def open_browser(folder: Path) -> Iterator[Browser]:
    """Run a browser for the length of a `with` block; no process of it survives.

    Args:
        folder: Becomes the home of its profile and of its screenshots.
    """
    profile, shots = folder / "profile", folder / "screenshots"
    shots.mkdir(parents=True, exist_ok=True)
    with (folder / "chromedriver.log").open("wb") as log, _driver(folder, log) as address:
        options = {
            "binary": shutil.which("chromium"),
            "args": [*FLAGS, f"--user-data-dir={profile}"],
        }
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"performance": "ALL"}}
        answer = httpx.post(
            f"{address}/session", json={"capabilities": {"alwaysMatch": wanted}}, timeout=120, trust_env=False
        )
        browser = Browser(f"{address}/session/{_value(answer)['sessionId']}", shots)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def _driver(folder: Path, log: Any) -> Iterator[str]:
    port = _free_port()
    process = subprocess.Popen(
        ["chromedriver", f"--port={port}", "--allowed-ips="],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={**os.environ, "HOME": str(folder)},  # crash reports and caches of the browser stay in the test's folder
    )
    address = f"http://{LOOPBACK}:{port}"
    try:
        _wait_until_ready(process, address, folder / "chromedriver.log")
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)


def _wait_until_ready(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if _value(httpx.get(f"{address}/status", timeout=5, trust_env=False))["ready"]:
                return
        time.sleep(0.1)
    raise AssertionError(f"chromedriver did not come up; its log: {log.read_text(errors='replace')[-2000:]}")


def _value(answer: httpx.Response) -> Any:
    if answer.is_error:
        raise httpx.HTTPStatusError(answer.text[:1000], request=answer.request, response=answer)
    return answer.json()["value"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
