"""Voices and streams: the same samples as the command line's, whatever way they are asked for, and bad input."""

import array
import asyncio
import gc
import io
import json
import os
import pickle
import sys
import threading
import time
import tracemalloc
import wave
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import GOLDEN, LETTERS, voice_json

import vitstream

TEXT = "hello there, this is a voice! it speaks letters! does it?"


def joined(stream):
    return b"".join(chunk.tobytes() for chunk in stream)


def test_samples_are_those_of_the_command_line(letters, place, command):
    expected = command("speak", place / "letters.ckpt", TEXT, "--raw", "--seed", "7")
    assert joined(letters.stream(TEXT, seed=7, format="int16")) == expected
    assert letters.synthesize(TEXT, seed=7).pcm() == expected
    assert letters.synthesize(TEXT, seed=7, chunk=3).pcm() == expected
    pieces = (TEXT[at : at + 3] for at in range(0, len(TEXT), 3))
    assert joined(letters.stream(pieces, seed=7, format="int16", whole_sentences=True)) == expected
    assert letters.synthesize(TEXT, seed=8).pcm() != expected

    slow = command("speak", place / "letters.ckpt", TEXT, "--raw", "--seed", "7", "--length-scale", "1.5",
                   "--noise-scale", "0.3", "--noise-w", "0.2", "--sentence-silence", "0.1")
    how = dict(length_scale=1.5, noise_scale=0.3, noise_w=0.2, sentence_silence=0.1, seed=7)
    assert letters.synthesize(TEXT, **how).pcm() == slow
    ids = command("speak", place / "letters.ckpt", "--ids", "1,0,11,0,8,0,2", "--raw", "--seed", "7")
    assert letters.synthesize(ids=[1, 0, 11, 0, 8, 0, 2], seed=7).pcm() == ids
    marked = '<speak>hello <break time="100ms"/> <prosody rate="200%">there.</prosody></speak>'
    expected = command("speak", place / "letters.ckpt", marked, "--ssml", "--raw", "--seed", "7")
    assert letters.synthesize(marked, ssml=True, seed=7).pcm() == expected


def test_speakers_are_those_of_the_command_line(multi, place, command):
    assert (multi.speakers, multi.speaker_ids) == (3, {"ada": 0, "bo": 1, "cy": 2})
    for speaker, name in [(1, "bo"), (2, "cy")]:
        expected = command("speak", place / "multi.ckpt", "abc.", "--raw", "--seed", "1", "--speaker", name)
        assert multi.synthesize("abc.", speaker=speaker, seed=1).pcm() == expected
        assert multi.synthesize("abc.", speaker=name, seed=1).pcm() == expected
    with pytest.raises(vitstream.RequestError, match='there is no speaker "dee"; expected one of ada'):
        multi.stream("abc.", speaker="dee")


def test_words_that_sound_are_those_of_the_command_line(place, command, espeak):
    voice = vitstream.Voice.open(place / "sounds.ckpt", espeak=espeak)
    text = "Hello world. Hello, hello!"
    expected = command("phonemize", place / "sounds.ckpt", text, "--espeak", espeak, "--json")
    expected = json.loads(expected)["sentences"]
    found = voice.phonemize(text)
    assert [sentence.ids for sentence in found] == [sentence["ids"] for sentence in expected]
    assert [sentence.phonemes for sentence in found] == [sentence["phonemes"] for sentence in expected]
    assert [word for word, _ in found[0].words] == ["Hello", "world."]
    assert voice.phonemizer[0] == espeak.split(":")[0]
    expected = command("speak", place / "sounds.ckpt", text, "--espeak", espeak, "--raw", "--seed", "7")
    assert voice.synthesize(text, seed=7).pcm() == expected
    spoken = command("speak", place / "sounds.ckpt", "--phonemes", "haɪ", "--raw", "--seed", "7")
    assert voice.synthesize(phonemes="haɪ", seed=7).pcm() == spoken


