"""Configuration of voices and of speaking, under piper-tts's names."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Dict, Mapping, Optional, Sequence, Set, Tuple

DEFAULT_NOISE_SCALE = 0.667
DEFAULT_LENGTH_SCALE = 1.0
DEFAULT_NOISE_W_SCALE = 0.8
DEFAULT_HOP_LENGTH = 256


class PhonemeType(str, Enum):
    """The kind of a voice's phonemes. ``vitstream`` reads text for the first two; for the others it accepts phonemes and ids."""

    ESPEAK = "espeak"
    TEXT = "text"
    PINYIN = "pinyin"
    HEBREW = "hebrew"
    JAPANESE = "japanese"
    THAI = "thai"


@dataclass
class PiperConfig:
    """A voice's JSON."""

    num_symbols: int
    num_speakers: int
    sample_rate: int
    espeak_voice: str
    phoneme_id_map: Mapping[str, Sequence[int]]
    phoneme_type: PhonemeType
    speaker_id_map: Mapping[str, int] = field(default_factory=dict)
    piper_version: Optional[str] = None
    length_scale: float = DEFAULT_LENGTH_SCALE
    noise_scale: float = DEFAULT_NOISE_SCALE
    noise_w_scale: float = DEFAULT_NOISE_W_SCALE
    hop_length: int = DEFAULT_HOP_LENGTH
    vowel_clusters: Optional[Set[Tuple[str, ...]]] = None
    default_speaker_id: int = 0

    @staticmethod
    def from_dict(config: Dict[str, Any]) -> "PiperConfig":
        """Creates the configuration from a voice's JSON.

        Raises:
            KeyError: if a required field is missing.
        """
        scales = config.get("inference", {})
        clusters = config.get("vowel_clusters")
        return PiperConfig(
            num_symbols=config["num_symbols"],
            num_speakers=config["num_speakers"],
            sample_rate=config["audio"]["sample_rate"],
            espeak_voice=config["espeak"]["voice"],
            phoneme_id_map=config["phoneme_id_map"],
            phoneme_type=PhonemeType(config.get("phoneme_type", PhonemeType.ESPEAK)),
            speaker_id_map=config.get("speaker_id_map", {}),
            piper_version=config.get("piper_version"),
            length_scale=scales.get("length_scale", DEFAULT_LENGTH_SCALE),
            noise_scale=scales.get("noise_scale", DEFAULT_NOISE_SCALE),
            noise_w_scale=scales.get("noise_w", DEFAULT_NOISE_W_SCALE),
            hop_length=config.get("hop_length", DEFAULT_HOP_LENGTH),
            vowel_clusters={tuple(cluster) for cluster in clusters} if clusters else None,
            default_speaker_id=config.get("default_speaker_id", 0),
        )

    def to_dict(self) -> Dict[str, Any]:
        """Converts the configuration back to a voice's JSON."""
        scales = {"noise_scale": self.noise_scale, "length_scale": self.length_scale, "noise_w": self.noise_w_scale}
        config: Dict[str, Any] = {
            "audio": {"sample_rate": self.sample_rate},
            "espeak": {"voice": self.espeak_voice},
            "phoneme_type": self.phoneme_type.value,
            "num_symbols": self.num_symbols,
            "num_speakers": self.num_speakers,
            "inference": scales,
            "phoneme_id_map": self.phoneme_id_map,
            "speaker_id_map": self.speaker_id_map,
            "hop_length": self.hop_length,
            "default_speaker_id": self.default_speaker_id,
        }
        if self.piper_version:
            config["piper_version"] = self.piper_version
        if self.vowel_clusters:
            config["vowel_clusters"] = sorted(list(cluster) for cluster in self.vowel_clusters)
        return config


@dataclass
class SynthesisConfig:
    """Options for speaking; ``None`` selects the default of the voice's JSON."""

    speaker_id: Optional[int] = None
    length_scale: Optional[float] = None
    noise_scale: Optional[float] = None
    noise_w_scale: Optional[float] = None
    normalize_audio: bool = True
    """Scale each sentence so that its loudest sample is at full scale."""
    volume: float = 1.0
    """Factor for all samples, applied after that."""
