//! ITU-T G.711, mu-law: one byte per sample, with finer steps at low levels.

/// Added before the exponent is taken, so that every segment has sixteen steps.
const BIAS: i32 = 0x84;

/// Louder samples are clipped.
const LOUDEST: i32 = 32_635;

/// Encodes one sample.
pub(super) fn encode(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = i32::from(sample).abs().min(LOUDEST) + BIAS;
    // The highest bit that is set is between 7 and 14.
    let exponent = magnitude.ilog2() - 7;
    let mantissa = (magnitude >> (exponent + 3)) & 0x0f;
    // All bits are inverted in transmission.
    !(sign | (exponent as u8) << 4 | mantissa as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The inverse as defined by G.711.
    fn decode(byte: u8) -> i32 {
        let byte = !byte;
        let magnitude = ((i32::from(byte & 0x0f) << 3) + BIAS) << ((byte >> 4) & 7);
        if byte & 0x80 == 0 { magnitude - BIAS } else { BIAS - magnitude }
    }

    #[test]
    fn every_sample_comes_back_within_its_step() {
        for sample in i16::MIN..=i16::MAX {
            let found = decode(encode(sample));
            let sample = i32::from(sample).clamp(-LOUDEST, LOUDEST);
            // Half of a step: a thirty-second of the segment.
            let step = ((sample.abs() + BIAS) / 32).max(4);
            assert!((found - sample).abs() <= step, "{sample}: {found}");
        }
    }

    #[test]
    fn known_values() {
        // From the tables of G.711.
        assert_eq!([0, 32_767, -32_768, 8, -8].map(encode), [0xff, 0x80, 0x00, 0xfe, 0x7e]);
    }

    #[test]
    fn every_byte_comes_back() {
        for byte in 0..=u8::MAX {
            let sample = decode(byte) as i16;
            // There are two zeros, of which only one is sent.
            assert!(encode(sample) == byte || sample == 0, "{byte}");
        }
    }
}
