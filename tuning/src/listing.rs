//! The catalogue as text: for help, for `explain`, and as the table in the documentation.
//!
//! Owns the layout.
//! Never adds a fact: all of it comes from the definitions.

use crate::knob::{Guest, Knob, Lasting, Owner};
use crate::knobs;

/// The table of `KNOBS.md`; a test compares the file with it.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Every knob\n\nMade by `gramme-tune knobs --markdown` from the definitions in `src/knobs/`; a test fails when the two differ.\n\n\
         | knob | path | wanted | matters | lasts by | why | risk |\n|---|---|---|---|---|---|---|\n",
    );
    for knob in knobs::all() {
        let row = [
            format!("`{}`", knob.id),
            format!("`{}`", knob.path_pattern()),
            knob.wanted_text(),
            word(&knob.severity),
            lasting(knob),
            knob.why.to_owned(),
            knob.risk.to_owned(),
        ];
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text
}

/// All that is known of one knob.
pub fn explain(knob: &Knob) -> String {
    let place = match (knob.owner, knob.guest) {
        (Owner::Host, Guest::Absent) => "bare metal only",
        (Owner::Host, Guest::Same) => "bare metal and guests; of a container, its host",
        (Owner::NetNamespace, _) => "everywhere, for each network namespace",
        (Owner::Process, _) => "everywhere, containers included",
    };
    format!(
        "{}\n  path    {}\n  wanted  {}\n  why     {}\n  risk    {}\n  matters {}\n  asked   {place}\n  lasts   {}\n",
        knob.id,
        knob.path_pattern(),
        knob.wanted_text(),
        knob.why,
        knob.risk,
        word(&knob.severity),
        lasting(knob),
    )
}

/// Ids, one family a line, for the help text.
pub fn ids() -> String {
    let mut text = String::from("Knobs (`gramme-tune explain NAME` says more):\n");
    let mut group = String::new();
    for knob in knobs::all() {
        let own = word(&knob.group);
        if own == group {
            text.push_str(", ");
        } else {
            text.push_str(&format!(
                "{}  {own}: ",
                if group.is_empty() { "" } else { "\n" }
            ));
            group = own;
        }
        text.push_str(knob.id);
    }
    text
}

fn lasting(knob: &Knob) -> String {
    match knob.lasting {
        Lasting::Sysctl => "sysctl.d".to_owned(),
        Lasting::Udev => "udev rule".to_owned(),
        Lasting::Unit => "unit at start".to_owned(),
        Lasting::KernelArgument(text) => format!("kernel argument `{text}`, restart"),
        Lasting::Itself => "its own file".to_owned(),
        Lasting::Nothing => "never written".to_owned(),
    }
}

/// The word of a value in JSON, which is also the one in listings.
pub fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}
