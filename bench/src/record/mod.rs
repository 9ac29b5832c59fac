//! What remains of a run.
//!
//! Owns the self-describing record: the report, the series, the host's facts, histograms for other tools. Never
//! makes load.
//!
//! # Layout
//! `host` gathers facts · `report` is the JSON document · `series` those of searches and comparisons ·
//! `analysis` makes a report from the windows · `hlog` writes
//! interval histograms · `folder` keeps it all on disk and reads it back.

pub mod host;

pub mod report;

pub mod series;

pub mod analysis;

pub mod hlog;

pub mod folder;
