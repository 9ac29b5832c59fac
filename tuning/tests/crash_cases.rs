//! Failures in the middle of `apply`: the kernel refuses, takes another value, or the program dies.

use crate::trees;
use gramme_tune::apply::{OnFailure, Outcome, Step, apply, plan};
use gramme_tune::check::{Choice, check};
use gramme_tune::journal::{Journal, JournalError};
use gramme_tune::machine::{Machine, Selection};
use gramme_tune::revert::revert;
use gramme_tune::tree::{RootedTree, Tree};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

/// What a write to one file does.
#[derive(Clone, Copy)]
enum Fault {
    /// Fails with this error number.
    Refuse(i32),
    /// Succeeds without effect.
    Ignore,
}

/// When the program dies.
#[derive(Clone, Copy, PartialEq)]
enum Death {
    Before(usize),
    After(usize),
    Never,
}

/// A tree whose writes go wrong as told.
struct Faulty {
    inner: RootedTree,
    faults: BTreeMap<String, Fault>,
    death: Death,
    write_count: usize,
}

impl Faulty {
    fn on(tree: &trees::Fake) -> Self {
        let inner = RootedTree::open(tree.root()).unwrap();
        Self {
            inner,
            faults: BTreeMap::new(),
            death: Death::Never,
            write_count: 0,
        }
    }

    fn guarded(
        &mut self,
        path: &str,
        work: impl FnOnce(&mut RootedTree) -> io::Result<()>,
    ) -> io::Result<()> {
        self.write_count += 1;
        assert!(self.death != Death::Before(self.write_count), "killed");
        match self.faults.get(path) {
            Some(Fault::Refuse(number)) => return Err(io::Error::from_raw_os_error(*number)),
            Some(Fault::Ignore) => {}
            None => work(&mut self.inner)?,
        }
        assert!(self.death != Death::After(self.write_count), "killed");
        Ok(())
    }
}

impl Tree for Faulty {
    fn read(&self, path: &str) -> io::Result<String> {
        self.inner.read(path)
    }
    fn write(&mut self, path: &str, value: &str) -> io::Result<()> {
        self.guarded(path, |inner| inner.write(path, value))
    }
    fn replace(&mut self, path: &str, content: Option<&str>) -> io::Result<()> {
        self.guarded(path, |inner| inner.replace(path, content))
    }
    fn list(&self, dir: &str) -> Vec<String> {
        self.inner.list(dir)
    }
    fn exists(&self, path: &str) -> bool {
        self.inner.exists(path)
    }
    fn link_name(&self, path: &str) -> Option<String> {
        self.inner.link_name(path)
    }
    fn is_live(&self) -> bool {
        false
    }
}

const BOOT: &str = "0a1b2c3d-0000-4000-8000-000000000001";

/// Beside the tree, so that a snapshot of the tree is of the machine alone.
fn journal_path(tree: &trees::Fake) -> PathBuf {
    tree.root().with_extension("journal")
}

fn steps_of(tree: &dyn Tree) -> Vec<Step> {
    let machine = Machine::discover(tree, &Selection::default());
    plan(tree, &check(tree, &machine, &Choice::default()))
}

fn take_back(tree: &trees::Fake) -> usize {
    let journal = Journal::open(&journal_path(tree), BOOT, 0).unwrap();
    revert(
        &mut RootedTree::open(tree.root()).unwrap(),
        journal,
        &mut |_, _| {},
    )
    .unwrap()
}

/// Lets the program die around every `stride`-th write of `apply` on a machine, and takes it back each time.
fn die_around_writes(make: fn() -> trees::Fake, stride: usize) {
    let step_count = steps_of(&Faulty::on(&make())).len();
    for death in (1..=step_count)
        .step_by(stride)
        .flat_map(|k| [Death::Before(k), Death::After(k)])
    {
        let tree = make();
        let before = tree.snapshot();
        let mut faulty = Faulty::on(&tree);
        let steps = steps_of(&faulty);
        faulty.death = death;
        let mut journal = Journal::open(&journal_path(&tree), BOOT, 0).unwrap();
        let died = catch_unwind(AssertUnwindSafe(|| {
            apply(
                &mut faulty,
                &mut journal,
                &steps,
                OnFailure::TakeBack,
                &mut |_, _| {},
            )
        }));
        assert!(died.is_err(), "the program was to die");
        drop(journal);
        assert_eq!(take_back(&tree), 0);
        assert_eq!(tree.snapshot(), before);
        assert!(!journal_path(&tree).exists());
    }
}

