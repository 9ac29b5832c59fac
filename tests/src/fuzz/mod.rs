//! Fuzz targets: what must hold of any bytes that come from outside.
//!
//! Each target is a function of some bytes that panics when something does not hold. cargo-fuzz runs them for as long as
//! one likes (`tests/fuzz`), `gramme-fuzz-smoke` over the corpora and mutants of them on the stable toolchain. Both run
//! these very functions.
//!
//! Where a checksum stands before what is to be tried, the target also sees the same bytes with the checksum set right:
//! mutants would never come behind it.
//!
//! # Layout
//! - `resp`: commands, and replies as a strict client reads them;
//! - `native`, `peer`, `gossip`: frames of clients and nodes, and what a shard makes of them;
//! - `log`: records, batches, checkpoints; `recovery`: a start on a log that was changed;
//! - `context`: what clients hand back, and objects;
//! - `text`: the configuration, and lines of an import;
//! - `host`: a shard on a disk in memory, which some of them speak with;
//! - [`mutate`], [`memory`]: mutants of a corpus, and a bound on what a target may allocate.

mod context;
mod gossip;
mod host;
mod log;
pub mod memory;
pub mod mutate;
mod native;
mod peer;
mod recovery;
mod resp;
mod text;

/// One target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Panics when something does not hold of these bytes.
    pub run: fn(&[u8]),
    /// Inputs to begin with; the corpus in the tree was made of them.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Bytes of memory that it may hold at once, whatever its input, beside [`MEMORY_FACTOR`] for each of the input's.
    pub memory_bytes_max: usize,
}

/// Bytes of memory that a target may hold for each byte of its input.
pub const MEMORY_FACTOR: usize = 512;

/// A shard in memory has buffers of its own.
const SHARD_BYTES: usize = 64 << 20;
/// A decoder alone has none.
const DECODER_BYTES: usize = 1 << 20;

/// All targets.
pub const TARGETS: [Target; 14] = [
    Target {
        name: "resp_parse",
        run: resp::parse,
        seeds: resp::seeds,
        memory_bytes_max: DECODER_BYTES,
    },
    Target {
        name: "resp_session",
        run: resp::session,
        seeds: resp::seeds,
        memory_bytes_max: SHARD_BYTES,
    },
    Target {
        name: "native_frame",
        run: native::frame,
        seeds: native::seeds,
        memory_bytes_max: DECODER_BYTES,
    },
    Target {
        name: "native_session",
        run: native::session,
        seeds: native::seeds,
        memory_bytes_max: SHARD_BYTES,
    },
    Target {
        name: "native_client",
        run: native::client,
        seeds: native::client_seeds,
        memory_bytes_max: 4 * DECODER_BYTES,
    },
    Target {
        name: "peer_frame",
        run: peer::frame,
        seeds: peer::seeds,
        memory_bytes_max: DECODER_BYTES,
    },
    Target {
        name: "peer_shard",
        run: peer::shard,
        seeds: peer::seeds,
        memory_bytes_max: SHARD_BYTES,
    },
    Target {
        name: "gossip",
        run: gossip::run,
        seeds: gossip::seeds,
        memory_bytes_max: SHARD_BYTES,
    },
    Target {
        name: "log_batch",
        run: log::batch,
        seeds: log::batch_seeds,
        memory_bytes_max: DECODER_BYTES,
    },
    Target {
        name: "checkpoint",
        run: log::checkpoint,
        seeds: log::checkpoint_seeds,
        memory_bytes_max: 16 * DECODER_BYTES,
    },
    Target {
        name: "recovery",
        run: recovery::run,
        seeds: recovery::seeds,
        memory_bytes_max: SHARD_BYTES,
    },
    Target {
        name: "config",
        run: text::config,
        seeds: text::config_seeds,
        memory_bytes_max: 4 * DECODER_BYTES,
    },
    Target {
        name: "import_line",
        run: text::import,
        seeds: text::import_seeds,
        memory_bytes_max: DECODER_BYTES,
    },
    Target {
        name: "context",
        run: context::run,
        seeds: context::seeds,
        memory_bytes_max: DECODER_BYTES,
    },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Runs the target of this name, which there must be.
pub fn run(name: &str, input: &[u8]) {
    let target = target(name).unwrap_or_else(|| panic!("no target `{name}`"));
    (target.run)(input);
}

/// The first byte of an input as an option, and the rest.
fn option_of(input: &[u8]) -> (u8, &[u8]) {
    input
        .split_first()
        .map_or((0, &[]), |(option, rest)| (*option, rest))
}

/// Pieces of an input as a network may bring it.
fn pieces(input: &[u8], option: u8) -> impl Iterator<Item = &[u8]> {
    input.chunks(if option == 0 {
        usize::MAX
    } else {
        usize::from(option)
    })
}
