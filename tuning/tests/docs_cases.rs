//! The documentation says what the definitions say.

use crate::program::run;
use std::fs;
use std::path::Path;

#[test]
fn the_table_of_knobs_is_the_one_in_the_code() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("KNOBS.md");
    let made = run(&["knobs", "--markdown"]).out;
    assert_eq!(
        fs::read_to_string(file).unwrap(),
        made,
        "make it anew: gramme-tune knobs --markdown > tuning/KNOBS.md"
    );
}

#[test]
fn every_knob_can_be_explained_and_stands_in_the_help() {
    let help = run(&["--help"]).out;
    for knob in gramme_tune::knobs::all() {
        let text = run(&["explain", knob.id]);
        assert_eq!(text.code, 0);
        assert!(
            text.out.contains(knob.why) && text.out.contains(knob.risk),
            "{}",
            text.out
        );
        assert!(help.contains(knob.id), "{} is not in the help", knob.id);
    }
    assert_eq!(run(&["explain", "nothing-like-it-at-all"]).code, 2);
}

#[test]
fn commands_named_in_the_readme_exist() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let help = run(&["--help"]).out;
    for line in text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("$ gramme-tune "))
    {
        let command = line.split(' ').next().unwrap();
        assert!(
            help.contains(&format!("  {command}")),
            "{command} is in the README and not in the program"
        );
    }
}

/// Each step that the script does stands in the page, in its order, and the page has no other.
#[test]
fn the_walk_through_is_the_scripts() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = fs::read_to_string(root.join("deploy/three-machines.sh")).unwrap();
    let page = fs::read_to_string(root.join("WALKTHROUGH.md")).unwrap();
    let of_script: Vec<&str> = script
        .lines()
        .filter_map(|line| line.split_once("echo '## ")?.1.strip_suffix('\''))
        .collect();
    let of_page: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    assert_eq!(of_script, of_page);
    assert!(
        !page.contains("Could not connect"),
        "a step failed when the page was made"
    );
}

/// The node names knobs in what it says at its start, and shares no code with this package.
#[test]
fn the_knobs_that_a_node_warns_of_exist() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../net/src/host/checks.rs");
    let text = fs::read_to_string(file).unwrap();
    let checks: Vec<(&str, &str)> = text
        .split("Check {")
        .skip(1)
        .filter_map(|check| {
            let id = check.split("knob: \"").nth(1)?.split('"').next()?;
            let mend = check.split("mend: Mend::").nth(1)?.split(',').next()?;
            Some((id, mend))
        })
        .collect();
    assert!(checks.len() > 8, "{checks:?}");
    for (id, mend) in checks.iter().filter(|(_, mend)| *mend != "Calibrate") {
        let knob = gramme_tune::knobs::find(id).unwrap_or_else(|| panic!("no knob {id}"));
        let is_settable = knob.lasting != gramme_tune::knob::Lasting::Nothing;
        assert_eq!(*mend == "Apply", is_settable, "{id} by {mend}");
    }
}
