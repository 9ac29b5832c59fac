//! Pictures made of characters.
//!
//! Owns scales and marks. Never needs colour.

use crate::load::window::Window;
use crate::record::series::Point;
use crate::stats::latencies::Packed;
use crate::stats::unit::show_us;

const WIDTH: usize = 72;
const HEIGHT: usize = 12;

/// Latency against rate: `.` p50, `o` p99, `#` p99.9, on a logarithmic scale.
pub fn curve(points: &[Point]) -> String {
    let marks = |point: &Point| {
        let response = point.response_us;
        [
            (point.rate, response.p50, '.'),
            (point.rate, response.p99, 'o'),
            (point.rate, response.p99_9, '#'),
        ]
    };
    plot(
        &points.iter().flat_map(marks).collect::<Vec<_>>(),
        "requests/s",
        "p50 .   p99 o   p99.9 #",
    )
}

/// The percentile spectrum: how many nines along the bottom, latency upwards.
pub fn spectrum(windows: &[Window]) -> String {
    let parts: Vec<Packed> = windows.iter().map(Window::response_all).collect();
    let all = Packed::join(&parts);
    let count = all.count();
    if count == 0 {
        return "no request ended\n".to_owned();
    }
    let nines_max = (count as f64).log10().min(6.0);
    let points: Vec<(f64, f64, char)> = (0..=WIDTH)
        .map(|column| {
            let nines = nines_max * column as f64 / WIDTH as f64;
            (
                nines,
                all.quantile_ns(1.0 - 10f64.powf(-nines)) as f64 / 1000.0,
                '*',
            )
        })
        .collect();
    plot(
        &points,
        "nines",
        "response by percentile (1 = p90, 2 = p99, 3 = p99.9)",
    )
}

/// Points on a linear horizontal and a logarithmic vertical axis.
fn plot(points: &[(f64, f64, char)], below: &str, title: &str) -> String {
    let drawn: Vec<&(f64, f64, char)> = points.iter().filter(|(_, y, _)| *y > 0.0).collect();
    let Some(x_max) = drawn.iter().map(|point| point.0).max_by(f64::total_cmp) else {
        return String::new();
    };
    let low = drawn
        .iter()
        .map(|point| point.1)
        .fold(f64::MAX, f64::min)
        .log10()
        .floor();
    let high = drawn
        .iter()
        .map(|point| point.1)
        .fold(0.0, f64::max)
        .log10()
        .ceil()
        .max(low + 1.0);
    let mut grid = vec![vec![' '; WIDTH + 1]; HEIGHT + 1];
    for (x, y, mark) in drawn {
        let column = (x / x_max.max(f64::MIN_POSITIVE) * WIDTH as f64).round() as usize;
        let row = ((y.log10() - low) / (high - low) * HEIGHT as f64).round() as usize;
        if let Some(cell) = grid
            .get_mut(HEIGHT - row.min(HEIGHT))
            .and_then(|line| line.get_mut(column))
        {
            *cell = *mark;
        }
    }
    let mut text = format!("  {title}\n");
    for (row, line) in grid.iter().enumerate() {
        let level = 10f64.powf(low + (high - low) * (HEIGHT - row) as f64 / HEIGHT as f64);
        let label = if row % 3 == 0 {
            show_us(level)
        } else {
            String::new()
        };
        let cells: String = line.iter().collect();
        text += &format!("{label:>9} |{}\n", cells.trim_end());
    }
    text += &format!(
        "{:>9} +{}\n{:>9}  0{:>width$}\n",
        "",
        "-".repeat(WIDTH),
        "",
        format!("{x_max:.0} {below}"),
        width = WIDTH - 1
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::latencies::Latencies;

    #[test]
    fn a_spectrum_rises_from_left_to_right() {
        let mut latencies = Latencies::new();
        (1..=10_000u64).for_each(|place| latencies.record(place * 1000));
        let window = Window {
            response: std::array::from_fn(|verb| {
                if verb == 0 {
                    latencies.pack()
                } else {
                    Packed::default()
                }
            }),
            ..Window::default()
        };
        let text = spectrum(&[window]);
        let rows: Vec<&str> = text.lines().filter(|line| line.contains('*')).collect();
        assert!(rows.len() > 1);
        assert!(rows.first().expect("rows").rfind('*') > rows.last().expect("rows").find('*'));
    }

    #[test]
    fn nothing_to_draw_is_no_picture_and_no_panic() {
        assert_eq!(curve(&[]), "");
        assert!(spectrum(&[]).contains("no request"));
    }
}
