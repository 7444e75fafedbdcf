//! Decides which message is sent next through a mailbox: the mailbox's users take turns, weighted by
//! priority, and so do the servers that share the mailbox. Pure.
//!
//! Self-clocked fair queueing: each message that is sent advances the virtual clock of its flow, by a smaller
//! step if the flow is more urgent. The next message is always taken from the flow with the earliest clock.
//! When a message arrives in an idle flow, the flow's clock starts at the present virtual time. The message
//! therefore need not wait for the end of another user's campaign, and an idle flow saves up no turns.

use std::collections::{BTreeMap, VecDeque};

use crate::message::Priority;
use crate::spool::record::Place;

/// The maximum number of messages of one flow that wait at a desk.
pub(crate) const FLOW: usize = 64;

/// The step by which one message advances the clock of a flow of weight 1. For another weight, the step is
/// divided by that weight.
const TURN: u64 = 64;

/// The fair queue.
#[derive(Debug)]
pub(crate) struct Fair<T> {
    flows: BTreeMap<Place, WaitingFlow<T>>,
    /// The virtual time: the clock of the flow that was served last.
    now: u64,
    len: usize,
}

#[derive(Debug)]
struct WaitingFlow<T> {
    queue: VecDeque<T>,
    /// The virtual time at which the flow's next message ends.
    clock: u64,
    /// True if the flow has been full since it was last low.
    was_full: bool,
}

/// The next message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NextItem<T> {
    /// The message.
    pub item: T,
    /// True if the message's flow should be refilled from the spool.
    pub is_low: bool,
}

impl<T> Default for Fair<T> {
    fn default() -> Self {
        Self {
            flows: BTreeMap::new(),
            now: 0,
            len: 0,
        }
    }
}

impl<T> Fair<T> {
    /// The number of messages that wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// True if no message waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of further messages that fit into a flow.
    pub(crate) fn room(&self, place: &Place) -> usize {
        let waiting = self.flows.get(place).map_or(0, |flow| flow.queue.len());
        FLOW.saturating_sub(waiting)
    }

    /// Adds a message at the end of its flow.
    pub(crate) fn push(&mut self, place: Place, item: T) {
        let waiting = self.waiting(place);
        waiting.queue.push_back(item);
        waiting.was_full |= waiting.queue.len() >= FLOW;
        self.len += 1;
    }

    /// Puts a message back at the front of its flow, as if it had not been taken.
    pub(crate) fn put_back(&mut self, place: Place, item: T) {
        let turn = turn(place.flow.priority);
        let waiting = self.waiting(place);
        waiting.queue.push_front(item);
        waiting.clock = waiting.clock.saturating_sub(turn);
        self.len += 1;
    }

    /// Takes the next message.
    pub(crate) fn pop(&mut self) -> Option<NextItem<T>> {
        let waiting = self.flows.iter().filter(|(_, flow)| !flow.queue.is_empty());
        // If clocks are equal, the more urgent flow is first.
        let first = waiting.min_by_key(|(place, waiting)| (waiting.clock, place.flow.priority));
        let place = first?.0.clone();
        let waiting = self.flows.get_mut(&place)?;
        let item = waiting.queue.pop_front()?;
        self.now = waiting.clock;
        waiting.clock += turn(place.flow.priority);
        let is_low = waiting.was_full && waiting.queue.len() <= FLOW / 4;
        waiting.was_full &= !is_low;
        self.len -= 1;
        self.forget();
        Some(NextItem { item, is_low })
    }

    /// Removes and returns all messages that wait.
    pub(crate) fn drain(&mut self) -> Vec<T> {
        let flows = std::mem::take(&mut self.flows);
        self.len = 0;
        flows.into_values().flat_map(|flow| flow.queue).collect()
    }

    fn waiting(&mut self, place: Place) -> &mut WaitingFlow<T> {
        let ends = self.now + turn(place.flow.priority);
        let waiting = self.flows.entry(place).or_insert_with(|| WaitingFlow {
            queue: VecDeque::new(),
            clock: ends,
            was_full: false,
        });
        if waiting.queue.is_empty() {
            waiting.clock = waiting.clock.max(ends);
        }
        waiting
    }

    /// Removes empty flows whose clock is no longer ahead of the virtual time.
    fn forget(&mut self) {
        let now = self.now;
        self.flows.retain(|place, waiting| {
            !waiting.queue.is_empty() || waiting.clock > now + turn(place.flow.priority)
        });
    }
}