def test_chunks_are_buffers_of_what_is_spoken(letters):
    stream = letters.stream(TEXT, seed=1, chunk=4)
    chunks = list(stream)
    assert len(chunks) > 3 and [chunk.index for chunk in chunks] == list(range(len(chunks)))
    at = 0
    for chunk in chunks:
        assert chunk.start == at and chunk.sample_rate == 22050 and chunk.format == "float32"
        view = memoryview(chunk)
        assert (view.format, view.itemsize, len(view)) == ("f", 4, len(chunk))
        assert max(map(abs, chunk)) <= 1.0
        at += len(chunk)
    assert [utterance.text for utterance in stream.utterances] == [
        "hello there, this is a voice!", "it speaks letters!", "does it?"]
    first = stream.utterances[0]
    assert sum(first.durations) == first.samples == stream.utterances[1].start
    assert first.timings[0].symbol == "^" and first.timings[0].start == 0.0
    assert first.timings[-1].end == pytest.approx(first.samples / 22050, abs=1e-6)
    assert [word.text for word in first.words] == ["hello", "there,", "this", "is", "a", "voice!"]
    assert all(word.start < word.end for word in first.words)
    whole = letters.synthesize(TEXT, seed=1)
    assert whole.tobytes() == joined(chunks) and len(whole.utterances) == 3
    kept = pickle.loads(pickle.dumps(whole))
    assert kept.tobytes() == whole.tobytes() and kept.sample_rate == 22050
    assert isinstance(whole, array.array)


def test_wav_files_are_whole(letters, tmp_path):
    audio = letters.synthesize("hello.", seed=1)
    audio.save(tmp_path / "hello.wav")
    with wave.open(str(tmp_path / "hello.wav")) as file:
        assert (file.getnchannels(), file.getframerate(), file.getsampwidth()) == (1, 22050, 2)
        assert file.readframes(file.getnframes()) == audio.pcm()
    ints = letters.synthesize("hello.", seed=1, format="int16")
    assert (ints.typecode, ints.pcm()) == ("h", audio.pcm())
    with wave.open(io.BytesIO(), "wb") as file:
        file.setnchannels(1), file.setframerate(22050), file.setsampwidth(2)
        file.writeframes(ints)
    with pytest.raises(vitstream.OutputError, match="no directory"):
        audio.save(tmp_path / "absent" / "hello.wav")


def test_contents_in_memory_are_a_voice(letters, place):
    contents = (place / "letters.ckpt").read_bytes()
    expected = letters.synthesize("hello.", seed=1)
    for source in (contents, bytearray(contents), memoryview(contents)):
        voice = vitstream.Voice.open(source, name="letters.ckpt", config=voice_json("text", LETTERS))
        assert voice.synthesize("hello.", seed=1) == expected
    named = vitstream.Voice.open(contents, config=place / "letters.ckpt.json")
    assert named.synthesize("hello.", seed=1) == expected


def test_folders_speak_with_other_backends(letters, place, tmp_path):
    vitstream.export(place / "letters.ckpt", tmp_path / "voice", noise="input", durations=True)
    expected = letters.synthesize("hello.", seed=1)
    with vitstream.Voice.open(tmp_path / "voice", backend="rten") as voice:
        assert voice.backend == "rten" and voice.gives_durations
        found = voice.synthesize("hello.", seed=1)
    assert found.utterances[0].durations == expected.utterances[0].durations
    assert max(abs(a - b) for a, b in zip(found, expected)) < 1e-4
    one, two = (vitstream.Voice.open(tmp_path / "voice", threads=threads) for threads in (1, 2))
    assert two.synthesize("hello.", seed=1) == one.synthesize("hello.", seed=1)


def test_volume_and_format(letters):
    audio = letters.synthesize("hello.", seed=1)
    louder = letters.synthesize("hello.", seed=1, volume=2.0)
    assert all(b == 2 * a for a, b in zip(audio, louder))
    silent = letters.synthesize("hello.", seed=1, volume=0, format="int16")
    assert not any(silent) and len(silent) == len(audio)


