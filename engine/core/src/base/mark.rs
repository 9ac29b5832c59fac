//! Marks: branches that are taken rarely and matter when they are, each with a name. A sweep of the simulator counts which
//! of them it reached: a check that never sees the branch it is for proves nothing of it (Alvaro and Tymon, "Abstracting
//! the Geniuses Away from Failure Testing", 2017; "sometimes" assertions).
//!
//! Without the feature `marks` reaching one is nothing at all. No package of a server has that feature.
//!
//! Why not the counters of `ShardStatus`: those are an operator's, and a branch that no operator asks for has none.

/// Names the marks, each with what happened.
macro_rules! marks {
    ($($name:ident: $what:literal,)*) => {
        /// A branch that is taken rarely.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mark {
            $(#[doc = $what] $name,)*
        }

        impl Mark {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What happened there.
            pub const fn what(self) -> &'static str {
                match self {
                    $(Self::$name => $what,)*
                }
            }
        }
    };
}

marks! {
    StandInUsed: "a write was acknowledged with a stand-in in the count",
    FullSpared: "a write went to a stand-in at once, since a replica had said that it takes none",
    WriteInDoubt: "a write ended without its quorum",
    WriteAskedAgain: "replicas that had failed a write were asked once more",
    HolderLetGo: "a node that has let go of a partition refused its write, and was not missed",
    WriteRenewed: "a write went to nodes that a view of after its beginning names",
    WrittenAsStandIn: "a node that does not hold the key coordinated its write, since none that does could be reached",
    ForwardedAgain: "a forwarded request went to a second node",
    RoundPaused: "a write that its holders and this node could not take rested before it was handed on again",
    ForwardedTwice: "a forwarded write came a second time, and was not carried out again",
    HintKept: "a coordinator kept a hint",
    HintAwaitsRoom: "a full disk took no hint, and it was kept in memory",
    HintGivenUp: "the delivery of a hint was refused or not answered",
    HintRedelivered: "a hint arrived at a node that had refused one before, or been silent",
    HintBroughtBack: "what was kept for a hint was lost, and a replica had that very version",
    HintLost: "what was kept for a hint was lost, no replica had it, and the hint was given up",
    HintChanged: "a hint or its object changed while it was delivered, and stayed",
    DigestFetched: "fingerprints differed, and the objects were fetched",
    HedgeUsed: "a read ended with the answer of the replica that was asked in place of a slow one",
    ReadAskedAgain: "replicas that had failed a read were asked once more",
    ReadRepairSent: "a read sent what it had merged to a replica that lacked it",
    OwnReplicaMended: "a read brought the coordinator's own replica up",
    RetryRecognised: "a write that was there already was recognised by its write id",
    BirthEnded: "a node did not go on with a history from before a crash or a loss",
    ReplyAwaitedCeiling: "an object waited to leave until its time was promised on stable media",
    PutStalled: "a put waited for room",
    SiblingsRefused: "a put was refused, since its key has too many siblings to be read and merged first",
    WriteShed: "a write was refused, since too many wait for a commit",
    DiskFullRefused: "a put was refused, since the disk was full",
    FailedWriteMoved: "what a failed write had was appended anew",
    CheckpointVoided: "a checkpoint was made anew, since a write to the log failed meanwhile",
    TurnedReadOnly: "a shard turned read only after failed writes",
    ReadFailedOnce: "a read failed, and the record was kept for the next one",
    RecordLost: "a record did not verify, or could not be read for too often, and was forgotten until replicas bring it back",
    RecordMoved: "the cleaner copied a live record",
    GraveCopied: "the cleaner copied a forgotten tombstone without its object",
    QuarantineEnded: "nothing in a quarantined segment was needed any more",
    SegmentFreed: "a segment was given back",
    TornTailCut: "a start cut what nobody had been told of",
    LogEndCut: "a start cut a batch that depended on what another shard had lost",
    DamageFound: "a start found records lost that had been promised",
    CheckpointRefused: "a start did not take a checkpoint that was there, since it did not verify",
    LogReplayedWhole: "a start without a checkpoint replayed the whole log",
    DifferencePulled: "a comparison brought a record that this replica lacked",
    DifferencePushed: "a comparison sent a record that the other replica lacked",
    TombstoneReaped: "a tombstone was forgotten by agreement",
}

#[cfg(feature = "marks")]
thread_local! {
    static REACHED: [core::cell::Cell<u64>; Mark::ALL.len()] =
        const { [const { core::cell::Cell::new(0) }; Mark::ALL.len()] };
}

/// How often each was reached by the engines of this thread.
#[cfg(feature = "marks")]
pub fn reached() -> Vec<(Mark, u64)> {
    let times = |mark: &Mark| REACHED.with(|all| all.get(*mark as usize).map_or(0, |n| n.get()));
    Mark::ALL.iter().map(|mark| (*mark, times(mark))).collect()
}

/// Counts one.
#[cfg(feature = "marks")]
pub(crate) fn reach(mark: Mark) {
    REACHED.with(|all| {
        if let Some(times) = all.get(mark as usize) {
            times.set(times.get() + 1);
        }
    });
}

/// Nothing.
#[cfg(not(feature = "marks"))]
#[inline(always)]
pub(crate) const fn reach(_: Mark) {}
