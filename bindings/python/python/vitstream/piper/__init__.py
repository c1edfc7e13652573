"""The classes of ``piper-tts`` 1.8.0 under their names: ``from vitstream.piper import PiperVoice``.

A sentence at a time, normalised, as they are there. What needs no whole sentence is better served by ``vitstream.Voice``, whose
``stream`` gives the first samples of a sentence while the rest is computed.
"""

from .config import PhonemeType, PiperConfig, SynthesisConfig
from .voice import AudioChunk, PhonemeAlignment, PiperVoice

__all__ = ["AudioChunk", "PhonemeAlignment", "PhonemeType", "PiperConfig", "PiperVoice", "SynthesisConfig"]
