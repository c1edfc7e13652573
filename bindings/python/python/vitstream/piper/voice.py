"""A voice that speaks sentence by sentence, under piper-tts's names."""

from __future__ import annotations

import logging
import unicodedata
import wave
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

from .. import Voice, _errors
from .config import PhonemeType, PiperConfig, SynthesisConfig
from .const import BOS, EOS, PAD

if TYPE_CHECKING:
    import numpy

_LOGGER = logging.getLogger(__name__)

#: Full scale of 16 bits.
_FULL_SCALE = 32767.0

#: A quieter sentence counts as silence and is not amplified.
_SILENCE = 1e-8


def _numpy() -> Any:
    try:
        import numpy
    except ImportError as error:
        raise ImportError(
            "vitstream.piper gives arrays, as piper-tts does, and needs numpy for them: pip install numpy"
        ) from error
    return numpy


@dataclass
class PhonemeAlignment:
    """A phoneme, its ids, and its number of samples."""

    phoneme: str
    phoneme_ids: Sequence[int]
    num_samples: int


@dataclass
class AudioChunk:
    """The audio of one sentence: float32 from -1 to 1, shape ``[samples]``."""

    sample_rate: int
    """Sample rate in hertz."""
    sample_width: int
    """Bytes per sample of ``audio_int16_bytes``."""
    sample_channels: int
    audio_float_array: "numpy.ndarray"
    phonemes: List[str]
    phoneme_ids: List[int]
    phoneme_id_samples: Optional["numpy.ndarray"] = None
    """Number of samples of each id, int64; only with ``include_alignments``."""
    phoneme_alignments: Optional[List[PhonemeAlignment]] = None
    """Number of samples of each phoneme; only with ``include_alignments``."""
    _audio_int16_array: Optional["numpy.ndarray"] = field(default=None, repr=False, compare=False)
    _audio_int16_bytes: Optional[bytes] = field(default=None, repr=False, compare=False)

    @property
    def audio_int16_array(self) -> "numpy.ndarray":
        """The samples as int16: multiplied by 32767, clipped and truncated."""
        if self._audio_int16_array is None:
            scaled = self.audio_float_array * _numpy().float32(_FULL_SCALE)
            self._audio_int16_array = scaled.clip(-_FULL_SCALE, _FULL_SCALE).astype("int16")
        return self._audio_int16_array

    @property
    def audio_int16_bytes(self) -> bytes:
        """The same as little-endian bytes."""
        if self._audio_int16_bytes is None:
            self._audio_int16_bytes = self.audio_int16_array.astype("<i2").tobytes()
        return self._audio_int16_bytes


