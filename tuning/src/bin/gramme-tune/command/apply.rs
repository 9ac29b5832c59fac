//! `gramme-tune apply`.

use super::{out, print};
use crate::args::Apply;
use crate::host::{self, Host};
use crate::{Exit, Failure};
use gramme_tune::apply::{OnFailure, Outcome, Step, apply, plan};
use gramme_tune::check::check;
use gramme_tune::journal::{Journal, Kind};
use gramme_tune::script;
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) fn run(args: &Apply) -> Result<Exit, Failure> {
    let mut host = Host::open(&args.target)?;
    let findings = check(&host.tree, &host.machine, &host.choice);
    let steps = plan(&host.tree, &findings);
    if args.script {
        out(&script::render(&steps))?;
        return Ok(Exit::Fine);
    }
    if steps.is_empty() {
        out("nothing to do: every setting that can be written is as wanted\n")?;
        return Ok(Exit::Fine);
    }
    show(&steps)?;
    if args.dry_run {
        return Ok(Exit::Fine);
    }
    if !args.yes && !host::confirmed(&format!("write these {} values?", steps.len()))? {
        return Ok(Exit::Off);
    }
    let path = host::journal_path(&args.target.root, args.journal.journal.as_ref());
    let time_s = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let mut journal =
        Journal::open(&path, &host::boot_id(&host.tree), time_s).map_err(Failure::of)?;
    let on_failure = if args.keep {
        OnFailure::Keep
    } else {
        OnFailure::TakeBack
    };
    let (mut applied, mut refused) = (0, Vec::new());
    let result = apply(
        &mut host.tree,
        &mut journal,
        &steps,
        on_failure,
        &mut |step, outcome| match outcome {
            Outcome::Applied => applied += 1,
            Outcome::Refused(why) => refused.push(format!(
                "{}: the kernel keeps this interrupt itself ({why})",
                step.path
            )),
        },
    );
    if let Err(error) = result {
        let error = Failure::of(error);
        // A journal in which nothing stands is not left behind.
        journal.close().map_err(Failure::of)?;
        return Err(error);
    }
    for line in &refused {
        out(&format!("{line}\n"))?;
    }
    out(&format!(
        "{applied} written; `gramme-tune revert` puts them back (journal: {})\n",
        path.display()
    ))?;
    journal.close().map_err(Failure::of)?;
    Ok(Exit::Fine)
}

fn show(steps: &[Step]) -> Result<(), Failure> {
    let rows: Vec<Vec<String>> = steps
        .iter()
        .map(|step| {
            let (old, new) = match step.kind {
                Kind::Kernel => (step.old.clone(), step.new.clone()),
                Kind::Config => (
                    "(file)".to_owned(),
                    step.new.lines().last().unwrap_or_default().to_owned(),
                ),
            };
            vec![step.knob.to_owned(), old, new, step.path.clone()]
        })
        .collect();
    print(&["knob", "now", "then", "where"], &rows)
}
