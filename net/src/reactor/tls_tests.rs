//! Two sides of a connection, without a socket between: bytes are handed over by the test.

use super::*;
use crate::tls::fixture::{Authority, Files};
use crate::tls::{NODE_NAME, NodeTls, TlsFiles};

fn node(files: Files) -> NodeTls {
    let Files { ca, cert, key } = files;
    NodeTls::read(&TlsFiles { cert, key, ca }).expect("a node's certificate")
}

struct Side {
    tls: Tls,
    out: Vec<u8>,
    pool: Pool,
}

impl Side {
    fn new(tls: Result<Tls, Error>) -> Self {
        Self {
            tls: tls.expect("it begins"),
            out: Vec::new(),
            pool: Pool::default(),
        }
    }

    fn sealed(&mut self) -> Vec<u8> {
        let mut sealed = Vec::new();
        self.tls
            .seal(&mut self.out, &mut sealed, &mut self.pool)
            .expect("sealed");
        sealed
    }

    fn open(&mut self, bytes: &[u8]) -> Result<(Input, Vec<u8>), Error> {
        let mut opened = Vec::new();
        // As they may come: in pieces.
        let mut came_to = Input::Open;
        for piece in bytes.chunks(1000) {
            came_to = self.tls.open(piece, &mut opened)?;
        }
        Ok((came_to, opened))
    }
}

/// A node that connects to another, and both have shown who they are.
fn connected() -> (Side, Side) {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new();
    let one = node(authority.issue(dir.path(), "one", &[NODE_NAME]));
    let other = node(authority.issue(dir.path(), "other", &[NODE_NAME, "localhost"]));
    let mut one = Side::new(Tls::connecting(&one.peer));
    let mut other = Side::new(Tls::accepting(&other.mutual));
    one.out.extend_from_slice(b"early");
    for _ in 0..4 {
        let bytes = one.sealed();
        if !one.tls.is_handshaking() {
            let (_, opened) = other.open(&bytes).expect("opened");
            assert_eq!(opened, b"early", "it waited for the handshake's end");
            break;
        }
        assert_eq!(one.out, b"early", "nothing is said to a stranger");
        other.open(&bytes).expect("opened");
        let bytes = other.sealed();
        one.open(&bytes).expect("opened");
    }
    assert!(!one.tls.is_handshaking() && !other.tls.is_handshaking());
    (one, other)
}

#[test]
fn what_one_says_the_other_hears_in_parts_of_a_bound_and_then_the_end() {
    let (mut one, mut other) = connected();
    assert!(one.tls.is_with_node() && other.tls.is_with_node());
    let said: Vec<u8> = (0..3 * SEAL_BYTES + 5).map(|at| at as u8).collect();
    other.out.extend_from_slice(&said);
    let mut heard = Vec::new();
    let mut parts = 0;
    while other.tls.has_output(&other.out) {
        let sealed = other.sealed();
        assert!(sealed.len() < SEAL_BYTES + SEAL_BYTES / 8);
        heard.extend(one.open(&sealed).expect("opened").1);
        parts += 1;
        // What comes while it is sealed goes behind it.
        if parts == 2 {
            other.out.extend_from_slice(b"and this");
        }
    }
    assert_eq!(parts, 5);
    assert_eq!(heard, [&said[..], b"and this"].concat());
    assert_eq!(other.tls.plain.capacity(), 0, "an idle one keeps no memory");
    assert!(other.tls.end());
    assert!(!other.tls.end());
    let sealed = other.sealed();
    assert_eq!(one.open(&sealed), Ok((Input::Ended, Vec::new())));
}

#[test]
fn a_changed_byte_is_an_error_and_nothing_of_its_record_is_heard() {
    let (mut one, mut other) = connected();
    one.out.extend_from_slice(b"a word");
    let mut sealed = one.sealed();
    let last = sealed.len() - 1;
    sealed[last] ^= 1;
    let mut opened = Vec::new();
    assert!(other.tls.open(&sealed, &mut opened).is_err());
    assert_eq!(opened, b"");
}

#[test]
fn garbage_and_endless_handshakes_are_errors() {
    let dir = tempfile::tempdir().expect("a directory");
    let tls = node(Authority::new().issue(dir.path(), "one", &[NODE_NAME]));
    let mut side = Side::new(Tls::accepting(&tls.mutual));
    assert!(side.open(b"*1\r\n$4\r\nPING\r\n").is_err());
    assert!(!side.sealed().is_empty(), "the other side is told");

    // Records that each are small, of one handshake message that never ends.
    let mut side = Side::new(Tls::accepting(&tls.mutual));
    let mut record = vec![22, 3, 1, 4, 4];
    record.extend_from_slice(&[1, 0, 255, 255]);
    record.resize(5 + 1028, 0);
    let mut sent = 0;
    while side.open(&record).is_ok() {
        sent += record.len();
        record[5..9].fill(0);
        assert!(sent <= HANDSHAKE_BYTES_MAX);
    }
}

#[test]
fn who_shows_no_nodes_certificate_is_no_node() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new();
    let of_client = authority.issue(dir.path(), "client", &["a-client"]);
    let files = TlsFiles {
        cert: of_client.cert,
        key: of_client.key,
        ca: of_client.ca,
    };
    let error = NodeTls::read(&files).expect_err("a client's").to_string();
    assert!(
        error.contains("client.pem") && error.contains(NODE_NAME),
        "{error}"
    );
    // Of another authority: the other side's word is not taken.
    let ours = node(authority.issue(dir.path(), "ours", &[NODE_NAME]));
    let theirs = node(Authority::new().issue(dir.path(), "theirs", &[NODE_NAME]));
    let mut one = Side::new(Tls::connecting(&ours.peer));
    let mut other = Side::new(Tls::accepting(&theirs.mutual));
    other.open(&one.sealed()).expect("a beginning");
    let error = one.open(&other.sealed()).expect_err("a stranger's");
    assert!(error.to_string().contains("peer certificate"), "{error}");
}
