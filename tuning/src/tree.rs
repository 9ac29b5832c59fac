//! The host's files under a root: the only way in which the tuner reads or changes a machine.
//!
//! Owns paths, the confinement to `--root DIR`, and the two kinds of write: into a kernel file (one `write` call) and
//! of a configuration file (a new file that replaces the old one).
//! Never decides what to write.
//!
//! Invariants:
//! - under a root other than `/` nothing outside that root is read or written, also through a link;
//! - a tree that is not the live machine answers as the kernel would where that matters: a file of choices
//!   (`[mq-deadline] none`) keeps its list and moves the bracket, and refuses a word that it does not offer;
//! - `write_cache` is never written: the file changes only what the kernel believes, and the belief "write through"
//!   drops the flushes on which durability stands.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The most that is read of one file; every file of interest is far smaller.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Reads and writes the files of one machine. Paths are absolute, as on the machine itself.
pub trait Tree {
    /// The content of a file.
    fn read(&self, path: &str) -> io::Result<String>;
    /// Writes a value into a kernel file, in one call.
    fn write(&mut self, path: &str, value: &str) -> io::Result<()>;
    /// Puts a configuration file in place atomically and durably, or removes it (`None`).
    fn replace(&mut self, path: &str, content: Option<&str>) -> io::Result<()>;
    /// The names in a directory, sorted; empty when there is none.
    fn list(&self, dir: &str) -> Vec<String>;
    /// Whether a path exists.
    fn exists(&self, path: &str) -> bool;
    /// The last part of what a link points to.
    fn link_name(&self, path: &str) -> Option<String>;
    /// Whether this is the machine on which the program runs (system calls tell about it too).
    fn is_live(&self) -> bool;

    /// The trimmed content, `None` when the file cannot be read.
    fn get(&self, path: &str) -> Option<String> {
        self.read(path).ok().map(|text| text.trim().to_owned())
    }
}

/// A directory that holds `/proc`, `/sys`, `/etc` of a machine; `/` is this machine.
#[derive(Debug)]
pub struct RootedTree {
    root: PathBuf,
    live: bool,
}

impl RootedTree {
    /// Opens the tree at `root`.
    pub fn open(root: &Path) -> io::Result<Self> {
        let root = fs::canonicalize(root)?;
        if !root.is_dir() {
            return Err(io::Error::new(
                io::ErrorKind::NotADirectory,
                "not a directory",
            ));
        }
        let live = root == Path::new("/");
        Ok(Self { root, live })
    }

    /// Where a path of the machine lies for this process.
    pub fn resolve(&self, path: &str) -> io::Result<PathBuf> {
        let joined = self.root.join(path.trim_start_matches('/'));
        if path.split('/').any(|part| part == "..") {
            return Err(outside(path));
        }
        if self.live {
            return Ok(joined);
        }
        // The deepest part that exists decides: what is still to be made lies below it.
        let mut probe = joined.as_path();
        loop {
            match fs::canonicalize(probe) {
                Ok(real) if real.starts_with(&self.root) => return Ok(joined),
                Ok(_) => return Err(outside(path)),
                Err(_) if fs::symlink_metadata(probe).is_ok() => return Err(outside(path)),
                Err(_) => probe = probe.parent().ok_or_else(|| outside(path))?,
            }
        }
    }
}

impl Tree for RootedTree {
    fn read(&self, path: &str) -> io::Result<String> {
        let mut bytes = Vec::new();
        File::open(self.resolve(path)?)?
            .take(FILE_BYTES_MAX)
            .read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn write(&mut self, path: &str, value: &str) -> io::Result<()> {
        refuse_untouchable(path)?;
        let file = self.resolve(path)?;
        let content = if self.live {
            value.to_owned()
        } else {
            echo_of_kernel(&fs::read_to_string(&file)?, value)?
        };
        // No `create`: a kernel file that is absent must stay an error. Truncation is ignored by the kernel's files.
        let mut file = OpenOptions::new().write(true).truncate(true).open(file)?;
        file.write_all(content.as_bytes())
    }

    fn replace(&mut self, path: &str, content: Option<&str>) -> io::Result<()> {
        refuse_untouchable(path)?;
        let file = self.resolve(path)?;
        let dir = file.parent().ok_or_else(|| outside(path))?;
        match content {
            None => fs::remove_file(&file)?,
            Some(content) => {
                fs::create_dir_all(dir)?;
                let mode =
                    fs::metadata(&file).map_or(0o644, |meta| meta.permissions().mode() & 0o7777);
                let mut name = file.file_name().unwrap_or_default().to_owned();
                name.push(".gramme-new");
                let new = dir.join(name);
                let mut out = File::create(&new)?;
                out.write_all(content.as_bytes())?;
                out.set_permissions(fs::Permissions::from_mode(mode))?;
                out.sync_all()?;
                fs::rename(&new, &file)?;
            }
        }
        File::open(dir)?.sync_all()
    }

    fn list(&self, dir: &str) -> Vec<String> {
        let Ok(entries) = self.resolve(dir).and_then(fs::read_dir) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort_by_key(|name| natural_key(name));
        names
    }

    fn exists(&self, path: &str) -> bool {
        self.resolve(path).is_ok_and(|path| path.exists())
    }

    fn link_name(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.resolve(path).ok()?).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    fn is_live(&self) -> bool {
        self.live
    }
}

/// Orders `cpu2` before `cpu10`.
fn natural_key(name: &str) -> (String, u64, String) {
    let stem: String = name.chars().take_while(|c| !c.is_ascii_digit()).collect();
    let digits: String = name
        .chars()
        .skip(stem.chars().count())
        .take_while(char::is_ascii_digit)
        .collect();
    (stem, digits.parse().unwrap_or(0), name.to_owned())
}

/// What a kernel file would hold after `value` was written into it.
fn echo_of_kernel(old: &str, value: &str) -> io::Result<String> {
    let newline = if old.ends_with('\n') { "\n" } else { "" };
    if !(old.contains('[') && old.contains(']')) {
        return Ok(format!("{value}{newline}"));
    }
    let words: Vec<&str> = old
        .split_whitespace()
        .map(|word| word.trim_matches(['[', ']']))
        .collect();
    if !words.contains(&value) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the file offers no {value:?}"),
        ));
    }
    let words: Vec<String> = words
        .iter()
        .map(|word| {
            if *word == value {
                format!("[{word}]")
            } else {
                (*word).to_owned()
            }
        })
        .collect();
    Ok(format!("{}{newline}", words.join(" ")))
}

fn refuse_untouchable(path: &str) -> io::Result<()> {
    if path.ends_with("/write_cache") {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "write_cache is never written: it would drop the device's flushes",
        ));
    }
    Ok(())
}

fn outside(path: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("{path} leads out of the root directory"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_choices_moves_its_bracket() {
        assert_eq!(
            echo_of_kernel("none [mq-deadline] bfq\n", "none").unwrap(),
            "[none] mq-deadline bfq\n"
        );
        assert!(echo_of_kernel("none [mq-deadline]\n", "kyber").is_err());
        assert_eq!(echo_of_kernel("60\n", "1").unwrap(), "1\n");
    }

    #[test]
    fn natural_order_counts() {
        assert!(natural_key("cpu2") < natural_key("cpu10"));
    }

    #[test]
    fn write_cache_is_refused_before_anything_is_opened() {
        let error = refuse_untouchable("/sys/block/nvme0n1/queue/write_cache").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
