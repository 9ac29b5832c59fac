//! TLS on every port of a real node: who is let in, who is not, and that nobody's nonsense is another's trouble.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gramme::client::{Client, ClientError, ClientOptions, ClientTls, blocking};
use gramme::tls::{NODE_NAME, Stream};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::fixture::{Authority, Files};
use crate::node::{Node, Redis, WAIT, complaint, connect, run, until};

fn section(files: &Files) -> String {
    format!(
        "[tls]\ncert = '{}'\nkey = '{}'\nca = '{}'\n",
        files.cert.display(),
        files.key.display(),
        files.ca.display()
    )
}

fn client_tls(files: &Files) -> ClientTls {
    ClientTls::read(&files.ca, Some((&files.cert, &files.key))).expect("a certificate")
}

fn options(tls: Option<ClientTls>) -> ClientOptions {
    ClientOptions {
        tls,
        tries_max: 2,
        ..ClientOptions::default()
    }
}

/// One node, and a client's certificate.
struct Secured {
    node: Node,
    client: Files,
    dir: tempfile::TempDir,
}

fn secured(more: &str) -> Secured {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new();
    let own = authority.issue(dir.path(), "node", &[NODE_NAME, "localhost"]);
    let client = authority.issue(dir.path(), "client", &["a-client"]);
    let node = Node::start(dir.path(), &format!("{more}{}", section(&own)), &[]);
    Secured { node, client, dir }
}

/// As a client of the Redis protocol does it that knows nothing of gramme: it checks the host's name.
fn redis(node: &Node, ca: &Path) -> Redis<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(ca).expect("a certificate");
    roots.add(ca).expect("an authority's");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("it begins");
    Redis(StreamOwned::new(connection, connect(&node.resp())))
}

#[test]
fn a_redis_client_speaks_over_tls_and_says_the_password_there() {
    let passwords = tempfile::tempdir().expect("a directory");
    let file = passwords.path().join("password");
    std::fs::write(&file, "secret").expect("written");
    let secured = secured(&format!("[auth]\npassword_file = '{}'\n", file.display()));
    let mut redis = redis(&secured.node, &secured.client.ca);
    assert!(redis.say("SET k v").starts_with("-NOAUTH"));
    assert_eq!(redis.say("AUTH secret"), "+OK");
    assert_eq!(redis.say("SET k v"), "+OK");
    assert_eq!(redis.say("GET k"), "v");
    // More than goes into one record, and more than is sealed at once, each way.
    let long = "x".repeat(500_000);
    let set = format!("*3\r\n$3\r\nSET\r\n$4\r\nlong\r\n$500000\r\n{long}");
    assert_eq!(redis.say(&set), "+OK");
    assert_eq!(redis.say("GET long"), long);
    assert_eq!(redis.say("QUIT"), "+OK");
    let mut rest = Vec::new();
    let ended = redis.0.read_to_end(&mut rest);
    assert_eq!(ended.expect("it was told that this was all"), 0);
}

#[test]
fn native_clients_show_a_certificate_and_others_are_told_why_not() {
    let secured = secured("");
    let node = &secured.node;
    let addresses = [node.native()];
    let tls = client_tls(&secured.client);
    let client = blocking::Client::connect_with(&addresses, options(Some(tls.clone())));
    let client = client.expect("let in");
    let value: Vec<u8> = (0..500_000_u32).map(|at| at as u8).collect();
    client.put(b"k", &value, None).expect("written");
    let read = client.get(b"k").expect("read");
    assert!(read.latest() == Some(&value[..]), "it came back otherwise");

    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let again = runtime.block_on(async {
        let client = Client::connect_with(&addresses, options(Some(tls))).await?;
        client.put(b"l", &value, None).await?;
        client.get(b"l").await
    });
    assert!(again.expect("read").latest() == Some(&value[..]));

    // Without a certificate, with another authority's, and without TLS.
    let bare = ClientTls::read(&secured.client.ca, None).expect("an authority");
    let strangers = Authority::new().issue(secured.dir.path(), "stranger", &["a-client"]);
    let stranger = ClientTls::read(&secured.client.ca, Some((&strangers.cert, &strangers.key)));
    let refused = |tls: Option<ClientTls>| -> ClientError {
        let client = blocking::Client::connect_with(&addresses, options(tls));
        let read = client.and_then(|client| {
            let rules = gramme::client::RequestOptions::default();
            client
                .with(rules.deadline(Duration::from_secs(2)))
                .get(b"k")
        });
        read.expect_err("refused")
    };
    let without = refused(Some(bare)).to_string();
    assert!(without.contains("CertificateRequired"), "{without}");
    let strange = refused(Some(stranger.expect("a certificate"))).to_string();
    assert!(strange.contains("alert"), "{strange}");
    let unsealed = refused(None).to_string();
    assert!(unsealed.contains("it speaks TLS"), "{unsealed}");
    // The other way round: the node is not who the client wants.
    let distrusting = client_tls(&strangers);
    let distrust = refused(Some(distrusting)).to_string();
    assert!(distrust.contains("peer certificate"), "{distrust}");
    assert_eq!(
        client.get(b"k").expect("read").values.len(),
        1,
        "others are served"
    );
}

