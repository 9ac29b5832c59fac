//! The directory against a real file system.

use std::fs;

use super::{Directory, DirectoryError, DirectoryOptions};

#[test]
fn a_directory_keeps_its_node_and_shape_and_counts_its_starts() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let first = Directory::open(temp.path(), &DirectoryOptions::default()).expect("opens");
    let (node, seed, segment, starts) = (
        first.node_id(),
        first.tag_seed(),
        first.segment_bytes(),
        first.starts(),
    );
    drop(first);
    let options = DirectoryOptions {
        segment_bytes: Some(1 << 20),
        ..DirectoryOptions::default()
    };
    let second = Directory::open(temp.path(), &options).expect("opens again");
    assert_eq!(
        (second.node_id(), second.tag_seed(), second.segment_bytes()),
        (node, seed, segment)
    );
    assert_eq!(second.starts(), starts + 1);
}

#[test]
fn a_second_user_is_refused_and_told_who_has_it() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let _first = Directory::open(temp.path(), &DirectoryOptions::default()).expect("opens");
    let refused = Directory::open(temp.path(), &DirectoryOptions::default()).expect_err("in use");
    let pid = std::process::id().to_string();
    assert!(
        matches!(&refused, DirectoryError::InUse { pid: found, .. } if *found == pid),
        "{refused}"
    );
}

#[test]
fn a_newer_format_a_broken_superblock_and_foreign_files_are_refused() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    drop(Directory::open(temp.path(), &DirectoryOptions::default()).expect("opens"));
    let file = temp.path().join("node.toml");
    let text = fs::read_to_string(&file).expect("reads");
    fs::write(&file, text.replace("format = 1", "format = 99")).expect("writes");
    let newer = Directory::open(temp.path(), &DirectoryOptions::default()).expect_err("newer");
    assert!(
        matches!(newer, DirectoryError::Newer { found: 99, .. }),
        "{newer}"
    );
    fs::write(&file, "format = 1\nnode_id = 3").expect("writes");
    let broken = Directory::open(temp.path(), &DirectoryOptions::default()).expect_err("broken");
    assert!(
        matches!(broken, DirectoryError::Superblock { .. }),
        "{broken}"
    );
    let foreign = tempfile::tempdir().expect("a temporary directory");
    fs::write(foreign.path().join("letter.txt"), "dear").expect("writes");
    let refused =
        Directory::open(foreign.path(), &DirectoryOptions::default()).expect_err("foreign");
    assert!(
        matches!(refused, DirectoryError::Foreign { .. }),
        "{refused}"
    );
}

#[test]
fn a_directory_may_have_been_measured_before_its_first_use() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    fs::write(temp.path().join("io.toml"), "").expect("written");
    let options = DirectoryOptions {
        block_bytes: Some(16_384),
        ..DirectoryOptions::default()
    };
    let directory = Directory::open(temp.path(), &options).expect("opens");
    assert_eq!(directory.block_bytes(), 16_384);
}
