//! Interval histograms in the `.hlog` format that HistogramLogAnalyzer and its kin read.
//!
//! Owns the joining of windows into intervals of a second or more, one tag a verb, values in nanoseconds shown in
//! milliseconds. Never re-buckets: what is written is what was recorded.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::load::window::Window;
use crate::stats::latencies::{Latencies, Packed};
use crate::workload::Verb;

const NS_PER_MS: f64 = 1e6;

/// Writes the responses of all windows, by verb, and the service times under the tag `service`.
pub fn write<W: Write>(
    out: &mut W,
    windows: &[Window],
    window: Duration,
    started: SystemTime,
) -> io::Result<()> {
    let per_interval = (1.0 / window.as_secs_f64()).ceil().max(1.0) as usize;
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("[Histograms of the response time from the intended start, in nanoseconds, by gramme-bench]")
        .with_start_time(started)
        .with_base_time(started)
        .with_max_value_divisor(NS_PER_MS)
        .begin_log_with(out, &mut serializer)?;
    for (interval, chunk) in windows.chunks(per_interval).enumerate() {
        let at = window * u32::try_from(interval * per_interval).unwrap_or(u32::MAX);
        let length = window * u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        let mut add = |name: &str, parts: &mut dyn Iterator<Item = &Packed>| -> io::Result<()> {
            let mut all = Latencies::new();
            parts.for_each(|part| all.merge_packed(part));
            if all.is_empty() {
                return Ok(());
            }
            log.write_histogram(all.histogram(), at, length, Tag::new(name))
                .map_err(|error| io::Error::other(error.to_string()))
        };
        for verb in Verb::ALL {
            add(
                verb.word(),
                &mut chunk.iter().map(|window| window.response_of(verb)),
            )?;
        }
        add("service", &mut chunk.iter().map(|window| &window.service))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;

    #[test]
    fn what_is_written_reads_back_exactly() {
        let mut reads = Latencies::new();
        for ns in [150_000, 2_000_000, 777_777_777] {
            reads.record(ns);
        }
        let window = |index| Window {
            index,
            response: std::array::from_fn(|verb| {
                if verb == 0 {
                    reads.pack()
                } else {
                    Packed::default()
                }
            }),
            ..Window::default()
        };
        let windows: Vec<Window> = (0..15).map(window).collect();
        let mut text = Vec::new();
        write(
            &mut text,
            &windows,
            Duration::from_millis(100),
            SystemTime::UNIX_EPOCH,
        )
        .expect("memory takes it");
        let mut counts = Vec::new();
        for entry in IntervalLogIterator::new(&text) {
            let Ok(LogEntry::Interval(interval)) = entry else {
                continue;
            };
            assert_eq!(interval.tag().map(|tag| tag.as_str()), Some("read"));
            let bytes = base64::Engine::decode(
                &base64::engine::general_purpose::STANDARD,
                interval.encoded_histogram(),
            )
            .expect("base64");
            let histogram: Histogram<u64> = Deserializer::new()
                .deserialize(&mut bytes.as_slice())
                .expect("a histogram");
            assert!((interval.max() - 777.8).abs() < 1.0, "{}", interval.max());
            counts.push(histogram.len());
        }
        assert_eq!(counts, [30, 15]);
    }
}
