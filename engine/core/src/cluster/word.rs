//! What control shards say to each other: one envelope around a few kinds of words.
//!
//! Owns the format. Never decides anything. Bytes that are not an envelope are an error for the caller to count; a word that
//! this version does not know still says that its sender is alive. Words grow at their ends, the envelope never does.
//!
//! ```text
//! kind of bytes  u32, format 1      wall clock      u64, ms
//! cluster        u64, 0: none yet   listen address  string
//! node           u64                word            u8, its fields
//! start count    u64                checksum        u32 over all
//! renewal        u32
//! instance       u64, of the process
//! ```

use super::buckets::Buckets;
use super::detector::{Life, decode_life, encode_life};
use super::vitals::{self, Entry};
use crate::base::ids::NodeId;
use crate::base::limits::MEMBER_TEXT_BYTES_MAX;
use crate::ring::bytes::{Reader, RingBytesError, Writer};
use crate::ring::{Facts, RingDigest, RingPart};

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sender {
    /// Of which cluster; 0 while it knows of none.
    pub(super) cluster: u64,
    pub(super) life: Life,
    /// Of the process: tells two with one id apart.
    pub(super) instance: u64,
    pub(super) wall_ms: u64,
    /// Its native address.
    pub(super) listen: String,
}

/// Why a node is not spoken with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its id was removed for good.
    Removed,
    /// Another process with its id is alive.
    Duplicate {
        /// At this address.
        address: String,
    },
    /// It is of another cluster.
    OtherCluster {
        /// The refusing node's.
        cluster: u64,
    },
    /// Its clock is too far ahead of the refusing node's.
    ClockAhead {
        /// By so much.
        ahead_ms: u64,
    },
}

impl Refusal {
    /// What the refused node says of itself, and what to do.
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Removed => {
                "this node's id was removed from the cluster for good, and it serves nothing; start it with an empty data \
                 directory"
                    .into()
            }
            Self::Duplicate { address } => format!(
                "another process with this node's id is alive at {address}: its directory was copied; stop one of them \
                 and start it with an empty data directory"
            ),
            Self::OtherCluster { cluster } => {
                format!("this node is of another cluster than {cluster:016x}")
            }
            Self::ClockAhead { ahead_ms } => format!(
                "this node's clock is {ahead_ms} ms ahead of the others'"
            ),
        }
    }
}

/// One thing said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word<'a> {
    /// Here I am. Answered by a delta, with the whole ring for one that has none.
    Hello(Facts),
    /// A datagram of the detector.
    Datagram(&'a [u8]),
    /// Hashes of all that I know: answered by a digest where they differ.
    Summary {
        ring: u64,
        buckets: u64,
        epoch: u64,
        vitals: Vec<Entry>,
    },
    /// How new everything is here: answered by a delta.
    Digest { ring: RingDigest, buckets: u64 },
    /// What you lack; and, where there is a digest, what I have: answered by a delta without one.
    Delta {
        part: RingPart,
        buckets: Option<Buckets>,
        digest: Option<RingDigest>,
    },
    /// Are you there?
    Ping,
    /// Yes.
    Pong,
    /// You are not spoken with: the node of this id, where it is said. Another may be at its address by now.
    Refused(Refusal, Option<NodeId>),
    /// What a later version says. Never written.
    Newer,
}

/// An envelope, format 1.
const KIND: u32 = 0x6547_0001;

