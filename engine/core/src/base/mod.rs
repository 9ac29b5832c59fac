//! The vocabulary: ids, time, hashing and limits. Knows no behaviour over time.

pub mod durability;
pub mod hash;
pub mod ids;
pub mod limits;
pub mod mark;
pub mod mutant;
pub mod slots;
pub mod time;
