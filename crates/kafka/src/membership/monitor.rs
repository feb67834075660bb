//! Decides when the coordinator is asked if it still has this member, and what its answers mean.
//! Sends nothing itself.
//!
//! librdkafka notices by itself that a group has put its member out. It does not notice that the
//! group is no more, or is another kind of group now: its heartbeats fail, and it goes on sending
//! them.

use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;

use crate::connection::RequestError;
use crate::coordinator::{GroupAnswer, GroupRefusal};
use crate::reason::{Consequence, Reason};

/// Time between two questions while all is well and nothing is committed.
const IDLE: Duration = Duration::from_secs(30);
/// The same while commits fail, or the group does not have the member.
const TROUBLED: Duration = Duration::from_secs(2);
/// Time that a member waits for its place before the coordinator is asked what keeps it out.
const JOINING: Duration = Duration::from_secs(3);
/// Time for which the group lacks the member before the membership is given up: librdkafka may know
/// already.
const GONE_AFTER: Duration = Duration::from_secs(20);
/// The same without a group: librdkafka never knows.
const NO_GROUP_AFTER: Duration = Duration::from_secs(2);

/// The coordinator's knowledge of the group, asked for as that member.
#[derive(Debug)]
pub(crate) struct GroupReply {
    pub(crate) asked_as: Option<Membership>,
    pub(crate) answer: Result<GroupAnswer, RequestError>,
}

/// A member's id and generation, or epoch.
pub(crate) type Membership = (String, i32);

/// Facts that the client knows by itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// The membership by which librdkafka takes part in the group, if it does.
    pub(super) membership: Option<Membership>,
    /// True if the group has given all that this member is to hold, even if that is nothing.
    pub(super) is_assigned: bool,
    pub(super) commits: u64,
    pub(super) commits_failed: u64,
}

/// The meaning of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MembershipVerdict {
    /// Good, as far as is known.
    Fine,
    /// Wait and see.
    Unclear,
    /// The reason why the member, or its commits, are refused.
    Fault(GroupRefusal),
    /// The membership is no more; why.
    Gone(MembershipEnd),
}

/// The reason why a membership is no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MembershipEnd {
    /// The group was deleted.
    #[error("the coordinator has no such group any more")]
    NoGroup,
    /// The group goes on without the member.
    #[error("the coordinator does not have this member any more")]
    NoMember,
    /// The group of this name now takes no such member.
    #[error(transparent)]
    Refused(GroupRefusal),
    /// librdkafka cannot go on as this member.
    #[error(transparent)]
    Fatal(FatalError),
}

/// An error after which a client of librdkafka is of no more use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.cause())]
pub(super) struct FatalError {
    pub(super) code: RDKafkaErrorCode,
    /// librdkafka's text, which has more than the code.
    pub(super) text: String,
}

impl FatalError {
    /// Leaves out the part before the cause, which names the client's state.
    fn cause(&self) -> &str {
        self.text.rsplit_once(" fatal error: ").map_or(&self.text, |(_, cause)| cause)
    }
}

#[derive(Debug)]
pub(super) struct MembershipMonitor {
    began: Instant,
    /// The last time when the group was known to be as it should.
    well: Instant,
    asked: Option<Instant>,
    is_asking: bool,
    commits: u64,
    failed: u64,
    faulty: bool,
    /// The membership that is missing, and since when; and since when there is no group.
    missing: Option<(Membership, Instant, Option<Instant>)>,
}

impl MembershipMonitor {
    pub(super) fn new(now: Instant, facts: &Facts) -> Self {
        Self {
            began: now,
            well: now,
            asked: None,
            is_asking: false,
            commits: facts.commits,
            failed: facts.commits_failed,
            faulty: false,
            missing: None,
        }
    }

    /// Returns true if the coordinator is to be asked now. Then the answer is to be passed on,
    /// whatever it is.
    pub(super) fn asks(&mut self, now: Instant, facts: &Facts) -> bool {
        let fails = facts.commits_failed != self.failed;
        if facts.commits != self.commits && !fails && facts.is_assigned {
            // The coordinator takes commits of its members only.
            (self.commits, self.well) = (facts.commits, now);
        }
        let out = facts.membership.is_none() || !facts.is_assigned;
        if !out {
            self.began = now;
        }
        let troubled =
            fails || self.faulty || self.missing.is_some() || (out && now - self.began >= JOINING);
        let due = match self.asked {
            _ if troubled => self.asked.map_or(now, |asked| asked + TROUBLED),
            _ => self.well.max(self.asked.unwrap_or(self.well)) + IDLE,
        };
        if self.is_asking || now < due {
            return false;
        }
        (self.failed, self.commits) = (facts.commits_failed, facts.commits);
        (self.asked, self.is_asking) = (Some(now), true);
        true
    }

