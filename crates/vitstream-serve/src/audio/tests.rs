use super::*;

/// A signal similar to speech: a changing tone, and silence.
fn sound(rate: u32, count: usize) -> Vec<f32> {
    let at = |i: usize| {
        let t = i as f32 / rate as f32;
        let loud = if (t * 3.0).fract() < 0.8 { 0.5 } else { 0.0 };
        loud * (t * std::f32::consts::TAU * (200.0 + 40.0 * (t * 5.0).sin())).sin()
    };
    (0..count).map(at).collect()
}

fn encoded(format: Format, from: u32, to: u32, samples: &[f32], piece: usize) -> Vec<u8> {
    let mut output = Output::new(format, from, to).unwrap();
    let mut bytes = Vec::new();
    for chunk in samples.chunks(piece.max(1)) {
        bytes.extend(output.push(chunk).unwrap());
    }
    bytes.extend(output.finish().unwrap());
    bytes
}

#[test]
fn every_format_is_the_same_however_it_is_cut() {
    for (_, format) in Format::ALL {
        for from in [16_000, 22_050] {
            let to = format.default_rate(from);
            for count in [0, 1, 500, 1_024, 4_097, 30_000] {
                let samples = sound(from, count);
                let whole = encoded(format, from, to, &samples, count);
                for piece in [1, 700, 4_096] {
                    let cut = encoded(format, from, to, &samples, piece);
                    assert!(cut == whole, "{format} from {from}, {count} samples in pieces of {piece}");
                }
            }
        }
    }
}

#[test]
fn what_is_not_compressed_is_as_long_as_it_was() {
    for to in [8_000, 16_000, 22_050, 24_000, 44_100, 48_000] {
        for count in [0, 1, 1_000, 22_050] {
            let samples = sound(22_050, count);
            let expected = (count as f64 * f64::from(to) / 22_050.0).round() as usize;
            assert_eq!(encoded(Format::Pcm, 22_050, to, &samples, 333).len(), expected * 2);
            assert_eq!(encoded(Format::Ulaw, 22_050, to, &samples, 333).len(), expected);
            assert_eq!(encoded(Format::Wav, 22_050, to, &samples, 333).len(), expected * 2 + wav::HEADER_LEN);
        }
    }
}

/// The difference between two signals relative to the first one's loudness, at the best of several delays.
fn distance(expected: &[f32], found: &[f32], delays: std::ops::Range<usize>) -> f32 {
    let power = |samples: &[f32]| samples.iter().map(|s| s * s).sum::<f32>();
    let at = |delay: usize| {
        let found = found.get(delay..).unwrap_or_default();
        let difference: Vec<f32> = expected.iter().zip(found).map(|(a, b)| a - b).collect();
        (power(&difference) / power(expected)).sqrt()
    };
    delays.map(at).fold(f32::INFINITY, f32::min)
}

#[test]
fn flac_gives_back_the_samples() {
    for count in [1, 4_095, 4_096, 4_097, 12_345] {
        let samples = sound(22_050, count);
        let bytes = encoded(Format::Flac, 22_050, 22_050, &samples, 777);
        let mut flac = claxon::FlacReader::new(&bytes[..]).unwrap();
        assert_eq!((flac.streaminfo().sample_rate, flac.streaminfo().channels), (22_050, 1));
        let found: Vec<i32> = flac.samples().map(Result::unwrap).collect();
        let expected: Vec<i32> = samples.iter().map(|&sample| i32::from(to_i16(sample))).collect();
        assert_eq!(found, expected, "{count} samples");
    }
}

#[test]
fn opus_gives_back_the_sound() {
    for rate in opus::RATES {
        let count = rate as usize + 123;
        let samples = sound(rate, count);
        let bytes = encoded(Format::Opus, rate, rate, &samples, 999);
        let mut reader = opus_pure::OggOpusReader::new(&bytes[..]).unwrap();
        let mut decoder = reader.head().decoder(rate as i32).unwrap();
        let mut trim = opus_pure::Trim::new(reader.head(), rate as i32, 1).unwrap();
        let mut block = vec![0.0; opus_pure::MAX_PACKET_SAMPLES];
        let mut found = Vec::new();
        for packet in reader.packets() {
            let packet = packet.unwrap();
            let n = decoder.decode(&packet.data, opus_pure::MAX_PACKET_SAMPLES, &mut block).unwrap();
            found.extend_from_slice(trim.keep(&packet, &block[..n]));
        }
        assert_eq!(found.len(), count, "{rate} hertz");
        let distance = distance(&samples, &found, 0..1);
        assert!(distance < 0.3, "{rate} hertz: {distance}");
    }
}

#[test]
fn mp3_gives_back_the_sound_and_does_not_hold_it() {
    for rate in mp3::RATES {
        let count = rate as usize;
        let samples = sound(rate, count);
        let bytes = encoded(Format::Mp3, rate, rate, &samples, 999);
        let mut decoder = rusty_mp3::Mp3Decoder::new();
        decoder.push(&bytes);
        decoder.flush();
        let mut found = Vec::new();
        while let Ok(frame) = decoder.next_frame() {
            assert_eq!(frame.sample_rate, rate);
            found.extend_from_slice(&frame.samples);
        }
        // The codec's own delay precedes it.
        assert!((count..count + 4_000).contains(&found.len()), "{rate} hertz: {} of {count}", found.len());
        let distance = distance(&samples, &found, 0..3_000);
        assert!(distance < 0.4, "{rate} hertz: {distance}");

        let mut output = Output::new(Format::Mp3, rate, rate).unwrap();
        let early = output.push(&samples[..2_000]).unwrap();
        assert!(!early.is_empty(), "{rate} hertz: nothing after 2,000 samples");
    }
}

#[test]
fn names_and_rates_that_are_not_known_are_refused() {
    for (name, format) in Format::ALL {
        assert_eq!(Format::by_name(name).unwrap(), format);
        assert_eq!(format.to_string(), name);
        format.check_rate(format.default_rate(22_050)).unwrap();
        for rate in [0, 7_999, 48_001, u32::MAX] {
            assert!(format.check_rate(rate).is_err() && Output::new(format, 22_050, rate).is_err());
        }
    }
    let error = Format::by_name("aac").unwrap_err().to_string();
    assert!(error.contains("wav, pcm, ulaw, flac, mp3, opus"), "{error}");
    assert!(Format::Opus.check_rate(22_050).is_err());
}
