//! When audio was ready, against when it plays.

use std::path::Path;

use anyhow::{Context, Result};
use plotters::prelude::*;

use super::worker::Spoken;

/// Draws each line's chunks as points (place in the audio, time it was ready), and as a dashed line what a player that
/// begins with the first chunk needs: a point above its line came too late.
pub(super) fn draw(path: &Path, lines: &[(String, &Spoken)]) -> Result<()> {
    let mut svg = String::new();
    render(&mut svg, lines).map_err(|error| anyhow::anyhow!("{error}")).context("drawing the plot")?;
    super::write_beside(path, svg.as_bytes()).with_context(|| path.display().to_string())
}

fn render(svg: &mut String, lines: &[(String, &Spoken)]) -> Result<(), Box<dyn std::error::Error>> {
    let audio = lines.iter().map(|(_, spoken)| spoken.audio()).fold(0.1, f64::max);
    let ready = lines.iter().map(|(_, spoken)| spoken.total()).fold(0.0, f64::max) * 1.1;
    let root = SVGBackend::with_string(svg, (960, 600)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .caption("Audio ready against audio played", ("sans-serif", 20))
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..audio, 0.0..ready)?;
    chart.configure_mesh().x_desc("place in the audio, seconds").y_desc("ready after, seconds").draw()?;
    for (i, (label, spoken)) in lines.iter().enumerate() {
        let colour = Palette99::pick(i).to_rgba();
        let points = spoken.timeline();
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(label.clone())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
        chart.draw_series(points.iter().map(|&point| Circle::new(point, 3, colour.filled())))?;
        // Only as far as the plot reaches: playing is far slower than computing.
        let first = spoken.first_audio();
        let end = (ready - first).clamp(0.0, audio);
        chart.draw_series(DashedLineSeries::new(
            [(0.0, first), (end, first + end)],
            4,
            4,
            colour.mix(0.5).into(),
        ))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    root.present()?;
    Ok(())
}
