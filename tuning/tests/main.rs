//! The tuner as a person meets it, on trees of several machines.
