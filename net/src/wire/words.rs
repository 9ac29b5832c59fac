//! The numbers that stand for the rules of a request, the same in the frames of clients and of nodes.

use gramme_core::port::{Condition, ContextArg, Durability, Expiry};

/// 0 the bucket's, 1 buffered, 2 one, 3 all.
pub(super) const fn durability(durability: Option<Durability>) -> u8 {
    match durability {
        None => 0,
        Some(Durability::Buffered) => 1,
        Some(Durability::One) => 2,
        Some(Durability::All) => 3,
    }
}

/// Back, or what is wrong with it.
pub(super) const fn durability_of(number: u8) -> Result<Option<Durability>, &'static str> {
    Ok(match number {
        0 => None,
        1 => Some(Durability::Buffered),
        2 => Some(Durability::One),
        3 => Some(Durability::All),
        _ => return Err("has an unknown durability"),
    })
}

/// 0 default, 1 never, 2 at this time, 3 keep.
pub(super) const fn expiry(expiry: Expiry) -> (u8, u64) {
    match expiry {
        Expiry::Default => (0, 0),
        Expiry::Never => (1, 0),
        Expiry::AtMs(at_ms) => (2, at_ms),
        Expiry::Keep => (3, 0),
    }
}

/// Back, or what is wrong with it.
pub(super) const fn expiry_of(number: u8, at_ms: u64) -> Result<Expiry, &'static str> {
    Ok(match number {
        0 => Expiry::Default,
        1 => Expiry::Never,
        2 => Expiry::AtMs(at_ms),
        3 => Expiry::Keep,
        _ => return Err("has an unknown expiry"),
    })
}

/// 0 always, 1 if absent, 2 if present.
pub(super) const fn condition(condition: Condition) -> u8 {
    match condition {
        Condition::Always => 0,
        Condition::IfAbsent => 1,
        Condition::IfPresent => 2,
    }
}

/// Back, or what is wrong with it.
pub(super) const fn condition_of(number: u8) -> Result<Condition, &'static str> {
    Ok(match number {
        0 => Condition::Always,
        1 => Condition::IfAbsent,
        2 => Condition::IfPresent,
        _ => return Err("has an unknown condition"),
    })
}

/// 0 blind, 1 latest, 2 opaque.
pub(super) const fn context_form(context: &ContextArg<'_>) -> u8 {
    match context {
        ContextArg::Blind => 0,
        ContextArg::Latest => 1,
        ContextArg::Opaque(_) => 2,
    }
}
