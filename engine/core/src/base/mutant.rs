//! Mutants: one deliberate fault each, at the place where the engine keeps the promise that it breaks. The simulator
//! turns one on at a time, to see that some check of its finds it (DeMillo et al., 1978); a check that no mutant fails
//! proves nothing.
//!
//! Without the feature `mutants` the question is a constant `false`, and nothing of this is in the program. No package
//! of a server has that feature.
//!
//! Why not a patch for each: a patch rots in silence when the code moves on; these compile or do not.

/// Names the mutants, each with what it does wrong.
macro_rules! mutants {
    ($($name:ident: $what:literal,)*) => {
        /// A deliberate fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $(#[doc = $what] $name,)*
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What it does wrong.
            pub const fn what(self) -> &'static str {
                match self {
                    $(Self::$name => $what,)*
                }
            }
        }
    };
}

mutants! {
    AckOneShort: "a write is acknowledged by one replica fewer than W",
    RefusalCounts: "a replica that refuses a write counts as one that has it",
    LostCounts: "a replica whose connection breaks counts as one that has the write",
    StandInCounts: "a stand-in counts though the client asked for the key's own replicas",
    ZonesIgnored: "a write is acknowledged from fewer zones than its client asked for",
    AppliedUnapplied: "a busy replica acknowledges a write that it drops",
    DurableUnsynced: "what is not on stable media yet is said to be",
    ReadOneShort: "a read is content with one replica fewer than R",
    ReadUnmerged: "a read answers the first object, not the join of all",
    ReadErrorAbsent: "a record that cannot be read is answered as a key that is not there",
    DigestsIgnored: "a read never asks for the objects whose fingerprints differ",
    RepetitionServed: "a forwarded write whose frame comes twice is carried out twice",
    DoubtDenied: "a write that a silent node may have begun is said to be not applied",
    HintsSkipped: "no hint is kept for a node that is away",
    StandInForgets: "a stand-in keeps the object and no hint",
    HintForgottenEarly: "a hint is forgotten when it is sent, not when it has arrived",
    HintForgottenRefused: "a hint is forgotten though its node refused it",
    HintForgottenFull: "a hint that a full disk does not take is not tried again",
    CompareBlind: "replicas that compare find nothing different",
    CompareNoPush: "a comparison pulls what is missing here and pushes nothing",
    CompareNoPull: "a comparison pushes what is missing there and pulls nothing",
    MergeDropsSibling: "a merge keeps the newest sibling only",
    MergeKeepsSeen: "a merge keeps siblings that the other side has seen and overwritten",
    MergeForgetsContext: "a merge keeps the own context, not the union",
    MergeReplaces: "an incoming object takes the place of what is held",
    LoneEvent: "the other replicas get the new sibling alone, under the whole context",
    DeleteLeavesNothing: "a delete leaves no tombstone",
    DeleteOfNothing: "a delete of what this replica does not hold writes nothing, though others may hold it",
    ReapedAlone: "a node forgets tombstones without asking the others or waiting",
    ContextTooWide: "a put returns a context that covers siblings which its client never saw",
    ExceptionsDropped: "a context forgets its exceptions",
    SeenForgotten: "a put does not cover what its client has seen",
    SeenKept: "a put keeps the siblings that its client has seen",
    UnreadUnchecked: "a put with any context is taken for one that has seen all",
    BlindIsLatest: "a put without a context overwrites what is there",
    TailForgotten: "a start after a crash does not replay the log behind the checkpoint",
    TornTaken: "a start after a crash goes on behind a torn batch",
    BirthContinued: "a start after a crash goes on with histories of which it forgot the end",
    ExpiredShown: "a value is shown after its time",
    ExpiryKept: "a change of expiry leaves the old one",
    ExpiryForgotten: "a merge forgets when its values expire",
    ExpiredUnsent: "what expired is not brought to replicas that lack it",
    StrippedEarly: "a value that is to expire is brought to other replicas as if it had expired",
    DeadlineIgnored: "a write that misses its deadline is answered when its replicas are, or never",
    WaitersUncounted: "writes that wait for a commit are never too many",
    SiblingsUnbounded: "a key may have any number of siblings",
    SlotKept: "what is known of a write under way is not forgotten when it is over",
    TailKept: "the tail of the log in memory is never let go of",
    DealtUntold: "a log that is filled from former ones knows nothing of the times that those gave",
    AppliedAhead: "a write leaves for other replicas before its time is promised on stable media",
    RotTaken: "a record of which bytes changed on the disk is answered",
    LossUntold: "a shard that lost part of a partition goes on saying that it holds it",
    GainedUnfetched: "a node says that it holds a partition before it has fetched it",
    DrainedUnshared: "a node lets go of a partition without bringing what it has to the others",
    DrainedByOne: "a node lets go of a partition as soon as one of its shards has handed over its slice",
    GainedUnknown: "a node gains a partition, or lets one go, before those who write it know that it is to",
    GainedFromOne: "a node gains a partition when it was compared with one of its holders",
    PendingIgnored: "a write does not wait for nodes that gain or let go of its partition",
    DrainingRefuses: "a node that is to let a partition go refuses its writes, though by the next layout it may keep it",
    GainerForgotten: "who was to gain a partition by the layout before is forgotten, though it may have gained it",
    LetGoUnasked: "a node lets go of a partition without asking its targets whether they work by the same layout",
    PendingCounts: "a node that has yet to gain a partition counts in the quorums of its writes",
    RemovedHolding: "a leaving node is removed before it has handed over what it holds",
    RemovedUnasked: "a leaving node is removed without asking it whether it holds what is not known yet",
    ClockForgotten: "a start after a crash forgets how far the clock had been promised",
    PastIgnored: "a node does not compare its directory with what others remember of it",
    PlaceUnchecked: "a record counts wherever it lies, be it misplaced or of a former use of the place",
    PromisedUnmissed: "a batch that is missing, though it was promised, ends the log like a torn one",
    LeapFollowed: "a leap of the wall clock is followed at once, whatever others say of it",
    LateAgrees: "a clock that was wrong is believed when fewer object, though nobody agrees with it",
    AheadGoesOn: "a node whose clock most others find too far ahead goes on",
}

#[cfg(feature = "mutants")]
thread_local! {
    static ON: core::cell::Cell<Option<Mutant>> = const { core::cell::Cell::new(None) };
}

/// Turns one on, or all off, for the engines of this thread.
#[cfg(feature = "mutants")]
pub fn set(mutant: Option<Mutant>) {
    ON.set(mutant);
}

/// Whether this one is on.
#[cfg(feature = "mutants")]
pub(crate) fn is(mutant: Mutant) -> bool {
    ON.get() == Some(mutant)
}

/// Never.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}