pub(super) fn encode(sender: &Sender, word: &Word<'_>) -> Vec<u8> {
    let mut out = Writer::of_kind(KIND);
    out.u64(sender.cluster);
    encode_life(&mut out, &sender.life);
    out.u64(sender.instance);
    out.u64(sender.wall_ms);
    out.string(&sender.listen);
    match word {
        Word::Hello(facts) => {
            out.u8(0);
            encode_facts(&mut out, facts);
        }
        Word::Datagram(bytes) => {
            out.u8(1);
            out.bytes(bytes);
        }
        Word::Summary {
            ring,
            buckets,
            epoch,
            vitals,
        } => {
            out.u8(2);
            out.u64(*ring);
            out.u64(*buckets);
            out.u64(*epoch);
            vitals::encode(&mut out, vitals);
        }
        Word::Digest { ring, buckets } => {
            out.u8(3);
            out.bytes(&ring.to_bytes());
            out.u64(*buckets);
        }
        Word::Delta {
            part,
            buckets,
            digest,
        } => {
            out.u8(4);
            out.bytes(&part.to_bytes());
            out.u8(u8::from(buckets.is_some()));
            if let Some(buckets) = buckets {
                buckets.encode(&mut out);
            }
            out.u8(u8::from(digest.is_some()));
            if let Some(digest) = digest {
                out.bytes(&digest.to_bytes());
            }
        }
        Word::Ping => out.u8(5),
        Word::Pong => out.u8(6),
        Word::Refused(refusal, node) => {
            out.u8(7);
            encode_refusal(&mut out, refusal);
            if let Some(node) = node {
                out.u64(node.0);
            }
        }
        Word::Newer => out.u8(u8::MAX),
    }
    out.seal()
}

/// Who said what.
///
/// # Errors
/// [`RingBytesError`] for any bytes that are not an envelope.
pub(super) fn decode(bytes: &[u8]) -> Result<(Sender, Word<'_>), RingBytesError> {
    let mut from = Reader::open(bytes, KIND)?;
    let sender = Sender {
        cluster: from.u64()?,
        life: decode_life(&mut from)?,
        instance: from.u64()?,
        wall_ms: from.u64()?,
        listen: from.string("listen", MEMBER_TEXT_BYTES_MAX)?,
    };
    let word = match from.u8()? {
        0 => Word::Hello(decode_facts(&mut from)?),
        1 => Word::Datagram(from.bytes()?),
        2 => Word::Summary {
            ring: from.u64()?,
            buckets: from.u64()?,
            epoch: from.u64()?,
            vitals: vitals::decode(&mut from)?,
        },
        3 => Word::Digest {
            ring: RingDigest::from_bytes(from.bytes()?)?,
            buckets: from.u64()?,
        },
        4 => Word::Delta {
            part: RingPart::from_bytes(from.bytes()?)?,
            buckets: match from.u8()? {
                0 => None,
                _ => Some(Buckets::decode(&mut from)?),
            },
            digest: match from.u8()? {
                0 => None,
                _ => Some(RingDigest::from_bytes(from.bytes()?)?),
            },
        },
        5 => Word::Ping,
        6 => Word::Pong,
        7 => match decode_refusal(&mut from)? {
            Some(refusal) => Word::Refused(refusal, from.u64().ok().map(NodeId)),
            None => Word::Newer,
        },
        _ => Word::Newer,
    };
    Ok((sender, word))
}

fn encode_facts(out: &mut Writer, facts: &Facts) {
    for text in [
        &facts.listen,
        &facts.resp,
        &facts.admin,
        &facts.zone,
        &facts.name,
    ] {
        out.string(text);
    }
    out.u32(facts.weight);
    out.u16(facts.shards);
}

fn decode_facts(from: &mut Reader<'_>) -> Result<Facts, RingBytesError> {
    let mut text = |name| from.string(name, MEMBER_TEXT_BYTES_MAX);
    Ok(Facts {
        listen: text("listen")?,
        resp: text("resp")?,
        admin: text("admin")?,
        zone: text("zone")?,
        name: text("name")?,
        weight: from.u32()?,
        shards: from.u16()?,
    })
}

fn encode_refusal(out: &mut Writer, refusal: &Refusal) {
    match refusal {
        Refusal::Removed => out.u8(0),
        Refusal::Duplicate { address } => {
            out.u8(1);
            out.string(address);
        }
        Refusal::OtherCluster { cluster } => {
            out.u8(2);
            out.u64(*cluster);
        }
        Refusal::ClockAhead { ahead_ms } => {
            out.u8(3);
            out.u64(*ahead_ms);
        }
    }
}

