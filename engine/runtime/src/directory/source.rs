//! A shard's files as a start reads them: plain blocking reads, before the shard runs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use gramme_core::base::ids::SegmentId;
use gramme_core::port::{FileId, IoError, IoKind, Source};

use crate::disk::file_name;

/// The files of one shard.
///
/// Reads go through the page cache: they are long and in order, and the kernel reads ahead.
#[derive(Debug)]
pub struct FileSource {
    dir: PathBuf,
    open: BTreeMap<FileId, Option<File>>,
}

impl FileSource {
    /// Of a directory.
    pub const fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            open: BTreeMap::new(),
        }
    }
}

fn failed(error: &std::io::Error) -> IoError {
    IoError {
        kind: IoKind::Failed,
        errno: error.raw_os_error().unwrap_or(0),
    }
}

impl Source for FileSource {
    fn segments(&self) -> Vec<(SegmentId, u64)> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut found: Vec<_> = entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let id = name.strip_prefix("segment-")?.strip_suffix(".log")?;
                let id = u32::from_str_radix(id, 16).ok()?;
                Some((SegmentId(id), entry.metadata().ok()?.len()))
            })
            .collect();
        found.sort_unstable();
        found
    }

    fn read(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> Result<usize, IoError> {
        if !self.open.contains_key(&file) {
            let opened = match File::open(self.dir.join(file_name(file))) {
                Ok(opened) => Some(opened),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(failed(&error)),
            };
            self.open.insert(file, opened);
        }
        let Some(Some(opened)) = self.open.get(&file) else {
            return Ok(0);
        };
        let mut read = 0;
        while read < into.len() {
            match opened.read_at(&mut into[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(&error)),
            }
        }
        Ok(read)
    }
}
