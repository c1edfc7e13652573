//! WAV, 16-bit mono. The header is written here because a stream's length is unknown at its start: [`header`]
//! then takes `None`, and a file's header is patched at the end.

/// Length of [`header`] in bytes.
pub const HEADER_LEN: usize = 44;

/// The header of a 16-bit mono file of `samples` samples. For `None`, and for more samples than the format's
/// 32 bits can express, both sizes are the maximum, which players interpret as "until the end".
pub fn header(sample_rate: u32, samples: Option<u64>) -> [u8; HEADER_LEN] {
    let data = samples.and_then(|samples| samples.checked_mul(2)).and_then(|bytes| u32::try_from(bytes).ok());
    let riff = data.and_then(|data| data.checked_add(HEADER_LEN as u32 - 8));
    let (data, riff) = data.zip(riff).unwrap_or((u32::MAX, u32::MAX));
    let mut header = [0; HEADER_LEN];
    let fields: [&[u8]; 13] = [
        b"RIFF",
        &riff.to_le_bytes(),
        b"WAVE",
        b"fmt ",
        &16u32.to_le_bytes(),
        &1u16.to_le_bytes(),
        &1u16.to_le_bytes(),
        &sample_rate.to_le_bytes(),
        &sample_rate.saturating_mul(2).to_le_bytes(),
        &2u16.to_le_bytes(),
        &16u16.to_le_bytes(),
        b"data",
        &data.to_le_bytes(),
    ];
    let mut at = 0;
    for field in fields {
        header[at..at + field.len()].copy_from_slice(field);
        at += field.len();
    }
    header
}

/// `samples` as signed 16-bit little-endian bytes. Values beyond -1 and 1 are clipped.
pub fn s16le(samples: &[f32]) -> Vec<u8> {
    samples.iter().flat_map(|&sample| ((sample * 32_767.0).round() as i16).to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn a_reader_of_wav_agrees() {
        let mut bytes = header(22_050, Some(4)).to_vec();
        bytes.extend(s16le(&[0.0, 1.0, -2.0, f32::NAN]));
        let mut reader = hound::WavReader::new(Cursor::new(bytes)).unwrap();
        assert_eq!(reader.spec().sample_rate, 22_050);
        assert_eq!(reader.samples::<i16>().map(Result::unwrap).collect::<Vec<_>>(), [0, 32_767, -32_768, 0]);
    }

    #[test]
    fn unknown_and_enormous_lengths_are_the_largest() {
        for samples in [None, Some(u64::MAX), Some(u64::from(u32::MAX) / 2)] {
            let header = header(22_050, samples);
            assert_eq!([&header[4..8], &header[40..]], [[0xff; 4], [0xff; 4]]);
        }
    }
}
