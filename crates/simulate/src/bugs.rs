//! Bugs that are planted to see that they are found: each bends what passes the seam, the file between two lives of a
//! process, or what the data path asks of its ledger and its providers.

use crate::plan::EngineKind;

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    SkippedLock,
    ForgottenHold,
    SettledTwice,
    WrongWindow,
    ReleaseAfterSettle,
    StaleRules,
    OwnRowOfALimitedScope,
    GrantBeforeCommit,
    ExpiredWhileAlive,
    UnfencedNode,
    LostReplyTakenForFailure,
    LateTwice,
    LateWithoutLock,
    DroppedOverrun,
    StaleSums,
    UncountedRollup,
    EditNotWritten,
    ForgottenTail,
    TailTwice,
    LostAtNothing,
    OverrunCutOnDisk,
    CommitThatWasNone,
    ForgottenFlight,
    ReleasedOnHangUp,
    SentBeforeHeld,
    ForgottenRaise,
    ClosedOnHangUp,
    RetriedUnknown,
    ToldBeforeSettled,
    OldestPrice,
    OutageTakenForSilence,
}

/// All of them, with their words and the engine that they are planted in.
pub const BUGS: [(Bug, &str, EngineKind); 31] = [
    (Bug::SkippedLock, "skipped-lock", EngineKind::Nodes),
    (Bug::ForgottenHold, "forgotten-hold", EngineKind::Nodes),
    (Bug::SettledTwice, "settled-twice", EngineKind::Nodes),
    (Bug::WrongWindow, "wrong-window", EngineKind::Nodes),
    (Bug::ReleaseAfterSettle, "release-after-settle", EngineKind::Nodes),
    (Bug::StaleRules, "stale-rules", EngineKind::Nodes),
    (Bug::OwnRowOfALimitedScope, "own-row-of-a-limited-scope", EngineKind::Nodes),
    (Bug::GrantBeforeCommit, "grant-before-commit", EngineKind::Nodes),
    (Bug::ExpiredWhileAlive, "expired-while-alive", EngineKind::Nodes),
    (Bug::UnfencedNode, "unfenced-node", EngineKind::Nodes),
    (Bug::LostReplyTakenForFailure, "lost-reply-taken-for-failure", EngineKind::Nodes),
    (Bug::LateTwice, "late-twice", EngineKind::Nodes),
    (Bug::LateWithoutLock, "late-without-lock", EngineKind::Nodes),
    (Bug::DroppedOverrun, "dropped-overrun", EngineKind::Nodes),
    (Bug::StaleSums, "stale-sums", EngineKind::Nodes),
    (Bug::UncountedRollup, "uncounted-rollup", EngineKind::Nodes),
    (Bug::EditNotWritten, "edit-not-written", EngineKind::Nodes),
    (Bug::ForgottenTail, "forgotten-tail", EngineKind::Embedded),
    (Bug::TailTwice, "tail-twice", EngineKind::Embedded),
    (Bug::LostAtNothing, "lost-at-nothing", EngineKind::Embedded),
    (Bug::OverrunCutOnDisk, "overrun-cut-on-disk", EngineKind::Embedded),
    (Bug::CommitThatWasNone, "commit-that-was-none", EngineKind::Embedded),
    (Bug::ForgottenFlight, "forgotten-flight", EngineKind::Nodes),
    (Bug::ReleasedOnHangUp, "released-on-hang-up", EngineKind::Embedded),
    (Bug::SentBeforeHeld, "sent-before-held", EngineKind::Nodes),
    (Bug::ForgottenRaise, "forgotten-raise", EngineKind::Embedded),
    (Bug::ClosedOnHangUp, "closed-on-hang-up", EngineKind::Nodes),
    (Bug::RetriedUnknown, "retried-unknown", EngineKind::Embedded),
    (Bug::ToldBeforeSettled, "told-before-settled", EngineKind::Nodes),
    (Bug::OldestPrice, "oldest-price", EngineKind::Embedded),
    (Bug::OutageTakenForSilence, "outage-taken-for-silence", EngineKind::Nodes),
];

/// The bug with this word.
pub fn named(word: &str) -> Option<(Bug, EngineKind)> {
    BUGS.into_iter().find(|(_, name, _)| *name == word).map(|(bug, _, engine)| (bug, engine))
}
