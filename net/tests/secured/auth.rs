//! Passwords and tokens, without TLS: on the loopback.

use std::fs;
use std::io::{ErrorKind, Read as _};

use crate::node::{Node, complaint, connect, run};

const PASSWORD: &str = "a-password-of-this-test";
const TOKEN: &str = "a-token-of-this-test";

const NOAUTH: &str = "-NOAUTH Authentication required.";
const WRONGPASS: &str = "-WRONGPASS invalid username-password pair or user is disabled.";

#[test]
fn a_redis_client_says_the_password_first_and_nothing_shows_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("password");
    fs::write(&file, format!("{PASSWORD}\n")).expect("written");
    let config = format!("[auth]\npassword_file = '{}'\n", file.display());
    let node = Node::start(dir.path(), &config, &[]);
    let mut redis = node.redis();
    for (said, answer) in [
        ("SET k v", NOAUTH),
        ("GET k", NOAUTH),
        ("AUTH wrong", WRONGPASS),
        (&format!("AUTH {PASSWORD}x"), WRONGPASS),
        ("GET k", NOAUTH),
        (&format!("AUTH {PASSWORD}"), "+OK"),
        ("SET k v", "+OK"),
        ("GET k", "v"),
    ] {
        assert_eq!(redis.say(said), answer, "{said}");
    }
    assert_eq!(node.redis().say("GET k"), NOAUTH, "each connection says it");
    let status = node.http("GET /status HTTP/1.0\r\n\r\n");
    let metrics = node.http("GET /metrics HTTP/1.0\r\n\r\n");
    let config = redis.say("CONFIG GET requirepass");
    let said = node.stop();
    for shown in [status, metrics, config, said] {
        assert!(!shown.contains(PASSWORD), "{shown}");
    }
}

#[test]
fn who_does_not_say_the_password_in_time_is_closed() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), "", &[("GRAMME_PASSWORD", PASSWORD)]);
    let mut known = node.redis();
    assert_eq!(known.say(&format!("AUTH {PASSWORD}")), "+OK");
    let mut asking = node.redis();
    assert_eq!(asking.say("PING"), NOAUTH);
    // The admin server says to everybody how the node does, but waits for nobody to ask.
    for mut stranger in [node.redis().0, asking.0, connect(&node.admin())] {
        let mut rest = Vec::new();
        let read = stranger.read_to_end(&mut rest);
        assert!(
            !read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock),
            "it was kept"
        );
    }
    // Known once is known, also when it starts afresh much later.
    assert_eq!(known.say("RESET"), "+RESET");
    assert_eq!(known.say("PING"), NOAUTH);
    assert_eq!(known.say(&format!("AUTH {PASSWORD}")), "+OK");
}

#[test]
fn who_changes_the_cluster_says_the_token_and_who_looks_need_not() {
    let dir = tempfile::tempdir().expect("a directory");
    // The file's is another one: the environment goes before it.
    let file = dir.path().join("token");
    fs::write(&file, "another").expect("written");
    let config = format!("[auth]\nadmin_token_file = '{}'\n", file.display());
    let node = Node::start(dir.path(), &config, &[("GRAMME_ADMIN_TOKEN", TOKEN)]);
    let address = node.native();
    let cluster = |words: &[&str], environment: &[(&str, &str)]| {
        run(
            &[&["cluster", "--node", &address], words].concat(),
            environment,
        )
    };
    let set = ["buckets", "carts", "--n", "1", "--r", "1", "--w", "1"];
    assert!(cluster(&["status"], &[]).status.success());
    assert!(cluster(&["buckets"], &[]).status.success());
    let refused = cluster(&set, &[]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(
        complaint(&refused).contains("GRAMME_ADMIN_TOKEN"),
        "{refused:?}"
    );
    let wrong = [("GRAMME_ADMIN_TOKEN", "wrong")];
    assert_eq!(cluster(&set, &wrong).status.code(), Some(3));
    let buckets = cluster(&["buckets", "--json"], &[]);
    assert!(!String::from_utf8_lossy(&buckets.stdout).contains("carts"));
    fs::write(&file, format!("{TOKEN}\n")).expect("written");
    let named = ["--admin-token-file", file.to_str().expect("text")];
    let done = cluster(&[&set[..], &named].concat(), &[]);
    assert!(done.status.success(), "{done:?}");

    let post = |authorization: &str, command: &str| {
        node.http(&format!(
            "POST /cluster HTTP/1.0\r\n{authorization}content-length: {}\r\n\r\n{command}",
            command.len()
        ))
    };
    let repair = r#"{"command":"repair"}"#;
    assert!(post("", repair).starts_with("HTTP/1.0 401"));
    assert!(post("authorization: Bearer wrong\r\n", repair).starts_with("HTTP/1.0 401"));
    let right = format!("authorization: Bearer {TOKEN}\r\n");
    let done = post(&right, repair);
    assert!(
        done.starts_with("HTTP/1.0 200") && done.contains("being compared"),
        "{done}"
    );
    assert!(post(&right, "{}").starts_with("HTTP/1.0 400"));
    let status = node.http("GET /status HTTP/1.0\r\n\r\n");
    assert!(status.starts_with("HTTP/1.0 200"), "{status}");
    let said = node.stop();
    for shown in [status, said] {
        assert!(!shown.contains(TOKEN), "{shown}");
    }
}

#[test]
fn a_node_without_a_token_changes_nothing_over_http() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), "", &[]);
    let answer = node.http("POST /cluster HTTP/1.0\r\ncontent-length: 2\r\n\r\n{}");
    assert!(answer.starts_with("HTTP/1.0 403"), "{answer}");
    assert!(answer.contains("GRAMME_ADMIN_TOKEN"), "{answer}");
}

#[test]
fn a_secret_that_cannot_be_read_keeps_a_node_from_starting() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let config = dir.path().join("gramme.toml");
    let start = |auth: &str, environment: &[(&str, &str)]| {
        fs::write(&config, auth).expect("written");
        let words = ["serve", "--data", data.to_str().expect("text"), "--config"];
        run(
            &[&words[..], &[config.to_str().expect("text")]].concat(),
            environment,
        )
    };
    let missing = start("[auth]\npassword_file = '/nowhere/password'\n", &[]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(
        complaint(&missing).contains("/nowhere/password"),
        "{missing:?}"
    );
    let empty = start("", &[("GRAMME_ADMIN_TOKEN", "")]);
    assert_eq!(empty.status.code(), Some(2));
    assert!(
        complaint(&empty).contains("GRAMME_ADMIN_TOKEN is empty"),
        "{empty:?}"
    );
}
