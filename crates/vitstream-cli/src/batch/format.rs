//! The files' formats.

use anyhow::{Result, anyhow};
use flacenc::component::BitRepr as _;
use flacenc::error::Verify as _;
use flacenc::{bitsink, config, source};
use vitstream::wav;

/// The format of a file. Both have the same samples.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Wav,
    Flac,
}

impl Format {
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Wav => "wav",
            Self::Flac => "flac",
        }
    }

    /// Encodes a file.
    pub(super) fn encode(self, samples: &[f32], sample_rate: u32) -> Result<Vec<u8>> {
        let pcm = wav::s16le(samples);
        match self {
            Self::Wav => {
                let mut bytes = wav::header(sample_rate, Some(samples.len() as u64)).to_vec();
                bytes.extend(pcm);
                Ok(bytes)
            }
            Self::Flac => flac(&pcm, sample_rate),
        }
    }
}

fn flac(pcm: &[u8], sample_rate: u32) -> Result<Vec<u8>> {
    let samples: Vec<i32> =
        pcm.chunks_exact(2).map(|pair| i32::from(i16::from_le_bytes([pair[0], pair[1]]))).collect();
    let config = config::Encoder::default().into_verified().map_err(|(_, error)| anyhow!("FLAC: {error}"))?;
    let source = source::MemSource::from_samples(&samples, 1, 16, sample_rate as usize);
    let mut stream = flacenc::encode_with_fixed_block_size(&config, source, config.block_size)
        .map_err(|error| anyhow!("FLAC: {error}"))?;
    // The last block may be smaller than the format's minimum, so it does not count.
    let sizes = stream.stream_info_mut().set_block_sizes(config.block_size, config.block_size);
    sizes.map_err(|error| anyhow!("FLAC: {error}"))?;
    let mut sink = bitsink::ByteSink::new();
    stream.write(&mut sink).map_err(|error| anyhow!("FLAC: {error:?}"))?;
    Ok(sink.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_give_back_the_same_samples() {
        for (count, rate) in
            [(1, 22_050), (15, 16_000), (4_095, 8_000), (4_096, 16_000), (4_097, 11_025), (10_001, 44_100)]
        {
            let samples: Vec<f32> = (0..count).map(|i| (i as f32 * 0.05).sin() * 1.1).collect();
            let bytes = Format::Wav.encode(&samples, rate).unwrap();
            let mut wav = hound::WavReader::new(&bytes[..]).unwrap();
            let expected: Vec<i32> = wav.samples::<i32>().map(Result::unwrap).collect();
            let bytes = Format::Flac.encode(&samples, rate).unwrap();
            let mut flac = claxon::FlacReader::new(&bytes[..]).unwrap();
            assert_eq!((flac.streaminfo().sample_rate, flac.streaminfo().channels), (rate, 1));
            assert_eq!(flac.streaminfo().samples, Some(count));
            assert_eq!(flac.samples().map(Result::unwrap).collect::<Vec<_>>(), expected, "{count} samples");
        }
    }
}
