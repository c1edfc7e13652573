//! Plots the time when audio was ready against its position.

use std::path::Path;

use anyhow::{Context, Result};
use plotters::prelude::*;
use vitstream::staging;

use super::worker::Spoken;

/// Colours that contrast with white and with each other, also for people with impaired colour vision.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 90, 160),
    RGBColor(190, 75, 0),
    RGBColor(0, 120, 85),
    RGBColor(150, 60, 120),
    RGBColor(50, 50, 50),
    RGBColor(125, 80, 20),
    RGBColor(90, 70, 190),
    RGBColor(170, 20, 50),
];

/// The explanation of the dashed lines, below the names of the others.
const DASHES: &str =
    "dashed: the pace of a player that begins with the first chunk; a point above its line came too late";

const WIDTH: u32 = 960;
const CHART_HEIGHT: u32 = 560;
const ROW_HEIGHT: u32 = 22;
const MARGIN: i32 = 16;

/// Draws each line's chunks as points (position in the audio, time when ready), and as a dashed line the pace
/// of a player that begins with the first chunk: a point above its line came too late.
pub(super) fn draw(path: &Path, lines: &[(String, &Spoken)]) -> Result<()> {
    let mut svg = String::new();
    render(&mut svg, lines).map_err(|error| anyhow::anyhow!("{error}")).context("drawing the plot")?;
    Ok(staging::write(path, svg.as_bytes())?)
}

fn render(svg: &mut String, lines: &[(String, &Spoken)]) -> Result<(), Box<dyn std::error::Error>> {
    let audio = lines.iter().map(|(_, spoken)| spoken.audio()).fold(0.1, f64::max);
    let ready = lines.iter().map(|(_, spoken)| spoken.total()).fold(0.0, f64::max) * 1.1;
    // The legend is below the chart, where no line can cross it.
    let rows = u32::try_from(lines.len())? + 1;
    let height = CHART_HEIGHT + rows * ROW_HEIGHT + MARGIN as u32;
    let root = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let (above, legend) = root.split_vertically(CHART_HEIGHT);
    let mut chart = ChartBuilder::on(&above)
        .margin(MARGIN)
        .caption("Audio ready against audio played", ("sans-serif", 20))
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..audio, 0.0..ready)?;
    chart.configure_mesh().x_desc("position in the audio, seconds").y_desc("ready after, seconds").draw()?;
    let text = ("sans-serif", 14).into_font();
    for (i, (label, spoken)) in lines.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let points = spoken.timeline();
        chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
        chart.draw_series(points.iter().map(|&point| Circle::new(point, 3, colour.filled())))?;
        // Only as far as the plot reaches: playing takes much longer than computing.
        let first = spoken.first_audio();
        let end = (ready - first).clamp(0.0, audio);
        chart.draw_series(DashedLineSeries::new([(0.0, first), (end, first + end)], 4, 4, colour.into()))?;

        let y = (i as u32 * ROW_HEIGHT) as i32 + MARGIN;
        legend.draw(&PathElement::new([(56, y), (96, y)], colour.stroke_width(2)))?;
        legend.draw(&Circle::new((76, y), 3, colour.filled()))?;
        legend.draw(&Text::new(label.as_str(), (106, y - 7), text.clone()))?;
    }
    let y = (lines.len() as u32 * ROW_HEIGHT) as i32 + MARGIN;
    for start in (56..96).step_by(8) {
        legend.draw(&PathElement::new([(start, y), (start + 4, y)], BLACK))?;
    }
    legend.draw(&Text::new(DASHES, (106, y - 7), text))?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The contrast to white by the Web Content Accessibility Guidelines, which require 3 for graphics.
    fn contrast_to_white(RGBColor(r, g, b): RGBColor) -> f64 {
        let linear = |channel: u8| {
            let value = f64::from(channel) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        1.05 / (0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b) + 0.05)
    }

    #[test]
    fn every_colour_stands_out_from_white() {
        assert!((contrast_to_white(RGBColor(0, 0, 0)) - 21.0).abs() < 1e-9);
        for colour in COLOURS {
            assert!(contrast_to_white(colour) >= 4.5, "{colour:?}: {}", contrast_to_white(colour));
        }
    }
}