#[test]
fn the_command_line_takes_certificates_by_flags_and_by_the_environment() {
    let secured = secured("");
    let native = secured.node.native();
    let path = |path: &Path| path.to_str().expect("text").to_owned();
    let client = &secured.client;
    let (ca, cert, key) = (path(&client.ca), path(&client.cert), path(&client.key));
    let flags = ["--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &key];
    let environment = [
        ("GRAMME_TLS_CA", ca.as_str()),
        ("GRAMME_TLS_CERT", &cert),
        ("GRAMME_TLS_KEY", &key),
    ];
    let put = [&["put", "k", "v", "--node", &native], &flags[..]].concat();
    let done = run(&put, &[]);
    assert!(done.status.success(), "{done:?}");
    let got = run(&["get", "k", "--node", &native], &environment);
    assert_eq!(got.stdout, b"v\n", "{got:?}");
    let status = run(&["cluster", "status", "--node", &native], &environment);
    assert!(status.status.success(), "{status:?}");
    let top = [
        "top", "--once", "--every", "0.1", "--tls-ca", &ca, "--admin",
    ];
    let top = run(&[&top[..], &[&secured.node.admin()]].concat(), &[]);
    assert!(top.status.success(), "{top:?}");
    assert!(
        String::from_utf8_lossy(&top.stdout).contains("serving"),
        "{top:?}"
    );

    let without = run(&["cluster", "status", "--node", &native], &[]);
    assert_eq!(without.status.code(), Some(3), "{without:?}");
    assert!(complaint(&without).contains("it speaks TLS"), "{without:?}");
    let half = run(&["get", "k", "--tls-cert", &cert], &[]);
    assert_eq!(half.status.code(), Some(2));
    assert!(complaint(&half).contains("--tls-key"), "{half:?}");
}

#[test]
fn garbage_and_half_handshakes_end_only_their_own_connections() {
    let secured = secured("");
    let node = &secured.node;
    let mut served = redis(node, &secured.client.ca);
    assert_eq!(served.say("SET k v"), "+OK");
    let mut half = Vec::new();
    for address in [node.native(), node.resp(), node.admin()] {
        let mut garbage = connect(&address);
        garbage
            .write_all(b"PING\r\nGET / HTTP/1.0\r\n\r\n")
            .expect("taken");
        let mut rest = Vec::new();
        // It ends; by what, the system decides.
        let _ = garbage.read_to_end(&mut rest);
        assert!(rest.len() < 32, "only an alert is said to it: {rest:?}");
        // The beginning of a record that never goes on.
        let mut begun = connect(&address);
        begun.write_all(&[22, 3, 1, 1, 0, 1]).expect("taken");
        half.push((begun, connect(&address)));
    }
    assert_eq!(served.say("GET k"), "v");
    // They and those that say nothing at all are closed by the node, since nobody else will.
    for (begun, silent) in half {
        for mut stream in [begun, silent] {
            stream.set_read_timeout(Some(WAIT)).expect("settable");
            let mut rest = Vec::new();
            let read = stream.read_to_end(&mut rest);
            let is_late = read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
            assert!(!is_late, "it was kept");
        }
    }
    assert_eq!(served.say("GET k"), "v", "who was known stays");
    let tls = client_tls(&secured.client);
    let status = status(&node.admin(), &tls);
    assert_eq!(
        status["network"]["connections_closed_strangers"], 4,
        "{status}"
    );
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let ends_s = status["network"]["certificate_ends_seconds"].as_u64();
    assert!(
        ends_s > Some(now.expect("after 1970").as_secs()),
        "{status}"
    );
    assert!(
        status["network"]["tls_failures"].as_u64() >= Some(2),
        "{status}"
    );
}

/// What these keep for others.
fn nodes_hints(admins: &[String], tls: &ClientTls) -> u64 {
    let kept = admins.iter().map(|admin| {
        let status = status(admin, tls);
        status["hints_pending"].as_u64().unwrap_or(u64::MAX)
    });
    kept.fold(0, u64::saturating_add)
}

/// A node's `/status`.
fn status(admin: &str, tls: &ClientTls) -> serde_json::Value {
    let address = admin.parse().expect("an address");
    let mut stream = Stream::connect(&address, WAIT, Some(tls)).expect("connected");
    stream
        .write_all(b"GET /status HTTP/1.0\r\n\r\n")
        .expect("taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    serde_json::from_str(body).expect("JSON")
}

#[test]
fn three_nodes_with_certificates_form_a_cluster_and_a_client_cannot_join_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new();
    let of_client = authority.issue(dir.path(), "client", &["a-client"]);
    let tls = client_tls(&of_client);
    let mut nodes: Vec<Node> = Vec::new();
    for name in ["a", "b", "c"] {
        let join = nodes
            .first()
            .map(|first| format!("join = ['{}']\n", first.native()));
        let own = authority.issue(dir.path(), name, &[NODE_NAME]);
        let config = format!("{}{}", join.unwrap_or_default(), section(&own));
        nodes.push(Node::start(&dir.path().join(name), &config, &[]));
    }
    let first = nodes[0].native();
    let ask = |command: &str| -> serde_json::Value {
        let answer = gramme::client::operate(&first, command.as_bytes(), WAIT, Some(&tls));
        serde_json::from_slice(&answer.expect("answered")).expect("JSON")
    };
    let members =
        |status: &serde_json::Value| status["members"].as_array().cloned().unwrap_or_default();
    until("three that know each other", || {
        let members = members(&ask(r#"{"command":"status"}"#));
        members.len() == 3 && members.iter().all(|member| member["is_alive"] == true)
    });
    ask(r#"{"command":"plan"}"#);
    let done = ask(r#"{"command":"commit","plan":null}"#);
    assert!(done["error"].is_null(), "{done}");
    until("three that hold everything", || {
        let members = members(&ask(r#"{"command":"status"}"#));
        members
            .iter()
            .all(|member| member["pending"] == 0 && member["target"] != 0)
    });
    let rules = gramme::client::RequestOptions::default()
        .quorum(3, 1, 3)
        .strict();
    let client =
        blocking::Client::connect_with(std::slice::from_ref(&first), options(Some(tls.clone())));
    let client = client.expect("let in").with(rules);
    let written = client.put(b"k", b"v", None).expect("written");
    assert_eq!(written.receipt.replicas, 3);
    for node in &nodes {
        let client = blocking::Client::connect_with(&[node.native()], options(Some(tls.clone())));
        let read = client.expect("let in").get(b"k").expect("read");
        assert_eq!(read.latest(), Some(b"v".as_slice()));
    }
    let first_two = [nodes[0].admin(), nodes[1].admin()];
    // One is killed; what it misses comes to it over new connections when it is back.
    let values: Vec<Vec<u8>> = (0..100_u8).map(|number| vec![number; 100_000]).collect();
    nodes[2].kill_and_start(|| {
        let rules = gramme::client::RequestOptions::default().quorum(3, 1, 2);
        let client = client.with(rules);
        for (number, value) in values.iter().enumerate() {
            client
                .put(&number.to_be_bytes(), value, None)
                .expect("written");
        }
        let hints: u64 = nodes_hints(&first_two, &tls);
        assert!(hints > 0, "nobody has kept anything for it");
    });
    until("nothing kept for it any more", || {
        nodes_hints(&first_two, &tls) == 0
    });
    let rules = gramme::client::RequestOptions::default()
        .quorum(3, 3, 3)
        .strict();
    let all = client.with(rules);
    for (number, value) in values.iter().enumerate() {
        let read = all.get(&number.to_be_bytes()).expect("read by three");
        assert!(
            read.latest() == Some(&value[..]),
            "{number} came back otherwise"
        );
    }
    // Whoever has a client's certificate may read and write, but is no node.
    let mut stream = Stream::connect(&first.parse().expect("an address"), WAIT, Some(&tls));
    let stream = stream.as_mut().expect("connected");
    let hello = gramme::wire::PeerHello {
        versions: gramme::wire::Versions::OWN,
        cluster: 0,
        from: gramme_core::base::ids::NodeId(99),
        from_shard: gramme_core::base::ids::ShardIndex(0),
        to: gramme_core::base::ids::NodeId::default(),
        lane: gramme::wire::PeerLane::Control,
    };
    let mut frame = Vec::new();
    gramme::wire::encode(
        &mut frame,
        u64::MAX,
        true,
        &gramme::wire::Message::Peer(hello),
    );
    stream.write_all(&frame).expect("taken");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let gramme::wire::Parse::Done(frame) = gramme::wire::parse(&answer) else {
        panic!("no frame: {answer:?}");
    };
    let gramme::wire::Message::Error(problem) = frame.message else {
        panic!("it was taken for a node: {:?}", frame.message);
    };
    assert!(problem.message.contains(NODE_NAME), "{}", problem.message);
    // A node of another authority is not spoken with, and says why.
    let own = Authority::new().issue(dir.path(), "d", &[NODE_NAME]);
    let config = format!("join = ['{first}']\n{}", section(&own));
    let stranger = Node::start(&dir.path().join("d"), &config, &[]);
    until("a stranger that says that it is not heard", || {
        stranger
            .said()
            .contains("a node is not spoken with over TLS")
    });
    assert_eq!(members(&ask(r#"{"command":"status"}"#)).len(), 3);
}
