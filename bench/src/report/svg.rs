//! Charts as SVG text.
//!
//! Owns axes, ticks and marks. Never loads anything: a chart is whole in itself, and its colours are CSS variables
//! of the page that holds it.

use std::fmt::Write;

/// How a value lies on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Even steps.
    Linear,
    /// Each step ten times the last.
    Log,
}

/// A line of points.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Its colour's number, 0 to 5.
    pub colour: usize,
    /// Dashed lines stand behind others.
    pub dashed: bool,
    /// Whether each point gets a dot.
    pub dots: bool,
    /// Its points, in order.
    pub points: Vec<(f64, f64)>,
}

/// An axis.
#[derive(Debug, Clone)]
pub struct Axis {
    /// Its name.
    pub label: String,
    /// Its scale.
    pub scale: Scale,
    /// Writes a tick's value.
    pub tick: fn(f64) -> String,
}

/// A chart.
#[derive(Debug, Clone)]
pub struct Chart {
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical one.
    pub y: Axis,
    /// Its lines.
    pub lines: Vec<Line>,
    /// A horizontal line at a value that matters, with its name.
    pub mark: Option<(f64, String)>,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 46.0;

/// A range of values on a stretch of pixels.
struct Span {
    low: f64,
    high: f64,
    scale: Scale,
    from_px: f64,
    to_px: f64,
}

impl Span {
    fn over(
        values: impl Iterator<Item = f64>,
        scale: Scale,
        from_px: f64,
        to_px: f64,
    ) -> Option<Span> {
        let usable =
            values.filter(|value| value.is_finite() && (scale == Scale::Linear || *value > 0.0));
        let (low, high) = usable.fold((f64::MAX, f64::MIN), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        if low > high {
            return None;
        }
        let (low, high) = match scale {
            Scale::Linear => (low.min(0.0), if high > low { high } else { low + 1.0 }),
            Scale::Log => {
                let (low, high) = (low.log10().floor(), high.log10().ceil());
                (
                    10f64.powf(low),
                    10f64.powf(if high > low { high } else { low + 1.0 }),
                )
            }
        };
        Some(Span {
            low,
            high,
            scale,
            from_px,
            to_px,
        })
    }

    fn px(&self, value: f64) -> Option<f64> {
        let part = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log if value > 0.0 => (value / self.low).ln() / (self.high / self.low).ln(),
            Scale::Log => return None,
        };
        part.is_finite()
            .then(|| self.from_px + (self.to_px - self.from_px) * part.clamp(0.0, 1.0))
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let raw = (self.high - self.low) / 8.0;
                let magnitude = 10f64.powf(raw.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0]
                    .map(|factor| factor * magnitude)
                    .into_iter()
                    .find(|step| *step >= raw)
                    .unwrap_or(raw);
                let count = ((self.high - self.low) / step).floor() as usize;
                (0..=count)
                    .map(|place| self.low + step * place as f64)
                    .collect()
            }
            Scale::Log => {
                let (from, to) = (
                    self.low.log10().round() as i32,
                    self.high.log10().round() as i32,
                );
                (from..=to).map(|power| 10f64.powi(power)).collect()
            }
        }
    }
}

impl Chart {
    /// The chart as an SVG element; a sentence when there is nothing to draw.
    pub fn to_svg(&self) -> String {
        let xs = self
            .lines
            .iter()
            .flat_map(|line| line.points.iter().map(|point| point.0));
        let ys = self
            .lines
            .iter()
            .flat_map(|line| line.points.iter().map(|point| point.1))
            .chain(self.mark.iter().map(|mark| mark.0));
        let (Some(x), Some(y)) = (
            Span::over(xs, self.x.scale, LEFT, WIDTH - RIGHT),
            Span::over(ys, self.y.scale, HEIGHT - BOTTOM, TOP),
        ) else {
            return "<p class=\"empty\">nothing to draw</p>".to_owned();
        };
        let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
        self.axes(&mut svg, &x, &y);
        for line in &self.lines {
            draw(&mut svg, line, &x, &y);
        }
        if let Some((value, name)) = &self.mark
            && let Some(at) = y.px(*value)
        {
            // Writing to a string cannot fail.
            let _ = write!(
                svg,
                "<line class=\"mark\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text class=\"markname\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                WIDTH - RIGHT,
                LEFT + 6.0,
                at - 4.0,
                escape(name)
            );
        }
        svg += "</svg>";
        svg + &self.legend()
    }

    fn axes(&self, svg: &mut String, x: &Span, y: &Span) {
        for value in x.ticks() {
            let Some(at) = x.px(value) else { continue };
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/><text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 16.0,
                escape(&(self.x.tick)(value))
            );
        }
        for value in y.ticks() {
            let Some(at) = y.px(value) else { continue };
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0,
                escape(&(self.y.tick)(value))
            );
        }
        let _ = write!(
            svg,
            "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text><text class=\"label\" transform=\"translate(14,{:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 8.0,
            escape(&self.x.label),
            (TOP + HEIGHT - BOTTOM) / 2.0,
            escape(&self.y.label)
        );
    }

    fn legend(&self) -> String {
        let entries: String = self
            .lines
            .iter()
            .map(|line| {
                format!(
                    "<span><i class=\"c{}{}\"></i>{}</span>",
                    line.colour % 6,
                    if line.dashed { " dashed" } else { "" },
                    escape(&line.name)
                )
            })
            .collect();
        format!("<div class=\"legend\">{entries}</div>")
    }
}

fn draw(svg: &mut String, line: &Line, x: &Span, y: &Span) {
    let places: Vec<(f64, f64)> = line
        .points
        .iter()
        .filter_map(|(px, py)| Some((x.px(*px)?, y.px(*py)?)))
        .collect();
    let path: Vec<String> = places
        .iter()
        .map(|(px, py)| format!("{px:.1},{py:.1}"))
        .collect();
    let dashed = if line.dashed { " dashed" } else { "" };
    let _ = write!(
        svg,
        "<polyline class=\"line c{}{dashed}\" points=\"{}\"/>",
        line.colour % 6,
        path.join(" ")
    );
    if line.dots {
        for (px, py) in places {
            let _ = write!(
                svg,
                "<circle class=\"dot c{}\" cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"2.6\"/>",
                line.colour % 6
            );
        }
    }
}

/// Text that may stand in HTML and in an attribute.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> String {
        let axis = |scale| Axis {
            label: "a<b".into(),
            scale,
            tick: |value| format!("{value}"),
        };
        let line = Line {
            name: "l".into(),
            colour: 1,
            dashed: false,
            dots: true,
            points,
        };
        Chart {
            x: axis(Scale::Linear),
            y: axis(Scale::Log),
            lines: vec![line],
            mark: Some((5.0, "SLA".into())),
        }
        .to_svg()
    }

    #[test]
    fn a_chart_holds_its_points_and_escapes_its_words() {
        let svg = chart(vec![(0.0, 1.0), (1.0, 10.0), (2.0, 100.0)]);
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(svg.contains("a&lt;b") && !svg.contains("a<b") && svg.contains("SLA"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn points_that_a_scale_cannot_hold_are_left_out() {
        let svg = chart(vec![(0.0, 0.0), (f64::NAN, 1.0), (1.0, 1.0)]);
        assert!(!svg.contains("NaN"), "{svg}");
        let flat = chart(vec![(0.0, 5.0)]);
        assert!(!flat.contains("NaN") && flat.contains("<circle"));
    }
}
