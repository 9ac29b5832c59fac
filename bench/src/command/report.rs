//! `gramme bench report`.
//!
//! Owns what is gathered from the folders, and the refusal to draw different machines as if they were one.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde::de::DeserializeOwned;

use super::args::ReportArgs;
use super::exit::{Ended, Failure};
use super::{compare, limits, run, search};
use crate::record::folder;
use crate::record::host::HostFacts;
use crate::report::html::{Contents, page};
use crate::report::terminal;

/// Draws.
pub fn report(args: &ReportArgs) -> Result<Ended, Failure> {
    let mut contents = Contents::default();
    for path in &args.folders {
        gather(path, &mut contents)?;
    }
    if !args.force {
        same_machine(&contents)?;
    }
    let mut text = String::new();
    for saved in &contents.runs {
        text += &run::as_text(&saved.report);
        text += &terminal::spectrum(&saved.windows);
        text.push('\n');
    }
    contents
        .searches
        .iter()
        .for_each(|report| text += &(search::as_text(report) + "\n"));
    contents
        .comparisons
        .iter()
        .for_each(|report| text += &(compare::as_text(report) + "\n"));
    contents
        .limits
        .iter()
        .for_each(|report| text += &(limits::as_text(report) + "\n"));
    let html = args
        .html
        .clone()
        .or_else(|| args.folders.first().map(|first| first.join("report.html")))
        .unwrap_or_default();
    fs::write(&html, page(&contents))
        .map_err(|error| Failure::invalid(format!("cannot write {}: {error}", html.display())))?;
    text += &format!("page: {}\n", html.display());
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(Failure::invalid)?;
    Ok(Ended::Met)
}

/// Adds what a folder holds.
fn gather(path: &Path, contents: &mut Contents) -> Result<(), Failure> {
    let (search, compare) = (path.join("search.json"), path.join("compare.json"));
    let mut found = false;
    if search.is_file() {
        contents.searches.push(read(&search)?);
        found = true;
    }
    if compare.is_file() {
        contents.comparisons.push(read(&compare)?);
        found = true;
    }
    let limits = path.join("limits.json");
    if limits.is_file() {
        contents.limits.push(read(&limits)?);
        found = true;
    }
    if folder::holds_run(path) {
        contents
            .runs
            .push(folder::load(path).map_err(Failure::usage)?);
        found = true;
    }
    let confirm = path.join("confirm");
    if search.is_file() && folder::holds_run(&confirm) {
        contents
            .runs
            .push(folder::load(&confirm).map_err(Failure::usage)?);
    }
    if found {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{} holds no run, search, comparison or limits (they are saved with --out DIR)",
        path.display()
    )))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::usage(format!("cannot understand {}: {error}", path.display())))
}

fn same_machine(contents: &Contents) -> Result<(), Failure> {
    let runs = contents.runs.iter().map(|saved| &saved.report.host);
    let others = contents
        .searches
        .iter()
        .map(|report| &report.host)
        .chain(contents.comparisons.iter().map(|report| &report.host));
    let limits = contents.limits.iter().map(|report| &report.host);
    let hosts: Vec<&HostFacts> = runs.chain(others).chain(limits).collect();
    let Some(first) = hosts.first() else {
        return Ok(());
    };
    match hosts
        .iter()
        .map(|host| first.differences(host))
        .find(|differences| !differences.is_empty())
    {
        Some(differences) => Err(Failure::usage(format!(
            "these were measured on different machines ({}), so their figures do not compare; --force draws them all the same",
            differences.join("; ")
        ))),
        None => Ok(()),
    }
}
