//! `gramme-tune persist`.

use super::out;
use crate::args::{Persist, Target};
use crate::host::{self, Host};
use crate::{Exit, Failure};
use gramme_tune::check::check;
use gramme_tune::persist::{self, Permanent};
use gramme_tune::script::quote;

pub(crate) fn run(args: &Persist) -> Result<Exit, Failure> {
    let mut host = Host::open(&args.target)?;
    if args.remove {
        return remove(args, &mut host);
    }
    let findings = check(&host.tree, &host.machine, &host.choice);
    let command = apply_command(args)?;
    let permanent = persist::plan(&host.tree, &host.machine, &findings, &command);
    if args.script {
        out(&as_script(&permanent))?;
        return Ok(Exit::Fine);
    }
    for file in &permanent.files {
        let state = if file.unchanged {
            " (there already)"
        } else {
            ""
        };
        out(&format!("==> {}{state}\n{}\n", file.path, file.content))?;
    }
    if !permanent.kernel_arguments.is_empty() {
        out(
            "==> add to the kernel's command line by hand, then restart (with GRUB: GRUB_CMDLINE_LINUX in /etc/default/grub)\n",
        )?;
        out(&format!("{}\n\n", permanent.kernel_arguments.join(" ")))?;
    }
    let new = permanent
        .files
        .iter()
        .filter(|file| !file.unchanged)
        .count();
    if args.dry_run || new == 0 {
        return Ok(Exit::Fine);
    }
    if !args.yes && !host::confirmed(&format!("write these {new} files?"))? {
        return Ok(Exit::Off);
    }
    let written = persist::install(&mut host.tree, &permanent).map_err(Failure::of)?;
    for path in &written {
        out(&format!("wrote {path}\n"))?;
    }
    if permanent
        .files
        .iter()
        .any(|file| file.path.ends_with(".service"))
    {
        out("then: systemctl daemon-reload && systemctl enable gramme-tune.service\n")?;
    }
    Ok(Exit::Fine)
}

fn remove(args: &Persist, host: &mut Host) -> Result<Exit, Failure> {
    let present = persist::present(&host.tree);
    if args.script {
        let lines: Vec<String> = present
            .iter()
            .map(|path| format!("rm -f {}\n", quote(path)))
            .collect();
        out(&format!("#!/bin/sh\nset -eu\n{}", lines.concat()))?;
        return Ok(Exit::Fine);
    }
    if present.is_empty() {
        out("nothing to remove\n")?;
        return Ok(Exit::Fine);
    }
    out(&format!("{}\n", present.join("\n")))?;
    if args.dry_run {
        return Ok(Exit::Fine);
    }
    if !args.yes && !host::confirmed("remove these files?")? {
        return Ok(Exit::Off);
    }
    let removed = persist::remove(&mut host.tree).map_err(Failure::of)?;
    out(&format!("removed {}\n", removed.join(" ")))?;
    if removed.iter().any(|path| path.ends_with(".service")) {
        out("then: systemctl disable gramme-tune.service; systemctl daemon-reload\n")?;
    }
    Ok(Exit::Fine)
}

/// What the unit runs: this program, with the same choice of hardware.
fn apply_command(args: &Persist) -> Result<String, Failure> {
    if !args.binary.is_absolute() {
        return Err(Failure::Usage(format!(
            "--binary {}: name the whole path",
            args.binary.display()
        )));
    }
    let mut words = vec![
        args.binary.to_string_lossy().into_owned(),
        "apply".to_owned(),
        "--yes".to_owned(),
    ];
    let Target {
        cpus, data, nic, ..
    } = &args.target;
    if let Some(cpus) = cpus {
        words.extend(["--cpus".to_owned(), cpus.clone()]);
    }
    if let Some(data) = data {
        words.extend(["--data".to_owned(), data.to_string_lossy().into_owned()]);
    }
    if !nic.is_empty() {
        words.extend(["--nic".to_owned(), nic.join(",")]);
    }
    // A unit file gives these characters a meaning of their own.
    let strange =
        |word: &&String| word.contains(|c: char| c.is_whitespace() || "%$\"'\\;".contains(c));
    match words.iter().find(strange) {
        Some(word) => Err(Failure::Usage(format!(
            "{word:?} cannot stand in a unit file: use a path without blanks and quotes"
        ))),
        None => Ok(words.join(" ")),
    }
}

fn as_script(permanent: &Permanent) -> String {
    let mut text = String::from(
        "#!/bin/sh\n# Made by `gramme-tune persist --script`. Run as root.\nset -eu\n",
    );
    for file in permanent.files.iter().filter(|file| !file.unchanged) {
        let path = quote(file.path);
        text.push_str(&format!(
            "\nmkdir -p \"$(dirname {path})\"\nprintf '%s' {} > {path}\n",
            quote(&file.content)
        ));
    }
    for argument in &permanent.kernel_arguments {
        text.push_str(&format!(
            "\n# add to the kernel's command line: {argument}\n"
        ));
    }
    text
}
