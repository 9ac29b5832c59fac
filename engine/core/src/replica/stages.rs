//! Where clients' time goes on this shard: a histogram for each stage of a request, since the start.
//!
//! Counting costs an increment and an addition; nothing here decides anything. A request is in several of them: always in
//! the turn that it came in, and in each other stage that it waited in.

/// Eighths of an octave, from 1.024 µs on; the last bucket takes everything beyond a minute.
pub(super) const BUCKETS: usize = 192;
const UNIT_BITS: u32 = 10;
/// Buckets that are told together: an octave.
const OCTAVE: usize = 8;

/// A part of a request's way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// The loop's turn that it came in and the one before, behind which it may have waited: queue, index, memory, reply.
    Turn,
    /// A read from the disk.
    DiskRead,
    /// The commit that made its write durable.
    Commit,
    /// Other replicas.
    Replicas,
}

impl Stage {
    /// All of them, in the order of [`Stages::iter`].
    pub const ALL: [Self; 4] = [Self::Turn, Self::DiskRead, Self::Commit, Self::Replicas];

    /// Its name in outputs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::DiskRead => "disk_read",
            Self::Commit => "commit",
            Self::Replicas => "replicas",
        }
    }
}

/// How long the requests were in one stage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StageTimes {
    counts: [u64; BUCKETS],
    sum_ns: u64,
}

impl Default for StageTimes {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
            sum_ns: 0,
        }
    }
}

impl StageTimes {
    fn record(&mut self, took_ns: u64, requests: u32) {
        if let Some(count) = self.counts.get_mut(bucket_of(took_ns)) {
            *count += u64::from(requests);
        }
        let all_ns = took_ns.saturating_mul(u64::from(requests));
        self.sum_ns = self.sum_ns.saturating_add(all_ns);
    }

    /// Requests that were in it.
    pub fn requests(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All their times together.
    pub const fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// The time that so many in 100,000 of the requests did not exceed, an eighth too long at most; 0 without requests.
    pub fn percentile_ns(&self, of_100_000: u32) -> u64 {
        let requests = u128::from(self.requests());
        let rank = (requests * u128::from(of_100_000)).div_ceil(100_000);
        let mut faster = 0;
        let found = self.counts.iter().position(|count| {
            faster += u128::from(*count);
            faster >= rank && faster > 0
        });
        found.map_or(0, |bucket| floor_of(bucket + 1))
    }

    /// Ever longer times, and how many requests took no longer: as a Prometheus histogram has them, the last without a bound.
    pub fn cumulative(&self) -> impl Iterator<Item = (Option<u64>, u64)> + '_ {
        let mut requests = 0;
        let octaves = self.counts.chunks(OCTAVE).enumerate();
        octaves.map(move |(octave, counts)| {
            requests += counts.iter().sum::<u64>();
            let end = (octave + 1) * OCTAVE;
            ((end < BUCKETS).then(|| floor_of(end)), requests)
        })
    }
}

/// Of one shard.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Stages {
    of: Box<[StageTimes; Stage::ALL.len()]>,
}

impl Stages {
    pub(super) fn record(&mut self, stage: Stage, took_ns: u64, requests: u32) {
        if let Some(times) = self.of.get_mut(stage as usize) {
            times.record(took_ns, requests);
        }
    }

    /// Each stage and its times.
    pub fn iter(&self) -> impl Iterator<Item = (Stage, &StageTimes)> {
        Stage::ALL.into_iter().zip(self.of.iter())
    }
}

/// The bucket of a time.
pub(super) fn bucket_of(took_ns: u64) -> usize {
    let units = took_ns >> UNIT_BITS;
    let bucket = match units.checked_ilog2() {
        None | Some(0..=2) => units,
        Some(octave) => u64::from(octave - 2) * 8 + ((units >> (octave - 3)) & 7),
    };
    usize::try_from(bucket).map_or(BUCKETS - 1, |bucket| bucket.min(BUCKETS - 1))
}

/// The least time of a bucket.
pub(super) fn floor_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let units = if bucket < 8 {
        bucket
    } else {
        (8 + bucket % 8) << (bucket / 8 - 1)
    };
    units << UNIT_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_lies_in_its_bucket_and_buckets_are_an_eighth_of_an_octave() {
        for bucket in 0..BUCKETS - 1 {
            let (from, to) = (floor_of(bucket), floor_of(bucket + 1));
            assert_eq!(bucket_of(from), bucket);
            assert_eq!(bucket_of(to - 1), bucket);
            assert!(bucket < 8 || to - from <= from / 8, "{from} to {to}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_and_sums_are_those_of_what_was_recorded() {
        let mut stages = Stages::default();
        for us in 1..=1_000 {
            stages.record(Stage::Commit, us * 1_000, 2);
        }
        let (_, commit) = stages.iter().nth(2).expect("the third");
        assert_eq!(commit.requests(), 2_000);
        assert_eq!(commit.sum_ns(), 2 * 500_500 * 1_000);
        for (of_100_000, exact_ns) in [(50_000, 500_000), (99_000, 990_000), (99_900, 999_000)] {
            let found_ns = commit.percentile_ns(of_100_000);
            let most_ns = exact_ns + exact_ns / 8 + 1_024;
            assert!(
                (exact_ns..=most_ns).contains(&found_ns),
                "{found_ns} for {exact_ns}"
            );
        }
        let told: Vec<_> = commit.cumulative().collect();
        assert!(told.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        assert_eq!(told.last(), Some(&(None, 2_000)));
        // Of each bound: exactly those that took less.
        let (bound, requests) = told[5];
        let bound_us = bound.expect("bounded") / 1_000;
        assert_eq!(requests, 2 * bound_us, "{told:?}");
        let (_, turn) = stages.iter().next().expect("the first");
        assert_eq!((turn.requests(), turn.percentile_ns(99_900)), (0, 0));
    }
}
