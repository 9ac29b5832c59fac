//! `gramme-tune revert`.

use super::{out, print};
use crate::args::Revert;
use crate::host;
use crate::{Exit, Failure};
use gramme_tune::apply::Step;
use gramme_tune::journal::{Intent, Journal};
use gramme_tune::persist;
use gramme_tune::revert::{Undone, revert};
use gramme_tune::script;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) fn run(args: &Revert) -> Result<Exit, Failure> {
    let mut tree = host::open_tree(&args.root)?;
    let path = host::journal_path(&args.root, args.journal.journal.as_ref());
    if !Journal::is_present(&path) {
        out(&format!(
            "nothing to put back: there is no journal {}\n",
            path.display()
        ))?;
        return Ok(Exit::Fine);
    }
    let time_s = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let journal = Journal::open(&path, &host::boot_id(&tree), time_s).map_err(Failure::of)?;
    let standing: Vec<Intent> = journal.standing().iter().rev().cloned().collect();
    if args.script {
        out(&script::render(
            &standing.iter().map(backwards).collect::<Vec<_>>(),
        ))?;
        return Ok(Exit::Fine);
    }
    let rows: Vec<Vec<String>> = standing
        .iter()
        .map(|intent| {
            let short = |text: &str| text.lines().next().unwrap_or_default().to_owned();
            vec![
                intent.knob.clone(),
                short(&intent.new),
                short(&intent.old),
                intent.path.clone(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        print(&["knob", "written", "before", "where"], &rows)?;
    }
    if args.dry_run {
        return Ok(Exit::Fine);
    }
    if !rows.is_empty()
        && !args.yes
        && !host::confirmed(&format!("put these {} values back?", rows.len()))?
    {
        return Ok(Exit::Off);
    }
    let (mut back, mut lines) = (0, Vec::new());
    let failed = revert(
        &mut tree,
        journal,
        &mut |intent: &Intent, result: &io::Result<Undone>| match result {
            Ok(Undone::PutBack) => back += 1,
            Ok(Undone::Already) => {}
            Ok(Undone::Gone) => lines.push(format!("{}: gone, with its setting", intent.path)),
            Ok(Undone::Foreign(now)) => lines.push(format!(
                "{}: left as it is, somebody has set it to {now:?} since (it was {:?} before)",
                intent.path, intent.old
            )),
            Err(error) => lines.push(format!("{}: failed: {error}", intent.path)),
        },
    )
    .map_err(Failure::of)?;
    for line in &lines {
        out(&format!("{line}\n"))?;
    }
    out(&format!("{back} put back\n"))?;
    let files = persist::present(&tree);
    if !files.is_empty() {
        out(&format!(
            "these stay until `gramme-tune persist --remove`: {}\n",
            files.join(" ")
        ))?;
    }
    if failed > 0 {
        return Err(Failure::Failed(format!(
            "{failed} values could not be put back; the journal keeps them: call again"
        )));
    }
    Ok(Exit::Fine)
}

fn backwards(intent: &Intent) -> Step {
    // The script names the knob by its own definition; one that a newer version dropped is still put back.
    let knob = gramme_tune::knobs::find(&intent.knob).map_or("unknown", |knob| knob.id);
    Step {
        knob,
        path: intent.path.clone(),
        old: intent.new.clone(),
        new: intent.old.clone(),
        kind: intent.kind,
    }
}
