//! A run's folder on disk.
//!
//! ```text
//!   run.json        the report            windows.json    the series, packed
//!   workload.toml   what was asked        response.hlog   intervals for other tools
//! ```
//!
//! Owns the names. Never overwrites another run: a folder that holds one already is refused.

use std::fmt;
use std::fs;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::hlog;
use super::report::RunReport;
use crate::load::window::Window;
use crate::workload::Workload;

/// A run that was saved.
#[derive(Debug, Clone)]
pub struct SavedRun {
    /// Its folder.
    pub folder: PathBuf,
    /// Its report.
    pub report: RunReport,
    /// Its series.
    pub windows: Vec<Window>,
}

/// Something in a folder could not be written or read.
#[derive(Debug)]
pub struct FolderError {
    path: PathBuf,
    doing: &'static str,
    cause: String,
}

impl fmt::Display for FolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot {} {}: {}",
            self.doing,
            self.path.display(),
            self.cause
        )
    }
}

impl std::error::Error for FolderError {}

fn failed(doing: &'static str, path: &Path, cause: impl fmt::Display) -> FolderError {
    FolderError {
        path: path.to_owned(),
        doing,
        cause: cause.to_string(),
    }
}

/// Saves a run into `folder`, which is made.
pub fn save(
    folder: &Path,
    report: &RunReport,
    windows: &[Window],
    workload: &Workload,
) -> Result<(), FolderError> {
    fs::create_dir_all(folder).map_err(|error| failed("make the folder", folder, error))?;
    let run = folder.join("run.json");
    if run.exists() {
        return Err(failed(
            "write",
            &run,
            "a run is there already; choose another --out",
        ));
    }
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| failed("write", &path, error))
    };
    let json = |path: &Path, value: serde_json::Result<String>| {
        value.map_err(|error| failed("write", path, error))
    };
    write(
        "workload.toml",
        toml::to_string(workload).map_err(|error| failed("write", folder, error))?,
    )?;
    write(
        "windows.json",
        json(folder, serde_json::to_string(windows))?,
    )?;
    let path = folder.join("response.hlog");
    let started = SystemTime::UNIX_EPOCH + Duration::from_secs(report.started_unix_s);
    fs::File::create(&path)
        .and_then(|file| {
            hlog::write(
                &mut BufWriter::new(file),
                windows,
                Duration::from_secs_f64(report.window_s),
                started,
            )
        })
        .map_err(|error| failed("write", &path, error))?;
    // Last, so that a folder with this file is whole.
    write(
        "run.json",
        json(&run, serde_json::to_string_pretty(report))? + "\n",
    )
}

/// Whether a folder holds a run.
pub fn holds_run(folder: &Path) -> bool {
    folder.join("run.json").is_file()
}

/// Reads a run back.
pub fn load(folder: &Path) -> Result<SavedRun, FolderError> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).map_err(|error| {
            let hint = if error.kind() == io::ErrorKind::NotFound {
                " (not the folder of a run?)"
            } else {
                ""
            };
            failed("read", &path, format!("{error}{hint}"))
        })
    };
    let parse =
        |name: &str, error: serde_json::Error| failed("understand", &folder.join(name), error);
    let report =
        serde_json::from_str(&read("run.json")?).map_err(|error| parse("run.json", error))?;
    let windows = serde_json::from_str(&read("windows.json")?)
        .map_err(|error| parse("windows.json", error))?;
    Ok(SavedRun {
        folder: folder.to_owned(),
        report,
        windows,
    })
}
