"""The classes of ``piper-tts`` 1.8.0 under their names: ``from vitstream.piper import PiperVoice``.

As in ``piper-tts``, audio is returned one sentence at a time and normalised. For audio before the sentence is complete use
``vitstream.Voice``, whose ``stream`` returns the first samples of a sentence while the rest is computed.
"""

from .config import PhonemeType, PiperConfig, SynthesisConfig
from .voice import AudioChunk, PhonemeAlignment, PiperVoice

__all__ = ["AudioChunk", "PhonemeAlignment", "PhonemeType", "PiperConfig", "PiperVoice", "SynthesisConfig"]
