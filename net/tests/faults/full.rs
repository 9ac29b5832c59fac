//! A file system that fills: writes are refused, everything else goes on, and so do writes when there is room again.
//!
//! The file system is a file of its own behind a loop device, mounted in a mount namespace of the node's own: both are
//! gone when the process is.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::alone;
use crate::cluster::{Node, PROGRAM, until};

const DISK_BYTES: u64 = 48 << 20;
const BALLAST_MIB: u32 = 12;
const VALUE_BYTES: usize = 64 << 10;

pub(crate) struct Redis(BufReader<TcpStream>);

impl Redis {
    pub(crate) fn connect(node: &Node) -> Self {
        let stream = TcpStream::connect(node.resp()).expect("it listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("settable");
        Self(BufReader::new(stream))
    }

    /// The first line of the answer, or the value.
    pub(crate) fn command(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&bytes).expect("taken");
        let mut line = String::new();
        self.0.read_line(&mut line).expect("an answer");
        let line = line.trim_end();
        match line
            .strip_prefix('$')
            .and_then(|bytes| bytes.parse::<usize>().ok())
        {
            None => line.as_bytes().to_vec(),
            Some(bytes) => {
                let mut value = vec![0; bytes + 2];
                self.0.read_exact(&mut value).expect("the value");
                value.truncate(bytes);
                value
            }
        }
    }
}

fn value(number: usize) -> Vec<u8> {
    let mut value = number.to_le_bytes().to_vec();
    value.resize(VALUE_BYTES, number as u8);
    value
}

#[test]
fn a_full_file_system_refuses_writes_only_and_only_while_it_is_full() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let (image, mount) = (dir.path().join("image"), dir.path().join("mount"));
    fs::create_dir(&mount).expect("made");
    let file = fs::File::create(&image).expect("made");
    file.set_len(DISK_BYTES).expect("sparse");
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-m", "0"])
        .arg(&image)
        .stderr(Stdio::null())
        .status();
    let mounts = Command::new("unshare")
        .args([
            "-m",
            "sh",
            "-c",
            "mount -o loop \"$0\" \"$1\" && mkdir \"$1/n\"",
        ])
        .args([&image, &mount])
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|made| made.success()) || !mounts.is_ok_and(|mounted| mounted.success()) {
        eprintln!(
            "skipped: a file system of its own needs root, mkfs.ext4, unshare and loop devices"
        );
        return;
    }
    let mut node = Node::new(dir.path(), "n0", "127.0.0.1");
    node.data = mount.join("n");
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c"])
        .arg(format!(
            "mount -o loop \"$0\" \"$1\" && head -c {BALLAST_MIB}M /dev/zero > \"$1/ballast\" && shift && exec \"$@\""
        ))
        .args([&image, &mount])
        .arg(PROGRAM)
        .args(node.arguments(None));
    node.start_as(command);

    let mut redis = Redis::connect(&node);
    let (mut operations, mut acknowledged) = (0, Vec::new());
    let refusal = loop {
        let number = operations;
        operations += 1;
        let answer = redis.command(&[b"SET", format!("k{number}").as_bytes(), &value(number)]);
        if answer != b"+OK" {
            break String::from_utf8_lossy(&answer).into_owned();
        }
        acknowledged.push(number);
        assert!(
            number * VALUE_BYTES < DISK_BYTES as usize,
            "more than the disk has was taken"
        );
    };
    assert!(refusal.starts_with("-DISKFULL"), "{refusal}");
    assert!(
        acknowledged.len() > 50,
        "only {} were taken",
        acknowledged.len()
    );

    let mut lost = Vec::new();
    let mut check = |redis: &mut Redis, numbers: &[usize]| {
        for number in numbers {
            if redis.command(&[b"GET", format!("k{number}").as_bytes()]) != value(*number) {
                lost.push(*number);
            }
        }
    };
    check(&mut redis, &acknowledged);
    let deleted = acknowledged.pop().expect("some");
    let key = format!("k{deleted}");
    assert_eq!(
        redis.command(&[b"DEL", key.as_bytes()]),
        b":1",
        "deletes go on"
    );
    assert_eq!(redis.command(&[b"GET", key.as_bytes()]), b"$-1");

    let ballast = format!(
        "/proc/{}/root{}/ballast",
        node.pid().as_raw_nonzero(),
        mount.display()
    );
    fs::remove_file(&ballast).expect("the ballast");
    until("writes that go on where there is room", || {
        operations += 1;
        redis.command(&[b"SET", b"after", b"there is room"]) == b"+OK"
    });
    check(&mut redis, &acknowledged);
    assert_eq!(redis.command(&[b"GET", b"after"]), b"there is room");
    eprintln!(
        "record full: operations {operations}, acknowledged {}, faults 1, lost {}",
        acknowledged.len() + 2,
        lost.len()
    );
    assert_eq!(lost, Vec::<usize>::new());
}
