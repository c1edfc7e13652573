//! Audio as pictures: waveforms as SVG, spectrograms as PNG.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::spectrum::{BINS, FLOOR, spectrogram};

/// Width of a picture in points.
pub(super) const WIDTH: usize = 800;
/// Height of a waveform, in units of the picture.
pub(super) const WAVE_HEIGHT: usize = 90;

/// The outline of `samples` as the `d` of an SVG path, [`WIDTH`] by [`WAVE_HEIGHT`]: the minimum and the
/// maximum at every point. Samples of magnitude `scale` reach the edges.
pub(super) fn outline(samples: &[f32], scale: f32) -> String {
    let middle = WAVE_HEIGHT as f32 / 2.0;
    let y = |sample: f32| {
        let sample = if sample.is_finite() { (sample / scale).clamp(-1.0, 1.0) } else { 0.0 };
        middle - sample * (middle - 1.0)
    };
    let step = samples.len().div_ceil(WIDTH).max(1);
    let columns: Vec<(f32, f32)> = samples
        .chunks(step)
        .map(|part| {
            let low = part.iter().copied().fold(f32::INFINITY, f32::min);
            let high = part.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            // A line if the area would be empty.
            (y(high) - 0.3, y(low) + 0.3)
        })
        .collect();
    let across = |at: usize| at as f32 * WIDTH as f32 / columns.len().max(2).saturating_sub(1) as f32;
    let mut path = String::new();
    let there = columns.iter().enumerate().map(|(at, &(high, _))| (at, high));
    let back = columns.iter().enumerate().rev().map(|(at, &(_, low))| (at, low));
    for (i, (at, y)) in there.chain(back).enumerate() {
        let _ = write!(path, "{}{:.1} {y:.1}", if i == 0 { 'M' } else { 'L' }, across(at));
    }
    if !path.is_empty() {
        path.push('Z');
    }
    path
}

/// The spectrogram of `samples` as a `data:` URI of a PNG, with high frequencies at the top; [`LEGEND`]
/// explains the colours.
pub(super) fn spectrogram_uri(samples: &[f32]) -> Option<String> {
    let hop = samples.len().div_ceil(WIDTH).max(1);
    let levels = spectrogram(samples, hop);
    let width = levels.len() / BINS;
    // Two bins per pixel: the picture is never shown higher than that.
    let height = BINS / 2;
    let mut pixels = Vec::with_capacity(width * height);
    for row in (0..height).rev() {
        for column in 0..width {
            let level = levels[column * BINS + 2 * row].max(levels[column * BINS + 2 * row + 1]);
            pixels.push(((level - FLOOR) / -FLOOR * 255.0).round().clamp(0.0, 255.0) as u8);
        }
    }
    png(width, height, &pixels)
}

/// The colours from silence to full scale.
pub(super) fn legend_uri() -> Option<String> {
    png(256, 1, &(0..=255).collect::<Vec<u8>>())
}

fn png(width: usize, height: usize, pixels: &[u8]) -> Option<String> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, u32::try_from(width).ok()?, u32::try_from(height).ok()?);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(palette());
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(pixels).ok()?;
    writer.finish().ok()?;
    Some(uri("image/png", &bytes))
}

pub(super) fn uri(kind: &str, bytes: &[u8]) -> String {
    format!("data:{kind};base64,{}", STANDARD.encode(bytes))
}

/// 256 colours from dark to bright, through points at perceptually even distances.
fn palette() -> Vec<u8> {
    const POINTS: [[f64; 3]; 6] = [
        [8.0, 8.0, 24.0],
        [52.0, 20.0, 96.0],
        [134.0, 34.0, 112.0],
        [214.0, 70.0, 78.0],
        [250.0, 156.0, 62.0],
        [252.0, 250.0, 190.0],
    ];
    let colour = |i: usize| {
        let at = i as f64 / 255.0 * (POINTS.len() - 1) as f64;
        let from = (at as usize).min(POINTS.len() - 2);
        let part = at - from as f64;
        (0..3).map(move |c| (POINTS[from][c] + part * (POINTS[from + 1][c] - POINTS[from][c])).round() as u8)
    };
    (0..256).flat_map(colour).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outline_is_as_wide_as_its_picture() {
        let path = outline(&[0.0, 1.0, -1.0, f32::NAN], 1.0);
        assert!(path.starts_with("M0.0 44.7L") && path.ends_with('Z'), "{path}");
        assert!(path.contains("L800.0 "), "{path}");
        assert_eq!(outline(&[], 1.0), "");
        assert!(outline(&vec![0.5; 100_000], 1.0).matches('L').count() < 2 * WIDTH);
    }

    #[test]
    fn a_spectrogram_is_a_png() {
        let uri = spectrogram_uri(&[0.1; 3000]).unwrap();
        let data = STANDARD.decode(uri.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(data)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (750, 256));
        assert_eq!(spectrogram_uri(&[]), None);
        assert_eq!(palette().len(), 768);
    }
}
