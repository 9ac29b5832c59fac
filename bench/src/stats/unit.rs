//! How figures are written for a person.
//!
//! Owns the choice of unit and digits. Never used in a file that a program reads.

/// Microseconds in the unit that reads best.
pub fn show_us(us: f64) -> String {
    match us {
        us if us >= 9_999_500.0 => format!("{:.1}s", us / 1e6),
        us if us >= 999_950.0 => format!("{:.2}s", us / 1e6),
        us if us >= 99_950.0 => format!("{:.0}ms", us / 1e3),
        us if us >= 9_995.0 => format!("{:.1}ms", us / 1e3),
        us if us >= 999.5 => format!("{:.2}ms", us / 1e3),
        us if us >= 99.95 => format!("{us:.0}us"),
        us => format!("{us:.1}us"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_the_unit_that_reads_best() {
        let shown: Vec<String> = [
            0.4,
            99.94,
            120.0,
            1500.0,
            15_000.0,
            150_000.0,
            1_500_000.0,
            15_000_000.0,
        ]
        .into_iter()
        .map(show_us)
        .collect();
        assert_eq!(
            shown,
            [
                "0.4us", "99.9us", "120us", "1.50ms", "15.0ms", "150ms", "1.50s", "15.0s"
            ]
        );
    }
}
