"""The examples, as their users start them."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import wave

import pytest
from conftest import ROOT, installed

import vitstream

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"


def test_the_server_streams(letters, place):
    source = (EXAMPLES / "server.py").read_text().split("# begin\n")[1]
    assert len(source.splitlines()) <= 11
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, EXAMPLES / "server.py", place / "letters.ckpt", str(port)])
    try:
        url = f"http://127.0.0.1:{port}/?" + urllib.parse.urlencode({"text": "hello there!"})
        for attempt in range(600):
            assert server.poll() is None
            try:
                with urllib.request.urlopen(url) as answer:
                    assert answer.headers["Content-Type"] == "audio/L16; rate=22050"
                    samples = answer.read()
                break
            except (ConnectionError, urllib.error.URLError):
                time.sleep(0.1)
        assert len(samples) > 10_000 and any(samples)
    finally:
        server.kill()
        server.wait()


def test_tokens_are_spoken_as_their_text(letters, place, tmp_path):
    recorded = EXAMPLES / "tokens.jsonl"
    command = [sys.executable, EXAMPLES / "tokens.py", place / "letters.ckpt", recorded, tmp_path / "out.wav"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    text = "".join(json.loads(line)["token"] for line in recorded.read_text().splitlines())
    spoken = " ".join(line.split(" s  ")[1] for line in output.splitlines())
    assert spoken == text
    with wave.open(str(tmp_path / "out.wav")) as file:
        assert file.getframerate() == 22050 and file.getnframes() > 22050


@installed("nbformat", "nbclient", "ipykernel", "matplotlib")
def test_the_notebook_runs(place, monkeypatch):
    import nbclient
    import nbformat

    monkeypatch.setenv("VOICE", str(place / "letters.ckpt"))
    notebook = nbformat.read(EXAMPLES / "phonemes.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    kinds = [set(output.get("data", {})) for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in kind for kind in kinds) and any("text/html" in kind for kind in kinds)


@pytest.mark.skipif("VITSTREAM_RAY" not in os.environ, reason="takes Ray, 80 MB: VITSTREAM_RAY=1 asks for it")
@installed("ray")
def test_ray_speaks_every_line(letters, place, tmp_path):
    lines = [f"line {'a' * (n % 7)} of many!" for n in range(60)]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    command = [sys.executable, EXAMPLES / "ray_batch.py", place / "letters.ckpt", tmp_path / "lines.txt", tmp_path / "out"]
    subprocess.run(command, check=True)
    for number, text in enumerate(lines):
        assert (tmp_path / "out" / f"{number:06}.wav").read_bytes() == letters.synthesize(text, seed=number).wav()


def test_the_readme_runs(place, tmp_path, monkeypatch, letters):
    """The lines of Python in README.md and in the package's, in a folder that has what they name."""
    vitstream.export(place / "letters.ckpt", tmp_path / "joe" / "voice")
    vitstream.export(place / "letters.ckpt", tmp_path / "single", layout="single")
    (tmp_path / "en_US-joe-medium.onnx").write_bytes((tmp_path / "single" / "voice.onnx").read_bytes())
    (tmp_path / "en_US-joe-medium.onnx.json").write_bytes((tmp_path / "single" / "voice.onnx.json").read_bytes())
    monkeypatch.chdir(tmp_path)
    for file in (ROOT / "README.md", ROOT / "bindings" / "python" / "README.md", ROOT / "docs" / "python.md"):
        blocks = re.findall(r"^```python\n(.*?)^```", file.read_text(encoding="utf-8"), re.M | re.S)
        assert blocks, file
        names = {"loudspeaker": open(tmp_path / "loudspeaker", "wb"), "tokens": lambda: iter(["hello there! how", " are you?"])}
        for block in blocks:
            exec(compile(block, str(file), "exec"), names)
        names["loudspeaker"].close()
        assert (tmp_path / "loudspeaker").stat().st_size > 10_000