/// A reason that only a later version knows is none here.
fn decode_refusal(from: &mut Reader<'_>) -> Result<Option<Refusal>, RingBytesError> {
    Ok(Some(match from.u8()? {
        0 => Refusal::Removed,
        1 => Refusal::Duplicate {
            address: from.string("address", MEMBER_TEXT_BYTES_MAX)?,
        },
        2 => Refusal::OtherCluster {
            cluster: from.u64()?,
        },
        3 => Refusal::ClockAhead {
            ahead_ms: from.u64()?,
        },
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sender() -> Sender {
        Sender {
            cluster: 7,
            life: Life {
                node: NodeId(3),
                start: 2,
                renewal: 1,
            },
            instance: 99,
            wall_ms: 1_000,
            listen: "10.0.0.1:7400".into(),
        }
    }

    #[test]
    fn every_word_comes_back_as_it_was_said() {
        let words = [
            Word::Hello(Facts {
                listen: "a:1".into(),
                zone: "z".into(),
                weight: 1,
                shards: 4,
                ..Facts::default()
            }),
            Word::Datagram(b"swim"),
            Word::Summary {
                ring: 1,
                buckets: 2,
                epoch: 3,
                vitals: Vec::new(),
            },
            Word::Digest {
                ring: RingDigest::default(),
                buckets: 4,
            },
            Word::Ping,
            Word::Pong,
            // As the first release said it.
            Word::Refused(Refusal::Removed, None),
            Word::Refused(Refusal::Removed, Some(NodeId(8))),
            Word::Refused(
                Refusal::Duplicate {
                    address: "b:2".into(),
                },
                Some(NodeId(8)),
            ),
            Word::Refused(Refusal::OtherCluster { cluster: 5 }, Some(NodeId(8))),
            Word::Refused(Refusal::ClockAhead { ahead_ms: 6 }, Some(NodeId(8))),
        ];
        for word in words {
            let bytes = encode(&sender(), &word);
            assert_eq!(decode(&bytes), Ok((sender(), word)));
        }
    }

    #[test]
    fn what_a_later_version_says_tells_who_it_is_and_what_is_known_of_it() {
        let reopened = |bytes: &[u8], more: &[u8]| {
            let mut out = Writer::default();
            out.raw(&bytes[..bytes.len() - 4]);
            out.raw(more);
            out.seal()
        };
        let newer = reopened(&encode(&sender(), &Word::Newer), b"anything");
        assert_eq!(decode(&newer), Ok((sender(), Word::Newer)));
        let summary = Word::Summary {
            ring: 1,
            buckets: 2,
            epoch: 3,
            vitals: Vec::new(),
        };
        let digest = Word::Digest {
            ring: RingDigest::default(),
            buckets: 4,
        };
        for word in [Word::Ping, Word::Hello(Facts::default()), summary, digest] {
            let longer = reopened(&encode(&sender(), &word), b"what is new");
            assert_eq!(decode(&longer), Ok((sender(), word)));
        }
        let mut refused = encode(&sender(), &Word::Refused(Refusal::Removed, None));
        let reason = refused.len() - 5;
        refused[reason] = 99;
        assert_eq!(
            decode(&reopened(&refused, b"")),
            Ok((sender(), Word::Newer))
        );
    }

    proptest! {
        #[test]
        fn damaged_bytes_are_an_error_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in any::<bool>()) {
            let _ = decode(&bytes);
            // With a checksum that fits, the fields themselves are damaged.
            let mut out = if kind { Writer::of_kind(KIND) } else { Writer::default() };
            for byte in &bytes {
                out.u8(*byte);
            }
            let _ = decode(&out.seal());
        }
    }
}
