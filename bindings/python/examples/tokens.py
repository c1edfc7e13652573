"""Speaks what a language model writes, while it writes: python tokens.py VOICE TOKENS.jsonl OUT.wav

TOKENS.jsonl is a recorded stream, a line of JSON for each token, {"after": seconds, "token": text}. With a real model the loop
over lines is the loop over its answer.
"""

import asyncio
import json
import sys

import vitstream


async def tokens(path):
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            await asyncio.sleep(event["after"])
            yield event["token"]


async def main(voice, path, output):
    voice = vitstream.Voice.open(voice)
    samples, stream = bytearray(), voice.stream(tokens(path), format="int16")
    async for chunk in stream:
        # A loudspeaker or a telephone line takes it here.
        samples += chunk.tobytes()
    for utterance in stream.utterances:
        print(f"{utterance.start / voice.sample_rate:6.2f} s  {utterance.text}")
    with open(output, "wb") as file:
        import wave

        with wave.open(file) as wav:
            wav.setnchannels(1), wav.setsampwidth(2), wav.setframerate(voice.sample_rate)
            wav.writeframes(samples)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
