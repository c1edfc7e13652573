#!/usr/bin/env python3
"""The server's page in a real browser: scripts/test_page.py VITSTREAM [--screenshot FILE]

    pip install -r scripts/requirements-serve.txt

Starts `vitstream serve` with voices of the repository and drives Chromium: that of the system, else Playwright's own, else it
says what is missing and is skipped. What the page plays must be what `vitstream speak` writes, to the last bit.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import wave
from pathlib import Path

try:
    from playwright.sync_api import Error, expect, sync_playwright
except ImportError:
    print("skipped: there is no playwright (pip install -r scripts/requirements-serve.txt)")
    sys.exit()

GOLDEN = Path(__file__).resolve().parent.parent / "crates/vitstream-vits/tests/golden"
TEXT = "Hello there. How are you? Fine, and the day is long."
LONG = " ".join(["The quick brown fox jumps over the lazy dog."] * 80)
KEY = "a key of this test"
SEED = 7
# Milliseconds; other tests may run beside this one.
PATIENCE = 120_000


class Server:
    """`vitstream serve` on a port that the system chooses."""

    def __init__(self, vitstream, *options):
        voices = ["--voice", f"letters={GOLDEN}/families/hf", "--voice", f"many={GOLDEN}/families/hf-multi"]
        command = [vitstream, "serve", *voices, "--http", "127.0.0.1:0", "--wyoming", "off", "--seed", str(SEED), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for line in self.process.stdout:
            if found := re.search(r"http://[0-9.:]+", line):
                self.address = found[0]
                break
        else:
            raise AssertionError(f"the server ended with {self.process.wait()}")
        for _ in range(600):
            if self.status("/readyz") == 200:
                return
            time.sleep(0.1)
        raise AssertionError("the server was not ready within a minute")

    def get(self, path):
        with urllib.request.urlopen(self.address + path) as answer:
            return answer.read().decode()

    def status(self, path):
        try:
            with urllib.request.urlopen(self.address + path) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.stdout.read()
        assert self.process.wait(60) == 0, f"the server ended with {self.process.returncode}"


def alone(vitstream, scratch, voice, text, *options):
    """The samples that `speak` writes."""
    path = scratch / "alone.wav"
    command = [vitstream, "speak", GOLDEN / voice, text, "--whole-sentences", "--seed", str(SEED), "-o", path, *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with wave.open(str(path)) as file:
        return file.readframes(file.getnframes())


def saved(page):
    """The samples behind the page's link."""
    # The page may connect to nothing but its server, so the link is followed as a user does.
    with page.expect_download() as download:
        page.get_by_role("link", name="Save as WAV").click()
    with wave.open(str(download.value.path())) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return file.readframes(file.getnframes())


def done(page):
    expect(page.get_by_role("status")).to_have_text("Done.", timeout=PATIENCE)


def speaks(page, vitstream, scratch):
    page.get_by_label("Text").fill(TEXT)
    page.get_by_role("button", name="Speak").click()
    done(page)
    assert re.fullmatch(r"\d+ ms", page.locator("#first").inner_text())
    assert page.locator("#words").inner_text().split() == TEXT.split()
    assert page.locator("#gaps").inner_text() == "0"
    blank = "(c) => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; return d.every((v) => v === 0); }"
    assert not page.locator("#wave").evaluate(blank), "nothing is drawn"
    assert saved(page) == alone(vitstream, scratch, "families/hf", TEXT), "other samples than `speak` writes"
    yield "what is heard is what `speak` writes"


def chooses(page, vitstream, scratch):
    assert page.get_by_label("Speaker").is_hidden()
    page.get_by_label("Voice").select_option("many")
    page.get_by_label("Speaker").select_option("2")
    page.get_by_label("Text").fill(TEXT)
    page.get_by_label("Text").press("Control+Enter")
    done(page)
    assert saved(page) == alone(vitstream, scratch, "families/hf-multi", TEXT, "--speaker", "2")
    yield "another voice and speaker, by keyboard"


def stops(page, server):
    page.get_by_label("Text").fill(LONG)
    page.get_by_role("button", name="Speak").click()
    expect(page.locator("#first")).not_to_have_text("–", timeout=PATIENCE)
    page.keyboard.press("Escape")
    assert page.get_by_role("status").inner_text() == "Stopped."
    for _ in range(100):
        cancelled = re.search(r'outcome="cancelled"[^}]*\} (\d+)', server.get("/metrics"))
        if cancelled and int(cancelled[1]) > 0:
            break
        time.sleep(0.1)
    else:
        raise AssertionError("the server goes on speaking")
    yield "Escape stops the server's work too"


def is_usable(page):
    """Every control has a name and is reached by the keyboard."""
    unnamed = """() => [...document.querySelectorAll("input, select, textarea, button, a, canvas")]
        .filter((e) => !(e.labels?.length || e.textContent.trim() || e.getAttribute("aria-label"))).map((e) => e.id)"""
    assert page.evaluate(unnamed) == []
    page.get_by_label("Voice").focus()
    reached = []
    for _ in range(6):
        reached.append(page.evaluate("document.activeElement.id"))
        page.keyboard.press("Tab")
    assert reached[0] == "voice" and {"speed", "text", "speak"} <= set(reached), reached
    yield "every control has a name and is reached by the keyboard"


def asks_for_the_key(page):
    page.get_by_label("Key of this server").fill(KEY)
    page.get_by_label("Key of this server").press("Tab")
    expect(page.locator("#voice option")).to_have_count(2, timeout=PATIENCE)
    page.get_by_label("Text").fill("Hello.")
    page.get_by_role("button", name="Speak").click()
    done(page)
    yield "a server with keys asks for one"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vitstream", type=Path)
    parser.add_argument("--screenshot", type=Path, help="where to keep a picture of the page")
    args = parser.parse_args()
    vitstream = args.vitstream.resolve()
    system = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        scratch = Path(scratch)
        try:
            browser = playwright.chromium.launch(executable_path=system, args=["--no-sandbox"])
        except Error as error:
            print(f"skipped: there is no Chromium ({str(error).splitlines()[0]})")
            return
        tried = 0
        (scratch / "keys").write_text(KEY + "\n")
        for options in ([], ["--key-file", scratch / "keys"]):
            with Server(vitstream, *options) as server:
                page = browser.new_page(viewport={"width": 800, "height": 900})
                wrong, elsewhere = [], []
                page.on("pageerror", lambda error: wrong.append(str(error)))
                page.on("request", lambda request: request.url.startswith((server.address, "blob:", "data:")) or elsewhere.append(request.url))
                page.goto(server.address)
                if options:
                    steps = asks_for_the_key(page)
                else:
                    expect(page.locator("#voice option")).to_have_count(2, timeout=PATIENCE)
                    steps = [
                        *speaks(page, vitstream, scratch),
                        *chooses(page, vitstream, scratch),
                        *is_usable(page),
                        *stops(page, server),
                    ]
                    if args.screenshot:
                        page.get_by_label("Text").fill(TEXT)
                        page.get_by_role("button", name="Speak").click()
                        done(page)
                        page.screenshot(path=args.screenshot)
                for step in steps:
                    tried += 1
                    print(f"page: {step}")
                assert not wrong and not elsewhere, (wrong, elsewhere)
                page.close()
        browser.close()
        print(f"page: {tried} passed")


if __name__ == "__main__":
    main()