def test_asynchronous_streams(letters):
    expected = letters.synthesize(TEXT, seed=1).tobytes()

    async def arriving():
        for at in range(0, len(TEXT), 5):
            await asyncio.sleep(0)
            yield TEXT[at : at + 5]

    async def run():
        found = b"".join([chunk.tobytes() async for chunk in letters.stream(TEXT, seed=1)])
        assert found == expected
        stream = letters.stream(arriving(), seed=1, whole_sentences=True)
        with pytest.raises(TypeError, match="async for"):
            next(stream)
        assert b"".join([chunk.tobytes() async for chunk in stream]) == expected
        # Many at once.
        many = await asyncio.gather(*[collect() for _ in range(8)])
        assert all(one == expected for one in many)
        async with letters.stream(TEXT, seed=1, chunk=1) as stream:
            await stream.__anext__()
        assert [chunk async for chunk in stream] == []

    async def collect():
        return b"".join([chunk.tobytes() async for chunk in letters.stream(TEXT, seed=1)])

    asyncio.run(run())


def test_a_cancelled_task_ends_its_stream(letters):
    async def run():
        stream = letters.stream("hello there " * 40, chunk=1)
        task = asyncio.ensure_future(anext_all(stream))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [chunk async for chunk in stream] == []

    async def anext_all(stream):
        return [chunk async for chunk in stream]

    asyncio.run(run())


def test_closing_ends_the_work_from_any_thread(letters):
    stream = letters.stream("hello there " * 40, chunk=1)
    next(stream)
    found = []
    thread = threading.Thread(target=lambda: found.extend(stream))
    thread.start()
    stream.close()
    thread.join(timeout=60)
    assert not thread.is_alive()
    total = stream.utterances[0].samples
    assert sum(map(len, found)) < total
    assert list(stream) == []
    with letters.stream(TEXT) as stream:
        next(stream)
    assert list(stream) == []


