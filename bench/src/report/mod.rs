//! Results, drawn.
//!
//! Owns pictures and pages. Never computes a figure that the records do not hold.
//!
//! # Layout
//! `terminal` draws with characters · `svg` draws charts · `html` makes the page.

pub mod terminal;

pub mod svg;

pub mod html;
