//! What clients send, in any pieces, and what they should not.
#![expect(
    clippy::indexing_slicing,
    reason = "a test that indexes beyond fails, as it should"
)]

use proptest::prelude::*;

use super::*;

/// All commands of the input, given in these pieces, and whether it is good to its end.
fn commands(input: &[u8], piece_bytes: usize) -> (Vec<Vec<Vec<u8>>>, Result<(), &'static str>) {
    let (mut parser, mut words, mut found) = (Parser::default(), Vec::new(), Vec::new());
    let (mut at, mut end) = (0, 0);
    loop {
        match parser.parse(&input[at..end], 1 << 20, &mut words) {
            Parse::Done(bytes) => {
                let all = parser.bytes(&input[at..end]);
                found.push(
                    words
                        .iter()
                        .map(|word| all[word.clone()].to_vec())
                        .collect(),
                );
                at += bytes;
            }
            Parse::NeedMore(bytes) => {
                assert!(bytes > end - at, "{bytes} bytes are there already");
                if end == input.len() {
                    return (found, Ok(()));
                }
                end = (end + piece_bytes).min(input.len());
            }
            Parse::Bad(text) => return (found, Err(text)),
        }
    }
}

fn encoded(commands: &[Vec<Vec<u8>>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for command in commands {
        bytes.extend(format!("*{}\r\n", command.len()).into_bytes());
        for word in command {
            bytes.extend(format!("${}\r\n", word.len()).into_bytes());
            bytes.extend(word);
            bytes.extend(b"\r\n");
        }
    }
    bytes
}

fn words_of(found: &[Vec<Vec<u8>>]) -> Vec<Vec<String>> {
    let text = |word: &Vec<u8>| String::from_utf8_lossy(word).into_owned();
    found
        .iter()
        .map(|command| command.iter().map(text).collect())
        .collect()
}

#[test]
fn what_clients_and_people_send_is_understood() {
    let input = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n*0\r\n*-1\r\n  SET a  b \n\r\n";
    let (found, end) = commands(input, usize::MAX);
    assert_eq!(end, Ok(()));
    let expected: Vec<Vec<&str>> = vec![
        vec!["GET", "k"],
        vec!["PING"],
        vec![],
        vec![],
        vec!["SET", "a", "b"],
        vec![],
    ];
    assert_eq!(words_of(&found), expected);
}

#[test]
fn quotes_of_an_inline_command_are_redis_own() {
    for (line, expected) in [
        (r#"SET k "a b""#, Some(vec!["SET", "k", "a b"])),
        (r#"SET k 'a\'b'"#, Some(vec!["SET", "k", "a'b"])),
        (r#"SET k "\x41\n\"\q""#, Some(vec!["SET", "k", "A\n\"q"])),
        (r#"SET k """#, Some(vec!["SET", "k", ""])),
        (r#"SET k "a"b"#, None),
        (r#"SET k "a"#, None),
        (r#"SET k 'a"#, None),
    ] {
        let (found, end) = commands(format!("{line}\r\n").as_bytes(), usize::MAX);
        match expected {
            Some(words) => assert_eq!(words_of(&found), [words], "{line}"),
            None => assert_eq!(
                end,
                Err("Protocol error: unbalanced quotes in request"),
                "{line}"
            ),
        }
    }
}

#[test]
fn what_is_no_command_is_refused_as_redis_refuses_it() {
    let long_line = [b'a'; 70_000];
    for (input, text) in [
        (
            &b"*2000000\r\n"[..],
            "Protocol error: invalid multibulk length",
        ),
        (b"*x\r\n", "Protocol error: invalid multibulk length"),
        (
            b"*1\r\n$2000000000\r\n",
            "Protocol error: invalid bulk length",
        ),
        (b"*1\r\n$-5\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n:1\r\n", "Protocol error: expected '$'"),
        (
            b"*1\r\n$1\r\nabc",
            "Protocol error: a bulk string is longer than it says",
        ),
        (&long_line, "Protocol error: too big inline request"),
    ] {
        for piece_bytes in [1, 3, usize::MAX] {
            let (found, end) = commands(input, piece_bytes);
            assert_eq!((found.len(), end), (0, Err(text)), "{}", text);
        }
    }
}

#[test]
fn a_declared_length_allocates_nothing() {
    let (mut parser, mut words) = (Parser::default(), Vec::new());
    let input = b"*1000000\r\n$1000000\r\nab";
    assert!(matches!(
        parser.parse(input, 1 << 20, &mut words),
        Parse::NeedMore(_)
    ));
    assert!(words.capacity() < 100);
}

#[test]
fn a_million_elements_in_small_pieces_are_read_once() {
    let mut input = b"*1000000\r\n".to_vec();
    (0..1_000_000).for_each(|_| input.extend_from_slice(b"$1\r\nk\r\n"));
    let (found, end) = commands(&input, 1000);
    assert_eq!((found.len(), end), (1, Ok(())));
    assert_eq!(found[0].len(), 1_000_000);
}

proptest! {
    #[test]
    fn any_cut_of_the_bytes_gives_the_same_commands(
        words in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 1..5), 1..5),
        piece_bytes in 1_usize..40,
    ) {
        prop_assert_eq!(commands(&encoded(&words), piece_bytes), (words, Ok(())));
    }

    #[test]
    fn garbage_is_the_same_garbage_in_any_pieces(
        input in proptest::collection::vec(
            prop_oneof![Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'"'), any::<u8>()], 0..200),
        piece_bytes in 1_usize..40,
    ) {
        let whole = commands(&input, usize::MAX);
        let pieces = commands(&input, piece_bytes);
        prop_assert_eq!(&whole.0, &pieces.0);
        prop_assert_eq!(whole.1, pieces.1);
    }
}