#[test]
fn a_crash_around_any_write_is_taken_back_to_the_byte() {
    die_around_writes(trees::arm, 1);
    // Every line of a journal is synced, so the machine with the most steps is sampled.
    die_around_writes(trees::bare_metal_nvme, 9);
}

#[test]
fn a_step_that_fails_takes_the_earlier_ones_back() {
    for (fault, word) in [
        (Fault::Refuse(libc::EINVAL), "Invalid argument"),
        (Fault::Ignore, "reads back \"60\""),
    ] {
        let tree = trees::bare_metal_nvme();
        let before = tree.snapshot();
        let mut faulty = Faulty::on(&tree);
        faulty
            .faults
            .insert("/proc/sys/vm/swappiness".into(), fault);
        let steps = steps_of(&faulty);
        let mut journal = Journal::open(&journal_path(&tree), BOOT, 0).unwrap();
        let error = apply(
            &mut faulty,
            &mut journal,
            &steps,
            OnFailure::TakeBack,
            &mut |_, _| {},
        )
        .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(word)
                && text.contains("--skip swappiness")
                && text.contains("taken back"),
            "{text}"
        );
        assert!(journal.standing().is_empty());
        journal.close().unwrap();
        assert_eq!(tree.snapshot(), before);
    }
}

#[test]
fn with_keep_the_earlier_steps_stay_and_can_be_reverted() {
    let tree = trees::arm();
    let before = tree.snapshot();
    let mut faulty = Faulty::on(&tree);
    faulty.faults.insert(
        "/proc/sys/vm/swappiness".into(),
        Fault::Refuse(libc::EACCES),
    );
    let steps = steps_of(&faulty);
    let mut journal = Journal::open(&journal_path(&tree), BOOT, 0).unwrap();
    let error = apply(
        &mut faulty,
        &mut journal,
        &steps,
        OnFailure::Keep,
        &mut |_, _| {},
    )
    .unwrap_err();
    assert!(error.to_string().contains("run as root"), "{error}");
    drop(journal);
    assert_ne!(tree.snapshot(), before);
    take_back(&tree);
    assert_eq!(tree.snapshot(), before);
}

#[test]
fn a_managed_interrupt_is_told_and_the_rest_goes_on() {
    let tree = trees::bare_metal_nvme();
    let mut faulty = Faulty::on(&tree);
    faulty.faults.insert(
        "/proc/irq/41/smp_affinity_list".into(),
        Fault::Refuse(libc::EIO),
    );
    let steps = steps_of(&faulty);
    let mut journal = Journal::open(&journal_path(&tree), BOOT, 0).unwrap();
    let mut refused = Vec::new();
    apply(
        &mut faulty,
        &mut journal,
        &steps,
        OnFailure::TakeBack,
        &mut |step, outcome| {
            if let Outcome::Refused(_) = outcome {
                refused.push(step.path.clone());
            }
        },
    )
    .unwrap();
    assert_eq!(refused, ["/proc/irq/41/smp_affinity_list"]);
    assert_eq!(tree.get("/proc/irq/42/smp_affinity_list"), "2");
    drop(journal);
    take_back(&tree);
}

#[test]
fn a_way_back_that_is_blocked_is_told_and_kept_for_later() {
    let tree = trees::arm();
    let before = tree.snapshot();
    let mut faulty = Faulty::on(&tree);
    let steps = steps_of(&faulty);
    let mut journal = Journal::open(&journal_path(&tree), BOOT, 0).unwrap();
    apply(
        &mut faulty,
        &mut journal,
        &steps,
        OnFailure::TakeBack,
        &mut |_, _| {},
    )
    .unwrap();
    drop(journal);
    faulty
        .faults
        .insert("/proc/sys/vm/swappiness".into(), Fault::Refuse(libc::EROFS));
    let journal = Journal::open(&journal_path(&tree), BOOT, 0).unwrap();
    assert_eq!(revert(&mut faulty, journal, &mut |_, _| {}).unwrap(), 1);
    assert_eq!(tree.get("/proc/sys/vm/swappiness"), "1");
    assert_eq!(take_back(&tree), 0, "the second call finds the way free");
    assert_eq!(tree.snapshot(), before);
}

