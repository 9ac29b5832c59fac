//! Several commands at once: the order of their answers and of what they do, and how many are under way.

use super::*;

#[test]
fn answers_keep_the_order_of_commands_whatever_order_the_shards_answer_in() {
    let lines = b"SET a 1\r\nSET b 2\r\nPING\r\nMGET a b none\r\nDEL a none b\r\nEXISTS a b\r\nDBSIZE\r\nSCAN 0\r\nPING x\r\nQUIT\r\nPING\r\n";
    let (mut first, mut last) = (client(), client());
    let expected = first.send(lines, false);
    assert!(
        expected.ends_with("*2\r\n$1\r\n0\r\n*0\r\n$1\r\nx\r\n+OK\r\n"),
        "{expected}"
    );
    assert_eq!(last.send(lines, true), expected);
    assert!(first.is_ended && last.is_ended);
}

#[test]
fn a_pipeline_of_nothing_but_scans_is_answered_whole() {
    let mut client = client();
    assert_eq!(client.say("SET k v"), "+OK");
    let answers = client.send(&b"SCAN 0\r\n".repeat(600), false);
    assert_eq!(answers.matches("$1\r\nk\r\n").count(), 600);
}

#[test]
fn what_must_not_follow_at_once_waits_for_what_is_under_way_on_its_key() {
    for first in [
        "DEL k",
        "GETDEL k",
        "SET k w NX",
        "SET k w GET",
        "SET k w KEEPTTL",
        "EXPIRE k 10",
        "PERSIST k",
        "GETEX k EX 5",
        "DYN.DEL k ''",
    ] {
        for then in ["SET k v", "GET k", "MGET l k", "MSET l v k v", "DBSIZE"] {
            let mut client = client();
            client.say("SET k v");
            let mut out = Vec::new();
            let lines = format!("{first}\r\nSET other v\r\n{then}\r\nGET l\r\n");
            let used = client.call(&mut out, |session, io| {
                session.received(lines.as_bytes(), io)
            });
            assert_eq!(client.port.answers.len(), 2, "{first}, {then}");
            assert!(client.session.is_blocked() && !client.session.is_idle());
            client.held = lines.as_bytes()[used..].to_vec();
            let (id, outcome, bytes) = client.port.answers.remove(0);
            let (_, tag) = ConnectionId::of(id);
            client.call(&mut out, |session, io| {
                session.reply(tag, &outcome, &bytes, io);
                0
            });
            assert!(!client.session.is_blocked());
            client.send(b"", false);
            assert!(client.held.is_empty() && client.session.is_idle());
        }
    }
    for (lines, under_way) in [
        // A read that waits for the disk would show what is behind it.
        ("GET k\r\nSET k v\r\nGET k\r\n", 1),
        ("MGET a k\r\nMSET b v k v\r\n", 2),
        ("TTL k\r\nDEL k\r\n", 1),
        ("SET k v\r\nGET k\r\nTTL k\r\nSTRLEN k\r\nSET l v\r\n", 5),
        ("SET k v\r\nSET k w\r\nDEL k\r\n", 3),
    ] {
        let mut client = client();
        let lines = lines.as_bytes();
        let used = client.call(&mut Vec::new(), |session, io| session.received(lines, io));
        assert_eq!(
            client.port.answers.len(),
            under_way,
            "{}",
            lines.escape_ascii()
        );
        client.held = lines[used..].to_vec();
        client.send(b"", true);
        assert!(client.held.is_empty() && client.session.is_idle());
    }
    // Within one command too, and nothing else waits.
    let mut client = client();
    client.say("MSET k v l v");
    let lines = b"DEL k l k\r\n";
    client.call(&mut Vec::new(), |session, io| session.received(lines, io));
    assert_eq!(client.port.answers.len(), 2);
    let mut client = self::client();
    let lines = b"DEL k\r\nSET l v\r\nGET m\r\nDEL n o\r\n";
    client.call(&mut Vec::new(), |session, io| session.received(lines, io));
    assert_eq!(client.port.answers.len(), 5);
}

#[test]
fn an_answer_is_of_the_version_in_which_its_command_was_given() {
    let lines = b"GET none\r\nHELLO 3\r\nGET none\r\nRESET\r\nGET none\r\n";
    let answers = client().send(lines, false);
    assert!(answers.starts_with("$-1\r\n%7\r\n"), "{answers}");
    assert!(
        answers.ends_with("*0\r\n_\r\n+RESET\r\n$-1\r\n"),
        "{answers}"
    );
}

#[test]
fn a_command_on_many_keys_has_a_bounded_number_of_requests_under_way() {
    let mut client = client();
    client.say("SET k v");
    let keys = 5000;
    for (name, answer) in [
        ("EXISTS", format!(":{keys}\r\n")),
        ("MGET", format!("*{keys}\r\n{}", "$1\r\nv\r\n".repeat(keys))),
    ] {
        let mut input = format!("*{}\r\n${}\r\n{name}\r\n", keys + 1, name.len());
        input.push_str(&"$1\r\nk\r\n".repeat(keys));
        input.push_str("PING\r\n");
        let expected = format!("{answer}+PONG\r\n");
        assert!(client.send(input.as_bytes(), true) == expected, "{name}");
    }
    assert!(
        client.port.answers_max <= 256,
        "{}",
        client.port.answers_max
    );
}
