//! Making load: sending on time, and writing down what happened.
//!
//! Owns the threads that drive a target. Never judges a result.
//!
//! # Layout
//! `clock` is the run's time · `plan` says what a run does · `recorder` is where one worker writes · `window` joins
//! the workers' records into a series · `source` gives each worker its next operation and its moment ·
//! `worker` is one worker of a store · `owners` drives gramme's engine on its own cores · `threads` drives other stores ·
//! `sockets` drives servers · `probe` asks a server one thing at a time ·
//! `jitter` measures the host beside a run.

pub mod clock;
pub mod plan;

pub mod recorder;
pub mod window;

pub mod source;

mod worker;

mod owners;
pub mod threads;

pub mod sockets;

pub mod probe;

pub mod jitter;