def test_many_threads_speak_with_one_voice(letters):
    expected = letters.synthesize(TEXT, seed=1).tobytes()
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: letters.synthesize(TEXT, seed=1).tobytes(), range(64)))
    assert all(one == expected for one in found)
    # One stream shared by threads: every chunk goes to one of them.
    stream = letters.stream(TEXT, seed=1, chunk=1)
    parts = []
    threads = [threading.Thread(target=lambda: parts.extend(stream)) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    parts.sort(key=lambda chunk: chunk.index)
    assert joined(parts) == expected


def test_the_interpreter_goes_on_while_a_voice_computes(letters):
    ticks, done = [], threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(time.monotonic())
            time.sleep(0)

    thread = threading.Thread(target=tick)
    thread.start()
    before = len(ticks)
    letters.synthesize("hello there " * 100)
    during = len(ticks) - before
    done.set()
    thread.join()
    # Were it held, the other thread would be let in between chunks only.
    assert during > 100


def test_closed_voices_say_so(place):
    voice = vitstream.Voice.open(place / "letters.ckpt")
    stream = voice.stream(TEXT, seed=1)
    next(stream)
    voice.close()
    assert voice.closed and "closed" in repr(voice)
    for use in (
        lambda: voice.stream("a"),
        lambda: voice.synthesize(ids=[1, 2]),
        lambda: voice.phonemize("a"),
        lambda: voice.sample_rate,
        lambda: voice.config,
    ):
        with pytest.raises(vitstream.RequestError, match="this voice is closed"):
            use()
    # What was read before is spoken to its end, the next sentence is not.
    with pytest.raises(vitstream.RequestError, match="this voice is closed"):
        list(stream)
    assert list(stream) == []
    voice.close()


@pytest.mark.parametrize(
    ("how", "kind", "part"),
    [
        (dict(), TypeError, "expected one of text, ids and phonemes, found none"),
        (dict(text="a", ids=[1]), TypeError, "found text and ids"),
        (dict(text=b"a"), TypeError, "expected str, found bytes"),
        (dict(text=5), TypeError, "found int"),
        (dict(text=["a", 5]), TypeError, "expected pieces of str, found int"),
        (dict(text=""), vitstream.RequestError, "nothing to say"),
        (dict(text=" \n"), vitstream.RequestError, "nothing to say"),
        (dict(text=[]), vitstream.RequestError, "nothing to say"),
        (dict(text="a\0b"), vitstream.RequestError, "NUL"),
        (dict(ids=[]), vitstream.RequestError, "no phoneme ids"),
        (dict(ids=[1, 10**6]), vitstream.RequestError, "phoneme id 1000000 at position 1"),
        (dict(ids=[-1]), vitstream.RequestError, "phoneme id -1"),
        (dict(ids=["a"]), TypeError, ""),
        (dict(ids=[2**70]), OverflowError, ""),
        (dict(ids=[1] * 5001), vitstream.RequestError, "5001 phoneme ids"),
        (dict(phonemes="ΩΩ"), vitstream.RequestError, "none of these phonemes"),
        (dict(phonemes=5), TypeError, ""),
        (dict(text="a", speaker=1), vitstream.RequestError, "speaker 1"),
        (dict(text="a", speaker=1.5), TypeError, "speaker: expected a number or a name, found float"),
        (dict(text="a", length_scale=0), vitstream.RequestError, "length scale"),
        (dict(text="a", length_scale="1"), TypeError, "length_scale: expected a number, found str"),
        (dict(text="a", noise_scale=float("nan")), vitstream.RequestError, "noise scale"),
        (dict(text="a", noise_w=3), vitstream.RequestError, "noise_w"),
        (dict(text="a", seed=-1), vitstream.RequestError, "seed"),
        (dict(text="a", seed=1.0), TypeError, "seed: expected a whole number, found float"),
        (dict(text="a", volume=-1), vitstream.RequestError, "volume"),
        (dict(text="a", format="int8"), vitstream.RequestError, "format"),
        (dict(text="a", chunk=0), vitstream.RequestError, "chunk"),
        (dict(text="a", chunk=True), TypeError, "chunk: expected a whole number, found bool"),
        (dict(text="a", sentence_silence=-1), vitstream.RequestError, "sentence_silence"),
        (dict(text="<speak>", ssml=True), vitstream.RequestError, "markup"),
        (dict(text=["a"], ssml=True), TypeError, "SSML"),
    ],
)
def test_requests_that_make_no_sense_are_refused(letters, how, kind, part):
    with pytest.raises(kind) as caught:
        list(letters.stream(**how))
    assert part in str(caught.value)
    assert letters.synthesize("a", seed=1)


@pytest.mark.parametrize(
    ("source", "kind", "part"),
    [
        ("absent.onnx", vitstream.FileError, "absent.onnx"),
        (b"", vitstream.InputError, "contents in memory"),
        (b"no voice at all", vitstream.Error, "contents in memory"),
        (b"\x80\x02}q\x00.", vitstream.Error, "contents in memory"),
        (5, TypeError, "expected a path or the bytes of a file, found int"),
        (None, TypeError, "found NoneType"),
    ],
)
def test_what_is_no_voice_is_refused(source, kind, part):
    with pytest.raises(kind) as caught:
        vitstream.Voice.open(source)
    assert part in str(caught.value)


def test_arguments_of_open_are_checked(place):
    for how, kind, part in [
        (dict(backend="cuda"), vitstream.RequestError, "backend: expected auto, native, rten or onnxruntime"),
        (dict(threads=0), vitstream.RequestError, "threads"),
        (dict(threads="2"), TypeError, "threads: expected a whole number, found str"),
        (dict(weights="best"), vitstream.RequestError, "weights: expected raw or ema"),
        (dict(decoder="x"), vitstream.RequestError, "decoder"),
        (dict(sample_rate=1), vitstream.Error, "sample rate"),
        (dict(config={"a": 1}), TypeError, "config"),
        (dict(name="x"), TypeError, "name"),
        (dict(espeak="a", phonemizer="b"), vitstream.RequestError, "expected one of them"),
        (dict(lexicon=place / "absent"), vitstream.FileError, "absent"),
        (dict(hparams={"upsample_rates": [8, 8]}), vitstream.Error, ""),
    ]:
        with pytest.raises(kind) as caught:
            vitstream.Voice.open(place / "letters.ckpt", **how)
        assert part in str(caught.value)


def test_errors_say_what_helps_in_words_of_python(place, tmp_path):
    contents = (place / "letters.ckpt").read_bytes()
    with pytest.raises(vitstream.RequestError, match="cannot read text, use ids instead"):
        vitstream.Voice.open(contents, sample_rate=22050).synthesize("a")
    vitstream.export(place / "letters.ckpt", tmp_path / "voice")
    with pytest.raises(vitstream.Error, match='noise="input"') as caught:
        vitstream.Voice.open(tmp_path / "voice", backend="rten").synthesize("a", seed=1)
    error = caught.value
    assert str(error).endswith(error.remedy) and " --" not in str(error) and error.kind == "request"
    with pytest.raises(vitstream.InputError) as caught:
        vitstream.Voice.open(contents[:-100], name="cut\n.ckpt", sample_rate=22050)
    assert caught.value.path == "cut\n.ckpt" and "\n" not in str(caught.value)


def test_a_missing_phonemizer_is_named(place, monkeypatch):
    monkeypatch.setenv("VITSTREAM_ESPEAK", str(place / "absent.so"))
    voice = vitstream.Voice.open(place / "sounds.ckpt")
    for use in (lambda: voice.phonemize("a"), lambda: list(voice.stream("a")), lambda: voice.phonemizer):
        with pytest.raises(vitstream.PhonemizerError, match="absent.so"):
            use()
    # Ids and phonemes need nobody.
    assert voice.synthesize(ids=[1, 4, 2]) and voice.synthesize(phonemes="h")


def test_a_phonemizer_can_be_a_program(place, tmp_path):
    program = tmp_path / "says.py"
    program.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    asked = json.loads(line)\n"
        "    print(json.dumps({'ipa': asked['clause'].lower().strip(' .')}), flush=True)\n"
    )
    voice = vitstream.Voice.open(place / "sounds.ckpt", phonemizer=f"{sys.executable} {program}")
    assert voice.phonemize("Hola.")[0].phonemes == list("hola.")


