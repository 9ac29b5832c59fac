//! What an acknowledgement promises about stable media.

/// How many of a write's acknowledgements must be on stable media.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// None: acknowledged from memory, committed within `commit_interval`.
    #[default]
    Buffered,
    /// One of the W (the paper's durable write).
    One,
    /// All of the W.
    All,
}