#[test]
fn no_write_begins_without_its_line_in_the_journal() {
    let tree = trees::arm();
    let before = tree.snapshot();
    let mut faulty = Faulty::on(&tree);
    let steps = steps_of(&faulty);
    faulty.death = Death::Before(1);
    let mut journal = Journal::open(&journal_path(&tree), BOOT, 0).unwrap();
    let _ = catch_unwind(AssertUnwindSafe(|| {
        apply(
            &mut faulty,
            &mut journal,
            &steps,
            OnFailure::TakeBack,
            &mut |_, _| {},
        )
    }));
    assert_eq!(tree.snapshot(), before);
    drop(journal);
    let text = fs::read_to_string(journal_path(&tree)).unwrap();
    assert!(
        text.lines().last().unwrap().contains("\"intent\""),
        "{text}"
    );
    take_back(&tree);
}

#[test]
fn a_torn_last_line_is_dropped_and_a_damaged_one_before_it_is_not() {
    let tree = trees::arm();
    let path = journal_path(&tree);
    let steps = steps_of(&Faulty::on(&tree));
    let mut journal = Journal::open(&path, BOOT, 0).unwrap();
    apply(
        &mut Faulty::on(&tree),
        &mut journal,
        &steps,
        OnFailure::TakeBack,
        &mut |_, _| {},
    )
    .unwrap();
    drop(journal);
    OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"{\"intent\":{\"seq\":99,")
        .unwrap();
    let journal = Journal::open(&path, BOOT, 0).unwrap();
    assert_eq!(journal.standing().len(), steps.len());
    drop(journal);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"intent\"", "\"in?ent\"", 1)).unwrap();
    let error = Journal::open(&path, BOOT, 0).unwrap_err();
    assert!(
        matches!(error, JournalError::Damaged { line: 2, .. }),
        "{error}"
    );
    fs::remove_file(&path).unwrap();
}

#[test]
fn two_programs_do_not_share_a_journal() {
    let tree = trees::arm();
    let first = Journal::open(&journal_path(&tree), BOOT, 0).unwrap();
    let second = Journal::open(&journal_path(&tree), BOOT, 0).unwrap_err();
    assert!(matches!(second, JournalError::Busy { .. }), "{second}");
    first.close().unwrap();
}

/// A journal that one program closes while others open it is never locked without its name: what they write there
/// would be gone after a crash.
#[test]
fn whoever_holds_a_journal_holds_the_one_under_its_name() {
    let tree = trees::arm();
    let path = journal_path(&tree);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    match Journal::open(&path, BOOT, 0) {
                        Ok(journal) => {
                            assert!(path.exists(), "a journal without a name");
                            journal.close().unwrap();
                        }
                        Err(JournalError::Busy { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    assert!(!path.exists());
}

#[test]
fn a_tree_is_not_left_through_a_link() {
    let tree = trees::arm();
    let outside = tree.root().with_extension("outside");
    fs::write(&outside, "60\n").unwrap();
    let inside = tree.at("/proc/sys/vm/swappiness");
    fs::remove_file(&inside).unwrap();
    std::os::unix::fs::symlink(&outside, &inside).unwrap();
    let mut rooted = RootedTree::open(tree.root()).unwrap();
    assert!(rooted.write("/proc/sys/vm/swappiness", "1").is_err());
    assert!(rooted.read("/proc/sys/vm/swappiness").is_err());
    assert!(rooted.write("/../x", "1").is_err());
    assert_eq!(fs::read_to_string(&outside).unwrap(), "60\n");
    fs::remove_file(&outside).unwrap();
}

#[test]
fn a_journal_that_cannot_be_made_is_told_before_any_write() {
    let tree = trees::arm();
    let directory = tree.root().with_extension("no-journal");
    fs::create_dir(&directory).unwrap();
    let error = Journal::open(&directory, BOOT, 0).unwrap_err();
    assert!(error.to_string().contains("nothing was changed"), "{error}");
    fs::remove_dir(&directory).unwrap();
}