def test_an_exception_of_the_caller_leaves_nothing_locked(letters, place, tmp_path):
    class Mine(Exception):
        pass

    def pieces():
        yield "hello. "
        raise Mine

    stream = letters.stream(pieces(), seed=1)
    with pytest.raises(Mine):
        list(stream)
    assert list(stream) == []

    def told(next, done, of):
        if done == 2:
            raise Mine

    with pytest.raises(Mine):
        vitstream.export(place / "letters.ckpt", tmp_path / "voice", progress=told)
    assert not (tmp_path / "voice" / "encoder.onnx").exists()
    # A text that asks the voice while it is read.
    nested = (piece for piece in ["hello. ", str(len(letters.phonemize("a"))), "."])
    assert list(letters.stream(nested, seed=1))
    vitstream.export(place / "letters.ckpt", tmp_path / "voice")
    with pytest.raises(Mine):
        vitstream.verify(tmp_path / "voice", progress=told)
    assert letters.synthesize("hello.", seed=1)


def test_a_forked_process_speaks(letters, place):
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    expected = letters.synthesize(TEXT, seed=1).tobytes()
    threaded = vitstream.Voice.open(place / "letters.ckpt", threads=2)
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            letters.synthesize("hello.", seed=1)

    threads = [threading.Thread(target=busy) for _ in range(4)]
    [thread.start() for thread in threads]
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                # Only os._exit leaves a child without running the tests' own ends.
                code = 1
                try:
                    same = letters.synthesize(TEXT, seed=1).tobytes() == expected
                    try:
                        threaded.synthesize("hello.")
                        told = False
                    except vitstream.RequestError as error:
                        told = "forked" in str(error)
                    code = 0 if same and told else 2
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        [thread.join() for thread in threads]


