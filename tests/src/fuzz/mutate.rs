//! Mutants of a corpus: what a fuzzer without coverage does, with a seed of its own.

use crate::sim::random::Random;

/// No mutant is longer.
const BYTES_MAX: usize = 64 << 10;

/// Numbers at which decoders go wrong.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    7,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX - 1,
    u64::MAX,
];

/// Makes mutants: the same of the same seed.
pub struct Mutator {
    random: Random,
}

impl Mutator {
    /// The mutants of a seed.
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
        }
    }

    /// A mutant of one of the corpus' inputs, perhaps with a part of another in it.
    pub fn next(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = match corpus.len() {
            0 => Vec::new(),
            len => corpus[self.random.index(len)].clone(),
        };
        for _ in 0..=self.random.below(6) {
            self.change(&mut bytes, corpus);
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }

    /// A range within so many bytes, mostly short.
    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.random.index(len);
        let span = if self.random.below(4) == 0 {
            len - start
        } else {
            (len - start).min(32)
        };
        start..start + self.random.index(span + 1)
    }

    fn change(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let len = bytes.len();
        match self.random.below(if len == 0 { 1 } else { 10 }) {
            0 => {
                let at = self.random.index(len + 1);
                let run = (0..=self.random.below(8)).map(|_| self.random.bits() as u8);
                let run: Vec<u8> = run.collect();
                bytes.splice(at..at, run);
            }
            1 | 2 => {
                let at = self.random.index(len);
                bytes[at] ^= 1 << self.random.below(8);
            }
            3 => {
                let at = self.random.index(len);
                bytes[at] = self.random.bits() as u8;
            }
            4 => {
                let range = self.range(len);
                bytes.drain(range);
            }
            5 => {
                let range = self.range(len);
                let again = bytes[range].to_vec();
                let at = self.random.index(len + 1);
                bytes.splice(at..at, again);
            }
            6 if !corpus.is_empty() => {
                let other = &corpus[self.random.index(corpus.len())];
                let from = self.range(other.len().max(1)).start.min(other.len());
                let part = other[from..].to_vec();
                let at = self.random.index(len + 1);
                if self.random.coin() {
                    bytes.truncate(at);
                    bytes.extend_from_slice(&part);
                } else {
                    bytes.splice(at..at, part);
                }
            }
            7 => self.decimal(bytes),
            _ => self.number(bytes),
        }
    }

    /// A little-endian number somewhere, of any width, becomes another: the lengths of binary formats.
    fn number(&mut self, bytes: &mut [u8]) {
        let width = [1, 2, 4, 8][self.random.index(4)].min(bytes.len());
        let at = self.random.index(bytes.len() - width + 1);
        let mut former = [0; 8];
        former[..width].copy_from_slice(&bytes[at..at + width]);
        let former = u64::from_le_bytes(former);
        let len = bytes.len() as u64;
        let number = match self.random.below(4) {
            0 => EDGES[self.random.index(EDGES.len())],
            1 => former.wrapping_add(self.random.below(17)).wrapping_sub(8),
            2 => len.wrapping_add(self.random.below(5)).wrapping_sub(2),
            _ => self.random.bits() >> self.random.below(64),
        };
        bytes[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
    }

    /// The digits that stand at or behind some place become another number: the lengths of text formats.
    fn decimal(&mut self, bytes: &mut Vec<u8>) {
        let from = self.random.index(bytes.len());
        let Some(start) = (from..bytes.len()).find(|at| bytes[*at].is_ascii_digit()) else {
            return;
        };
        let digits = bytes[start..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit());
        let end = start + digits.count();
        let edge = EDGES[self.random.index(EDGES.len())];
        let text = match self.random.below(4) {
            0 => format!("-{edge}"),
            1 => self.random.below(100).to_string(),
            2 => format!("{edge}0"),
            _ => edge.to_string(),
        };
        bytes.splice(start..end, text.into_bytes());
    }
}