@dataclass
class PiperVoice:
    """A voice. ``session`` is a ``vitstream.Voice``, or an ONNX Runtime session, whose model is opened as a voice."""

    session: Any
    config: PiperConfig
    espeak_data_dir: Optional[Path] = None
    """Has no effect: the environment variable ``VITSTREAM_ESPEAK`` selects the library of espeak-ng and its data."""
    download_dir: Path = field(default_factory=Path.cwd)
    use_tashkeel: bool = True
    """Has no effect: Arabic text without vowel signs is refused, because ``tashkeel`` is not part of vitstream."""
    tashkeel_diacritizier: Optional[Any] = None
    taskeen_threshold: Optional[float] = 0.8

    def __post_init__(self) -> None:
        self._voice = _opened(self.session)

    @staticmethod
    def load(
        model_path: Union[str, Path],
        config_path: Optional[Union[str, Path]] = None,
        use_cuda: bool = False,
        espeak_data_dir: Optional[Union[str, Path]] = None,
        download_dir: Optional[Union[str, Path]] = None,
        include_alignments: bool = False,
    ) -> "PiperVoice":
        """Opens a voice: its ``.onnx`` with the JSON next to it, or anything else that ``vitstream.Voice.open`` opens.

        ``use_cuda`` and ``include_alignments`` have no effect: everything is computed on the CPU, and every voice
        provides alignments.

        Raises:
            vitstream.Error: if the voice cannot be read; a missing file is a ``FileError``, which is an ``OSError``.
            KeyError: if a field that every Piper voice has is missing in its JSON.
        """
        if use_cuda:
            _LOGGER.warning("use_cuda has no effect: vitstream computes on the CPU")
        if espeak_data_dir is not None:
            _LOGGER.warning("espeak_data_dir has no effect: VITSTREAM_ESPEAK=LIBRARY:DATA selects espeak-ng and its data")
        voice = Voice.open(model_path, config=config_path)
        config = voice.config
        if not config:
            raise _errors.made(
                "request",
                f"{model_path}: there is no JSON next to it that describes its phonemes",
                str(model_path),
                "name it with config_path=",
            )
        return PiperVoice(
            session=voice,
            config=PiperConfig.from_dict(config),
            espeak_data_dir=None if espeak_data_dir is None else Path(espeak_data_dir),
            download_dir=Path.cwd() if download_dir is None else Path(download_dir),
        )

    def phonemize(self, text: str) -> List[List[str]]:
        """Returns the phonemes of each sentence.

        Raises:
            vitstream.UnsupportedError: if vitstream cannot read text for this kind of phonemes.
            vitstream.PhonemizerError: if espeak-ng is missing.
        """
        if self.config.phoneme_type == PhonemeType.TEXT:
            return [list(unicodedata.normalize("NFD", text))]
        return [sentence.phonemes for sentence in self._voice.phonemize(text)]

    def phonemes_to_ids(self, phonemes: List[str]) -> List[int]:
        """Returns the ids of phonemes; phonemes without an id are omitted, and logged."""
        ids, missing = self._voice._native.encode(list(phonemes), False)
        for phoneme in missing:
            _LOGGER.warning("the voice has no id for %r: omitted", phoneme)
        return ids

    def synthesize(
        self, text: str, syn_config: Optional[SynthesisConfig] = None, include_alignments: bool = False
    ) -> Iterable[AudioChunk]:
        """Speaks a text, sentence by sentence.

        Raises:
            vitstream.Error: as ``phonemize``, and if ``syn_config`` is not valid for this voice.
        """
        syn_config = syn_config or SynthesisConfig()
        np = _numpy()
        for phonemes in self.phonemize(text):
            if not phonemes:
                continue
            ids = self.phonemes_to_ids(phonemes)
            samples, durations = self._spoken(ids, syn_config)
            if syn_config.normalize_audio:
                peak = np.abs(samples).max(initial=0.0)
                samples = np.zeros_like(samples) if peak < _SILENCE else samples / peak
            if syn_config.volume != 1.0:
                samples = samples * np.float32(syn_config.volume)
            chunk = AudioChunk(
                sample_rate=self.config.sample_rate,
                sample_width=2,
                sample_channels=1,
                audio_float_array=samples.clip(-1.0, 1.0).astype(np.float32, copy=False),
                phonemes=phonemes,
                phoneme_ids=ids,
            )
            if include_alignments and durations is not None:
                chunk.phoneme_id_samples = durations
                chunk.phoneme_alignments = self._aligned(phonemes, ids, durations)
            yield chunk

    def synthesize_wav(
        self,
        text: str,
        wav_file: wave.Wave_write,
        syn_config: Optional[SynthesisConfig] = None,
        set_wav_format: bool = True,
        include_alignments: bool = False,
    ) -> Optional[List[PhonemeAlignment]]:
        """Speaks a text into a WAV file; returns the alignments of all sentences if they are requested."""
        alignments: List[PhonemeAlignment] = []
        for chunk in self.synthesize(text, syn_config, include_alignments):
            if set_wav_format:
                wav_file.setframerate(chunk.sample_rate)
                wav_file.setsampwidth(chunk.sample_width)
                wav_file.setnchannels(chunk.sample_channels)
                set_wav_format = False
            wav_file.writeframes(chunk.audio_int16_bytes)
            alignments.extend(chunk.phoneme_alignments or ())
        return alignments if include_alignments else None

    def phoneme_ids_to_audio(
        self, phoneme_ids: List[int], syn_config: Optional[SynthesisConfig] = None, include_alignments: bool = False
    ) -> Union["numpy.ndarray", Tuple["numpy.ndarray", Optional["numpy.ndarray"]]]:
        """Speaks ids: returns float32 samples as computed by the network, neither normalised nor scaled; with
        ``include_alignments`` also the number of samples of each id.
        """
        samples, durations = self._spoken(phoneme_ids, syn_config or SynthesisConfig())
        return (samples, durations) if include_alignments else samples

    def _spoken(
        self, ids: List[int], how: SynthesisConfig
    ) -> Tuple["numpy.ndarray", Optional["numpy.ndarray"]]:
        def given(asked: Optional[float], usual: float) -> float:
            return usual if asked is None else asked

        np = _numpy()
        config = self.config
        speaker = how.speaker_id
        if speaker is None and config.num_speakers > 1:
            speaker = config.default_speaker_id
        audio = self._voice.synthesize(
            ids=ids,
            # A voice with one speaker takes no speaker id.
            speaker=speaker if config.num_speakers > 1 else None,
            length_scale=given(how.length_scale, config.length_scale),
            noise_scale=given(how.noise_scale, config.noise_scale),
            noise_w=given(how.noise_w_scale, config.noise_w_scale),
        )
        durations = audio.utterances[0].durations
        return np.array(audio, dtype=np.float32), None if durations is None else np.array(durations, dtype=np.int64)

    def _aligned(
        self, phonemes: List[str], ids: List[int], durations: "numpy.ndarray"
    ) -> Optional[List[PhonemeAlignment]]:
        """Assigns the ids to the phonemes; phonemes without an id have none."""
        of: Mapping[str, Sequence[int]] = self.config.phoneme_id_map
        alignments = []
        at = 0
        for phoneme in (BOS, *phonemes, EOS):
            if phoneme not in of:
                continue
            known = list(of[phoneme])
            if ids[at : at + len(known)] != known:
                return None
            end = at + len(known)
            pad = list(of.get(PAD, ()))
            if pad and phoneme != EOS and ids[end : end + len(pad)] == pad:
                end += len(pad)
            alignments.append(PhonemeAlignment(phoneme, ids[at:end], durations[at:end].sum()))
            at = end
        return alignments if at == len(ids) else None


def _opened(session: Any) -> Voice:
    if isinstance(session, Voice):
        return session
    # A session of ONNX Runtime has the path of its model.
    source = getattr(session, "_model_path", None) or getattr(session, "_model_bytes", None)
    if not source:
        raise TypeError(f"session: expected a vitstream.Voice or an ONNX Runtime session, found {type(session).__name__}")
    # The caller has read the JSON already; only the network is read from the file.
    return Voice.open(source)