def test_nothing_is_kept_of_what_was_spoken(letters):
    resource = pytest.importorskip("resource")
    count = int(os.environ.get("VITSTREAM_UTTERANCES", "1000"))

    def speak(times):
        for _ in range(times):
            letters.synthesize("hello.")
            stream = letters.stream("hello. there.", chunk=1)
            next(stream)
            stream.close()
            with pytest.raises(vitstream.RequestError):
                letters.synthesize(ids=[-1])

    def held():
        gc.collect()
        return len(gc.get_objects()), tracemalloc.get_traced_memory()[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    tracemalloc.start()
    try:
        speak(200)
        before = held()
        speak(count)
        objects, traced, resident = (after - before for after, before in zip(held(), before))
    finally:
        tracemalloc.stop()
    print(f"{count} rounds: {objects} objects, {traced / 1024:.1f} KiB traced and {resident} KiB resident more")
    assert objects < 100
    # A number kept of each round would be more than this.
    assert traced < 16 * 1024
    # Kibibytes on Linux: a chunk kept of each round would be 10 times this.
    assert resident < 4096


def test_export_inspect_verify(place, tmp_path):
    told = []
    summary = vitstream.export(
        place / "letters.ckpt", tmp_path / "voice", progress=lambda next, done, of: told.append((next, done, of))
    )
    assert summary["speakers"] == 1 and (tmp_path / "voice" / "decoder.stream.onnx").exists()
    assert told[0] == ("source", 0, 5) and told[-1] == ("", 5, 5)
    found = vitstream.inspect(place / "letters.ckpt")
    assert found["kind"] == "checkpoint" and found["hop_length"] == 256
    assert vitstream.inspect((place / "letters.ckpt").read_bytes())["kind"] == "checkpoint"
    assert vitstream.inspect(tmp_path / "voice" / "encoder.onnx")["kind"] == "graph"
    told.clear()
    report = vitstream.verify(
        tmp_path / "voice", against=place / "letters.ckpt", progress=lambda *step: told.append(step)
    )
    assert report and report.passed and "ok" in report.table and report.page.startswith("<!DOCTYPE html>")
    assert told[-1] == ("", 5, 5) and all(check["verdict"] != "failed" for check in report.checks)
    for how, part in [
        (dict(layout="x"), "layout"),
        (dict(noise="x"), "noise"),
        (dict(precision="x"), "precision"),
        (dict(package="x"), "package"),
        (dict(opset=1), "opset 1"),
    ]:
        with pytest.raises(vitstream.RequestError, match=part):
            vitstream.export(place / "letters.ckpt", tmp_path / "other", **how)
    (tmp_path / "voice" / "decoder.onnx").write_bytes(b"x")
    assert not vitstream.verify(tmp_path / "voice")
    with pytest.raises(vitstream.Error):
        vitstream.verify(tmp_path / "absent")
    with pytest.raises(vitstream.OutputError):
        vitstream.export(place / "letters.ckpt", place / "letters.ckpt")


def test_markdown_and_lexicon(place, tmp_path):
    (tmp_path / "words").write_text("xyz = hello\n")
    voice = vitstream.Voice.open(place / "letters.ckpt", lexicon=tmp_path / "words", markdown=True)
    assert [sentence.phonemes for sentence in voice.phonemize("**xyz**!")] == [list("hello!")]


def test_the_package_is_typed():
    folder = os.path.dirname(vitstream.__file__)
    assert os.path.exists(os.path.join(folder, "py.typed")) and os.path.exists(os.path.join(folder, "_vitstream.pyi"))
    assert all(getattr(vitstream, name).__doc__ or name == "__version__" for name in vitstream.__all__ if name != "ProgressCallback")
    assert (GOLDEN / "multi.ckpt").exists()
