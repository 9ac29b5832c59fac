//! A recorded load, replayed at its own times: the CSV form of Twitter's cache traces.
//!
//! Owns the reading of lines. Never reads the file: the caller hands in lines.
//!
//! `timestamp,key,key size,value size,client,operation,ttl`: seconds, anonymised text, bytes, bytes, number, a
//! memcached verb, seconds. Times have a resolution of one second, so arrivals within one are spread evenly over it.
//!
//! Invariants:
//! - keys keep their identity (64 bits of hash name the key that is sent), not their text;
//! - a line that cannot be read is an error with its number, never skipped.

use super::mix::Verb;
use super::spec::Durability;
use super::stream::Operation;
use super::value::VALUE_BYTES_MAX;

/// One recorded request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceEntry {
    /// Nanoseconds from the first line.
    pub at_ns: u64,
    /// What it did.
    pub operation: Operation,
}

/// Reads one line: the second it happened and the operation.
fn parse_line(line: &str) -> Result<(u64, Operation), String> {
    let mut fields = line.split(',');
    let mut next = |what: &str| {
        fields
            .next()
            .map(str::trim)
            .ok_or_else(|| format!("no {what}"))
    };
    let number = |text: &str, what: &str| {
        text.parse::<u64>()
            .map_err(|_| format!("{what} '{text}' is not a number"))
    };
    let at_s = number(next("timestamp")?, "timestamp")?;
    let key = next("key")?;
    let _key_bytes = number(next("key size")?, "key size")?;
    let value_bytes = number(next("value size")?, "value size")?;
    let _client = next("client")?;
    let verb = match next("operation")? {
        "get" | "gets" => Verb::Read,
        "set" | "add" | "replace" | "cas" => Verb::Write,
        "append" | "prepend" | "incr" | "decr" => Verb::Update,
        "delete" => Verb::Delete,
        other => {
            return Err(format!(
                "operation '{other}' is not one of the memcached verbs"
            ));
        }
    };
    let ttl_s = number(next("ttl")?, "ttl")?;
    let writes = matches!(verb, Verb::Write | Verb::Update);
    let value_bytes = u32::try_from(value_bytes)
        .ok()
        .filter(|bytes| *bytes <= VALUE_BYTES_MAX);
    let value_bytes =
        value_bytes.ok_or_else(|| format!("its value is larger than {VALUE_BYTES_MAX} bytes"))?;
    let operation = Operation {
        verb,
        key_id: hash(key.as_bytes()),
        value_bytes: if writes { value_bytes.max(1) } else { 0 },
        scan_keys: 0,
        ttl_s: if writes {
            u32::try_from(ttl_s).unwrap_or(u32::MAX)
        } else {
            0
        },
        durability: Durability::Default,
    };
    Ok((at_s, operation))
}

/// Reads a whole trace. `speed` of 2 replays it twice as fast.
pub fn parse<I: IntoIterator<Item = S>, S: AsRef<str>>(
    lines: I,
    speed: f64,
) -> Result<Vec<TraceEntry>, String> {
    let mut seconds: Vec<(u64, Operation)> = Vec::new();
    for (number, line) in lines.into_iter().enumerate() {
        let line = line.as_ref().trim();
        if line.is_empty() {
            continue;
        }
        let entry =
            parse_line(line).map_err(|problem| format!("line {}: {problem}", number + 1))?;
        if seconds.last().is_some_and(|(before, _)| *before > entry.0) {
            return Err(format!("line {}: time goes backwards", number + 1));
        }
        seconds.push(entry);
    }
    let Some((first_s, _)) = seconds.first().copied() else {
        return Err("the trace holds no request".to_owned());
    };
    let mut entries = Vec::with_capacity(seconds.len());
    for same_second in seconds.chunk_by(|a, b| a.0 == b.0) {
        for (place, (at_s, operation)) in same_second.iter().enumerate() {
            let within = place as f64 / same_second.len() as f64;
            let at_ns = ((at_s - first_s) as f64 + within) * 1e9 / speed;
            entries.push(TraceEntry {
                at_ns: at_ns as u64,
                operation: *operation,
            });
        }
    }
    Ok(entries)
}

/// FNV-1a, so that a key is the same key in every run and on every agent.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_spread_evenly_and_speed_divides_time() {
        let lines = [
            "10,a,1,100,1,get,0",
            "10,b,1,100,1,set,60",
            "12,a,1,100,1,delete,0",
        ];
        let entries = parse(lines, 1.0).expect("well-formed");
        let at: Vec<u64> = entries.iter().map(|entry| entry.at_ns).collect();
        assert_eq!(at, [0, 500_000_000, 2_000_000_000]);
        assert_eq!(entries[0].operation.key_id, entries[2].operation.key_id);
        assert_eq!(
            (
                entries[1].operation.verb,
                entries[1].operation.value_bytes,
                entries[1].operation.ttl_s
            ),
            (Verb::Write, 100, 60)
        );
        assert_eq!(entries[0].operation.value_bytes, 0, "a read writes nothing");
        assert_eq!(
            parse(lines, 2.0).expect("well-formed")[2].at_ns,
            1_000_000_000
        );
    }

    #[test]
    fn a_bad_line_is_named() {
        for (bad, why) in [
            ("10,a,1", "no value size"),
            ("x,a,1,1,1,get,0", "timestamp"),
            ("10,a,1,1,1,eat,0", "eat"),
        ] {
            let error = parse(["1,a,1,1,1,get,0", bad], 1.0).expect_err("broken");
            assert!(error.contains("line 2") && error.contains(why), "{error}");
        }
        assert!(
            parse(["5,a,1,1,1,get,0", "4,a,1,1,1,get,0"], 1.0)
                .expect_err("backwards")
                .contains("line 2")
        );
        assert!(parse(Vec::<String>::new(), 1.0).is_err());
    }
}
