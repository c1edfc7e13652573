"""``python -m vitstream.piper``: the command line of ``piper-tts``."""

from __future__ import annotations

import argparse
import logging
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator, List, Optional

from .. import Error, _vitstream
from . import AudioChunk, PiperVoice, SynthesisConfig

_LOGGER = logging.getLogger(__name__)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vitstream.piper",
        description="Speak each line of standard input, or of files, as the command of piper-tts does.",
    )

    def add(*names: str, **how: object) -> None:
        # Every flag may also be written with underscores.
        spelt = [name.replace("-", "_").replace("__", "--", 1) for name in names if name.startswith("--")]
        parser.add_argument(*dict.fromkeys([*names, *spelt]), **how)  # type: ignore[arg-type]

    add("-m", "--model", required=True, help="the voice: a file, or a name in --data-dir")
    add("-c", "--config", help="the voice's JSON [default: next to the voice]")
    add("-i", "--input-file", action="append", help="read text from a file; may be repeated [default: standard input]")
    add("-f", "--output-file", help="write one WAV file; - for standard output")
    add("-d", "--output-dir", help="write a WAV file for each line into this folder")
    add(
        "--output-dir-naming",
        choices=("timestamp", "text"),
        default="timestamp",
        help="how those files are named [default: timestamp]",
    )
    add("--output-raw", action="store_true", help="write 16-bit samples to standard output, sentence by sentence")
    add("-s", "--speaker", type=int, help="number of the speaker [default: the voice's first]")
    add("--length-scale", type=float, help="slowness of speech")
    add("--noise-scale", type=float, help="variation of the voice")
    add("--noise-w-scale", "--noise-w", type=float, help="variation of the durations")
    add("--cuda", action="store_true", help="no effect: vitstream computes on the CPU")
    add("--sentence-silence", type=float, default=0.0, help="seconds of silence after each sentence [default: 0]")
    add("--volume", type=float, default=1.0, help="factor for all samples [default: 1]")
    add("--no-normalize", action="store_true", help="do not normalise the volume of each sentence")
    add("--data-dir", action="append", help="folder with voices; may be repeated [default: the current folder]")
    add("--debug", action="store_true", help="log to standard error")
    return parser


def _found(model: str, folders: Optional[List[str]]) -> Path:
    path = Path(model)
    if path.exists():
        return path
    for folder in folders or ["."]:
        beside = Path(folder) / f"{model}.onnx"
        if beside.exists():
            return beside
    return path


def _lines(files: Optional[List[str]]) -> Iterator[str]:
    if not files:
        yield from (line.strip() for line in sys.stdin)
        return
    for file in files:
        with open(file, encoding="utf-8") as lines:
            yield from (line.strip() for line in lines)


def _name(line: str, naming: str) -> str:
    if naming == "timestamp":
        return str(time.monotonic_ns())
    # Only characters that file systems accept, up to their maximum length.
    return re.sub(r"[^\w-]+", "_", line).strip("_")[:100] or "_"


#: The number of samples of a stream whose length is not yet known; players interpret it as "until the end".
_UNKNOWN = (1 << 64) - 1


class _Wav:
    """A WAV file that is written completely or not at all; on standard output it is written sentence by sentence."""

    def __init__(self, path: Optional[Path]) -> None:
        self._path = path
        self._rate: Optional[int] = None
        self._samples = bytearray()

    def write(self, chunk: AudioChunk, silence: bytes) -> None:
        samples = chunk.audio_int16_bytes + silence
        if self._path is not None:
            self._samples += samples
        else:
            header = _vitstream.wav_header(chunk.sample_rate, _UNKNOWN) if self._rate is None else b""
            sys.stdout.buffer.write(header + samples)
            sys.stdout.buffer.flush()
        self._rate = chunk.sample_rate

    def close(self) -> None:
        if self._path is not None and self._rate is not None:
            header = _vitstream.wav_header(self._rate, len(self._samples) // 2)
            _vitstream.write_file(self._path, header + bytes(self._samples))


def _run(args: argparse.Namespace) -> int:
    voice = PiperVoice.load(_found(args.model, args.data_dir), args.config, use_cuda=args.cuda)
    how = SynthesisConfig(
        speaker_id=args.speaker,
        length_scale=args.length_scale,
        noise_scale=args.noise_scale,
        noise_w_scale=args.noise_w_scale,
        normalize_audio=not args.no_normalize,
        volume=args.volume,
    )
    silence = bytes(2 * max(0, round(args.sentence_silence * voice.config.sample_rate)))

    def spoken() -> Iterator[AudioChunk]:
        for line in _lines(args.input_file):
            if line:
                _LOGGER.debug("speaking %r", line)
                yield from voice.synthesize(line, how)

    if args.output_raw:
        for chunk in spoken():
            sys.stdout.buffer.write(chunk.audio_int16_bytes + silence)
            sys.stdout.buffer.flush()
        return 0
    if args.output_dir:
        folder = Path(args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        for line in _lines(args.input_file):
            if not line:
                continue
            path = folder / f"{_name(line, args.output_dir_naming)}.wav"
            wav = _Wav(path)
            for chunk in voice.synthesize(line, how):
                wav.write(chunk, silence)
            wav.close()
            print(path)
        return 0
    if args.output_file:
        wav = _Wav(None if args.output_file == "-" else Path(args.output_file))
        for chunk in spoken():
            wav.write(chunk, silence)
        wav.close()
        return 0
    player = shutil.which("ffplay")
    if player is None:
        print(
            "there is no player (ffplay) on this machine: write a file with -f FILE or samples with --output-raw",
            file=sys.stderr,
        )
        return 2
    rate = str(voice.config.sample_rate)
    command = [player, "-nodisp", "-autoexit", "-loglevel", "error", "-f", "s16le", "-ar", rate, "-i", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as playing:
        assert playing.stdin is not None
        for chunk in spoken():
            playing.stdin.write(chunk.audio_int16_bytes + silence)
            playing.stdin.flush()
        playing.stdin.close()
    return playing.returncode


def main(arguments: Optional[List[str]] = None) -> int:
    """Runs the command; returns the exit status."""
    args = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.DEBUG if args.debug else logging.INFO)
    try:
        return _run(args)
    except (Error, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, Error) and error.kind == "request" else 1


if __name__ == "__main__":
    sys.exit(main())
