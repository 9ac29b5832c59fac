//! A plan as a shell script, for those who want to read it first or run it elsewhere.
//!
//! Owns the quoting.
//! Never acts.

use crate::apply::Step;
use crate::journal::Kind;

/// The steps as a POSIX shell script.
pub fn render(steps: &[Step]) -> String {
    let mut text = String::from(
        "#!/bin/sh\n# Made by `gramme-tune apply --script`. Run as root. Takes no journal: `gramme-tune apply` does.\nset -eu\n",
    );
    for step in steps {
        let (path, old, new) = (quote(&step.path), quote(&step.old), quote(&step.new));
        match step.kind {
            Kind::Kernel => {
                text.push_str(&format!(
                    "\n# {}: was {}\nprintf '%s' {new} > {path}\n",
                    step.knob,
                    comment(&step.old)
                ));
            }
            Kind::Config => {
                text.push_str(&format!("\n# {}\n[ \"$(cat {path}; echo .)\" = {old}. ] || {{ echo {path}' has changed' >&2; exit 1; }}\n", step.knob));
                text.push_str(&format!(
                    "printf '%s' {new} > {path}.gramme-new\nmv {path}.gramme-new {path}\n"
                ));
            }
        }
    }
    text
}

/// One word for the shell.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn comment(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_survive_the_shell() {
        assert_eq!(quote("a'b $c"), "'a'\\''b $c'");
    }
}
