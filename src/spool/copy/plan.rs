//! Decides from the marks of two spools how a copy between them goes on. Pure.

use serde::{Deserialize, Serialize};

use crate::base::MessageId;

/// The name of the note with the mark.
pub(in crate::spool) const MARK: &str = "copy";

/// The mark of a spool that takes part in a copy, or has been copied. The spool must not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::spool) struct CopyMark {
    /// The spool's role in the copy.
    pub(super) role: Role,
    /// The name of the other spool.
    pub(super) other: String,
}

/// The role of a spool in a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    /// The spool is being copied.
    Source,
    /// The spool gets the messages.
    Target,
    /// The spool was copied, and the other one is used now.
    Left,
}

impl CopyMark {
    /// Reads a mark. One that this version does not know is taken for a copy that is not complete.
    pub(in crate::spool) fn parse(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|_| Self {
            role: Role::Source,
            other: "another spool".to_owned(),
        })
    }

    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("a mark has only strings")
    }

    /// Returns in words why the spool cannot be used.
    pub(in crate::spool) fn why(&self) -> String {
        let other = &self.other;
        match self.role {
            Role::Source => format!(
                "it is being copied to {other}: run `mailferry spool copy` again to complete that, or with --undo to give it up"
            ),
            Role::Target => format!(
                "{other} is being copied to it: run `mailferry spool copy` again to complete that, or with --undo to give it up"
            ),
            Role::Left => format!(
                "its messages were copied to {other}, and are sent from there; `mailferry spool copy` can copy them back"
            ),
        }
    }
}

/// The next step of a copy.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Begin. What the target has is removed first if `clears`, because it was copied elsewhere.
    Begin { clears: bool },
    /// Go on with a copy that was interrupted.
    GoOn,
    /// Nothing: the copy is complete.
    Done,
}

/// The reason why a spool must not be copied.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyRefused {
    /// Both are the same spool.
    #[error("both configurations have the same spool, {0}: nothing to copy")]
    Same(String),
    /// The target has messages of its own.
    #[error("{0} already has messages or history of its own; copy to an empty spool")]
    NotEmpty(String),
    /// A spool takes part in another copy.
    #[error("{name} takes part in another copy: {why}")]
    Elsewhere {
        /// The spool.
        name: String,
        /// What it does there.
        why: String,
    },
    /// A message may have been sent.
    #[error(
        "{0} messages were being sent when a node died, and may have arrived: start one node, wait until `mailferry status` shows \
         them settled, stop it, and copy then"
    )]
    Uncertain(usize),
    /// A message cannot be read.
    #[error(
        "the record of message {0} is damaged: with the old configuration, save its content with `mailferry queue export {0}`, \
         remove it with `queue delete {0}`, and copy then"
    )]
    Damaged(MessageId),
    /// There is nothing to give up.
    #[error("there is no unfinished copy from {source_name} to {target}")]
    NotBegun {
        /// The source.
        source_name: String,
        /// The target.
        target: String,
    },
}

/// A spool's name and its mark.
type Marked<'m> = (&'m str, Option<&'m CopyMark>);

fn is_in(mark: Option<&CopyMark>, role: Role, other: &str) -> bool {
    mark.is_some_and(|mark| mark.role == role && mark.other == other)
}

fn elsewhere(name: &str, mark: Option<&CopyMark>) -> CopyRefused {
    CopyRefused::Elsewhere {
        name: name.to_owned(),
        why: mark.map(CopyMark::why).unwrap_or_default(),
    }
}

/// Decides how a copy goes on.
pub(super) fn step(
    (from, theirs): Marked,
    (to, ours): Marked,
    target_is_empty: bool,
) -> Result<Step, CopyRefused> {
    if from == to {
        return Err(CopyRefused::Same(from.to_owned()));
    }
    let is_begun = is_in(theirs, Role::Source, to);
    let is_complete = is_in(theirs, Role::Left, to);
    if !is_begun && !is_complete && theirs.is_some() {
        return Err(elsewhere(from, theirs));
    }
    match ours.map(|mark| mark.role) {
        None if is_complete => Ok(Step::Done),
        Some(Role::Target) if is_in(ours, Role::Target, from) && (is_begun || is_complete) => {
            Ok(Step::GoOn)
        }
        Some(Role::Left) if !is_complete => Ok(Step::Begin { clears: true }),
        None if target_is_empty => Ok(Step::Begin { clears: false }),
        None => Err(CopyRefused::NotEmpty(to.to_owned())),
        Some(_) => Err(elsewhere(to, ours)),
    }
}

/// Decides whether a copy can be given up. Returns true if the target must be cleared.
pub(super) fn undo((from, theirs): Marked, (to, ours): Marked) -> Result<bool, CopyRefused> {
    if !is_in(theirs, Role::Source, to) {
        return Err(CopyRefused::NotBegun {
            source_name: from.to_owned(),
            target: to.to_owned(),
        });
    }
    Ok(is_in(ours, Role::Target, from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(role: Role, other: &str) -> Option<CopyMark> {
        let other = other.to_owned();
        Some(CopyMark { role, other })
    }

    fn next(theirs: Option<CopyMark>, ours: Option<CopyMark>, is_empty: bool) -> Option<Step> {
        step(("a", theirs.as_ref()), ("b", ours.as_ref()), is_empty).ok()
    }

    #[test]
    fn each_state_of_a_copy_has_one_next_step() {
        let begin = Some(Step::Begin { clears: false });
        let anew = Some(Step::Begin { clears: true });
        assert_eq!(next(None, None, true), begin);
        assert_eq!(next(None, None, false), None);
        // A crash between the two marks.
        assert_eq!(next(mark(Role::Source, "b"), None, true), begin);
        assert_eq!(next(mark(Role::Source, "b"), None, false), None);
        let both = || (mark(Role::Source, "b"), mark(Role::Target, "a"));
        assert_eq!(next(both().0, both().1, false), Some(Step::GoOn));
        // A crash between the two last steps.
        let (left, target) = (mark(Role::Left, "b"), mark(Role::Target, "a"));
        assert_eq!(next(left.clone(), target, false), Some(Step::GoOn));
        assert_eq!(next(left.clone(), None, false), Some(Step::Done));
        // And back.
        assert_eq!(next(None, mark(Role::Left, "a"), false), anew);
        assert_eq!(next(left, mark(Role::Left, "a"), false), None);
    }

    #[test]
    fn a_spool_takes_part_in_one_copy_at_a_time() {
        let other = || mark(Role::Source, "c");
        assert_eq!(next(other(), None, true), None);
        assert_eq!(next(None, other(), true), None);
        assert_eq!(next(None, mark(Role::Target, "c"), true), None);
        assert_eq!(next(mark(Role::Left, "c"), None, true), None);
        assert_eq!(next(mark(Role::Target, "b"), None, true), None);
        let same = step(("a", None), ("a", None), true);
        assert_eq!(same, Err(CopyRefused::Same("a".into())));
    }

    #[test]
    fn only_a_copy_that_is_not_complete_is_given_up() {
        let undone = |theirs: Option<CopyMark>, ours: Option<CopyMark>| {
            undo(("a", theirs.as_ref()), ("b", ours.as_ref())).ok()
        };
        let (source, target) = (mark(Role::Source, "b"), mark(Role::Target, "a"));
        assert_eq!(undone(source.clone(), target.clone()), Some(true));
        assert_eq!(undone(source.clone(), None), Some(false));
        assert_eq!(undone(source, mark(Role::Target, "c")), Some(false));
        assert_eq!(undone(mark(Role::Left, "b"), target), None);
        assert_eq!(undone(None, None), None);
    }
}