    /// Takes the answer to a question that was asked as this member.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        asked_as: Option<Membership>,
        answer: Result<GroupAnswer, RequestError>,
        facts: &Facts,
    ) -> MembershipVerdict {
        self.is_asking = false;
        let Ok(answer) = answer else { return MembershipVerdict::Unclear };
        if asked_as != facts.membership {
            self.missing = None;
            return MembershipVerdict::Unclear;
        }
        let Some(member) = asked_as else {
            self.faulty = matches!(answer, GroupAnswer::Refused(_));
            return match answer {
                GroupAnswer::Refused(refusal) => MembershipVerdict::Fault(refusal),
                _ => MembershipVerdict::Fine,
            };
        };
        self.faulty = false;
        let is_no_group = match answer {
            GroupAnswer::Group { has_member: true } => {
                (self.missing, self.well) = (None, now);
                return MembershipVerdict::Fine;
            }
            GroupAnswer::Refused(refusal) if refusal.consequence() == Consequence::Retry => {
                self.faulty = true;
                return MembershipVerdict::Fault(refusal);
            }
            GroupAnswer::Group { has_member: false } => false,
            GroupAnswer::NoGroup | GroupAnswer::Refused(_) => true,
        };
        let (since, without) = match self.missing.take() {
            Some((known, since, without)) if known == member => (since, without),
            _ => (now, None),
        };
        let without = is_no_group.then(|| without.unwrap_or(now));
        self.missing = Some((member, since, without));
        if without.is_some_and(|without| now - without >= NO_GROUP_AFTER) {
            return MembershipVerdict::Gone(match answer {
                GroupAnswer::Refused(refusal) => MembershipEnd::Refused(refusal),
                _ => MembershipEnd::NoGroup,
            });
        }
        if now - since >= GONE_AFTER {
            return MembershipVerdict::Gone(MembershipEnd::NoMember);
        }
        MembershipVerdict::Unclear
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiKey;

    use super::*;

    const NO_GROUP: GroupAnswer = GroupAnswer::NoGroup;

    fn has(member: bool) -> GroupAnswer {
        GroupAnswer::Group { has_member: member }
    }

    fn share_group() -> GroupRefusal {
        GroupRefusal::Kind("share".to_owned())
    }

    fn refused(refusal: GroupRefusal) -> GroupAnswer {
        GroupAnswer::Refused(refusal)
    }

    fn no_answer() -> RequestError {
        RequestError::Silent { broker: "a:1".to_owned(), api: ApiKey::DescribeGroups }
    }

    /// Seconds; the epoch of the membership, 0 for none; the answer.
    type Row = (u64, i32, Result<GroupAnswer, RequestError>, MembershipVerdict);

    fn assert_verdicts(rows: Vec<Row>) {
        let start = Instant::now();
        let mut monitor = MembershipMonitor::new(start, &Facts::default());
        for (seconds, epoch, answer, expected) in rows {
            let membership = (epoch > 0).then(|| ("me".to_owned(), epoch));
            let facts = Facts {
                membership: membership.clone(),
                is_assigned: epoch > 0,
                ..Facts::default()
            };
            let now = start + Duration::from_secs(seconds);
            let verdict = monitor.answered(now, membership, answer, &facts);
            assert_eq!(verdict, expected, "at {seconds} s");
        }
    }

    use MembershipVerdict::{Fault, Gone};

    #[test]
    fn a_group_that_is_no_more_ends_the_membership() {
        assert_verdicts(vec![
            (0, 7, Ok(has(true)), MembershipVerdict::Fine),
            (30, 7, Ok(NO_GROUP), MembershipVerdict::Unclear),
            (31, 7, Ok(NO_GROUP), MembershipVerdict::Unclear),
            (32, 7, Ok(NO_GROUP), Gone(MembershipEnd::NoGroup)),
        ]);
        assert_verdicts(vec![
            (0, 7, Ok(refused(share_group())), MembershipVerdict::Unclear),
            (2, 7, Ok(refused(share_group())), Gone(MembershipEnd::Refused(share_group()))),
        ]);
    }

    #[test]
    fn a_member_that_the_group_does_not_have_may_know_already() {
        assert_verdicts(vec![
            (0, 7, Ok(has(false)), MembershipVerdict::Unclear),
            (19, 7, Ok(has(false)), MembershipVerdict::Unclear),
            // It has joined again.
            (20, 8, Ok(has(false)), MembershipVerdict::Unclear),
            (39, 8, Err(no_answer()), MembershipVerdict::Unclear),
            (40, 8, Ok(has(false)), Gone(MembershipEnd::NoMember)),
        ]);
        assert_verdicts(vec![
            (0, 7, Ok(has(false)), MembershipVerdict::Unclear),
            (10, 7, Ok(has(true)), MembershipVerdict::Fine),
            (20, 7, Ok(has(false)), MembershipVerdict::Unclear),
            // The group is back before anybody can say that it was gone.
            (21, 7, Ok(NO_GROUP), MembershipVerdict::Unclear),
            (22, 7, Ok(has(false)), MembershipVerdict::Unclear),
            (23, 7, Ok(NO_GROUP), MembershipVerdict::Unclear),
        ]);
    }

    #[test]
    fn what_keeps_a_member_out_is_told() {
        let not_authorized = || GroupRefusal::NotAuthorized;
        assert_verdicts(vec![
            (0, 0, Ok(NO_GROUP), MembershipVerdict::Fine),
            (2, 0, Ok(refused(share_group())), Fault(share_group())),
            (4, 0, Err(no_answer()), MembershipVerdict::Unclear),
            (6, 0, Ok(has(false)), MembershipVerdict::Fine),
            (8, 7, Ok(refused(not_authorized())), Fault(not_authorized())),
            (60, 7, Ok(refused(not_authorized())), Fault(not_authorized())),
        ]);
    }

    #[test]
    fn an_answer_for_a_membership_that_has_ended_says_nothing() {
        let now = Instant::now();
        let mut monitor = MembershipMonitor::new(now, &Facts::default());
        let facts =
            Facts { membership: Some(("me".to_owned(), 2)), is_assigned: true, ..Facts::default() };
        for seconds in [0, 60] {
            let now = now + Duration::from_secs(seconds);
            let verdict = monitor.answered(now, Some(("me".to_owned(), 1)), Ok(NO_GROUP), &facts);
            assert_eq!(verdict, MembershipVerdict::Unclear);
        }
    }

    #[test]
    fn asks_seldom_and_in_trouble_often() {
        let start = Instant::now();
        let member = Some(("me".to_owned(), 1));
        let facts = |commits, commits_failed| Facts {
            membership: member.clone(),
            is_assigned: true,
            commits,
            commits_failed,
        };
        let mut monitor = MembershipMonitor::new(start, &facts(0, 0));
        // Seconds, commits, commits that failed, whether it asks.
        for (seconds, commits, failed, asks) in [
            (29, 0, 0, false),
            (30, 0, 0, true),
            (59, 0, 0, false),
            // Commits tell as much.
            (59, 1, 0, false),
            (88, 1, 0, false),
            (89, 1, 0, true),
            (90, 1, 1, false),
            (91, 1, 1, true),
            (92, 1, 2, false),
            (93, 1, 3, true),
            (94, 1, 3, false),
        ] {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(monitor.asks(now, &facts(commits, failed)), asks, "at {seconds} s");
            if asks {
                assert!(
                    !monitor.asks(now + IDLE, &facts(commits, failed)),
                    "the answer is waited for"
                );
                let answer = Ok(has(true));
                let verdict =
                    monitor.answered(now, member.clone(), answer, &facts(commits, failed));
                assert_eq!(verdict, MembershipVerdict::Fine);
            }
        }
        // While it waits for its place.
        let mut monitor = MembershipMonitor::new(start, &Facts::default());
        for (millis, asks) in [(2_900, false), (3_000, true)] {
            assert_eq!(
                monitor.asks(start + Duration::from_millis(millis), &Facts::default()),
                asks
            );
        }
    }
}
