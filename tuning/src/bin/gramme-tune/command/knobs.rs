//! `gramme-tune knobs` and `gramme-tune explain`.

use super::{out, print};
use crate::args::{Explain, Knobs};
use crate::host::unknown_knob;
use crate::{Exit, Failure};
use gramme_tune::listing;

pub(crate) fn list(args: &Knobs) -> Result<Exit, Failure> {
    if args.markdown {
        out(&listing::markdown())?;
        return Ok(Exit::Fine);
    }
    let rows: Vec<Vec<String>> = gramme_tune::knobs::all()
        .map(|knob| {
            vec![
                knob.id.to_owned(),
                listing::word(&knob.severity),
                knob.wanted_text(),
                knob.path_pattern(),
            ]
        })
        .collect();
    print(&["knob", "severity", "wanted", "where"], &rows)?;
    Ok(Exit::Fine)
}

pub(crate) fn explain(args: &Explain) -> Result<Exit, Failure> {
    let knob = gramme_tune::knobs::find(&args.knob).ok_or_else(|| unknown_knob(&args.knob))?;
    out(&listing::explain(knob))?;
    Ok(Exit::Fine)
}