/// Returns the step by which one message advances the clock of its flow. If all flows have mail waiting, an
/// urgent flow sends eight times as much as a normal one, and a normal flow eight times as much as bulk.
fn turn(priority: Priority) -> u64 {
    match priority {
        Priority::High => TURN / 64,
        Priority::Normal => TURN / 8,
        Priority::Bulk => TURN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::record::Flow;
    use proptest::prelude::*;

    fn flow(user: &str, priority: Priority) -> Place {
        let user = user.to_owned();
        Place {
            lane: String::new(),
            flow: Flow { priority, user },
        }
    }

    fn taken(fair: &mut Fair<&'static str>, count: usize) -> Vec<&'static str> {
        let next = (0..count).map_while(|_| fair.pop());
        next.map(|next| next.item).collect()
    }

    #[test]
    fn a_campaign_does_not_delay_a_password_reset() {
        let (campaign, reset) = (
            flow("shop", Priority::Normal),
            flow("portal", Priority::Normal),
        );
        let mut fair = Fair::default();
        (0..50).for_each(|_| fair.push(campaign.clone(), "campaign"));
        taken(&mut fair, 10);
        fair.push(reset.clone(), "reset");
        fair.push(reset, "reset");
        let next = taken(&mut fair, 4);
        assert!(next[..2].contains(&"reset"), "{next:?}");
        assert_eq!(next.iter().filter(|item| **item == "reset").count(), 2);
    }

    #[test]
    fn what_is_urgent_goes_first_whoever_came_first() {
        let mut fair = Fair::default();
        for (priority, name) in [
            (Priority::Bulk, "bulk"),
            (Priority::Normal, "normal"),
            (Priority::High, "high"),
        ] {
            (0..3).for_each(|_| fair.push(flow("a", priority), name));
        }
        assert_eq!(
            taken(&mut fair, 6),
            ["high", "high", "high", "normal", "normal", "normal"]
        );
    }

    #[test]
    fn users_take_turns_and_weights_hold_where_all_have_mail() {
        let mut fair = Fair::default();
        for _ in 0..FLOW {
            fair.push(flow("a", Priority::High), "high");
            fair.push(flow("a", Priority::Normal), "normal");
            fair.push(flow("a", Priority::Bulk), "bulk");
        }
        let of = taken(&mut fair, 73);
        let count = |kind| of.iter().filter(|item| **item == kind).count();
        assert_eq!((count("high"), count("normal"), count("bulk")), (64, 8, 1));
    }

    #[test]
    fn one_at_a_time_starves_nobody() {
        let mut fair = Fair::default();
        (0..20).for_each(|_| fair.push(flow("b", Priority::Normal), "b"));
        let mut order = Vec::new();
        for _ in 0..20 {
            fair.push(flow("a", Priority::Normal), "a");
            order.extend(taken(&mut fair, 1));
        }
        assert!(order.iter().filter(|item| **item == "b").count() >= 9);
    }

    #[test]
    fn what_is_put_back_is_next_again_and_a_low_flow_says_so() {
        let mut fair = Fair::default();
        let own = flow("a", Priority::Normal);
        (0..FLOW).for_each(|_| fair.push(own.clone(), "a"));
        assert_eq!(fair.room(&own), 0);
        let first = fair.pop().unwrap();
        fair.put_back(own.clone(), first.item);
        fair.push(flow("z", Priority::Normal), "z");
        assert_eq!(taken(&mut fair, 1), ["a"]);
        let low = (0..FLOW).filter_map(|_| fair.pop()).filter(|n| n.is_low);
        assert_eq!(low.count(), 1);
        assert!(fair.is_empty());
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_flows_keep_their_order(pushes in prop::collection::vec((0usize..4, any::<bool>()), 1..200)) {
            let mut fair = Fair::default();
            let (mut count, mut got) = ([0u32; 4], Vec::new());
            for (user, takes) in pushes {
                fair.push(flow(&user.to_string(), Priority::Normal), (user, count[user]));
                count[user] += 1;
                if takes {
                    got.extend(fair.pop().map(|next| next.item));
                }
            }
            while let Some(next) = fair.pop() {
                got.push(next.item);
            }
            prop_assert_eq!(got.len() as u32, count.iter().sum::<u32>());
            for user in 0..4 {
                let own: Vec<u32> = got.iter().filter(|item| item.0 == user).map(|item| item.1).collect();
                prop_assert!(own.windows(2).all(|pair| pair[0] < pair[1]));
            }
        }
    }
}
