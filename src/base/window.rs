//! The number of events in the most recent period, such as a minute or a day. Events are counted in slices
//! of that period, so a window takes little memory however many events there are. It forgets an event at most
//! one slice early. A user who uses up a day's limit at once has room again at the same time the next day.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The number of slices in a window.
const SLICES: u32 = 60;

/// A count of the events in the most recent period.
#[derive(Debug, Clone)]
pub struct Window {
    length: Duration,
    /// The beginning of each slice and the number of its events; oldest first.
    slices: VecDeque<(Instant, u64)>,
}

/// The time for which a window has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoom {
    /// There will be room after this time.
    For(Duration),
    /// The request is for more than the window can ever hold.
    Never,
}

impl Window {
    /// Creates an empty window.
    pub fn new(length: Duration) -> Self {
        Self {
            length,
            slices: VecDeque::new(),
        }
    }

    /// Returns the number of events in the window.
    pub fn count(&mut self, now: Instant) -> u64 {
        self.forget(now);
        self.slices.iter().map(|(_, count)| count).sum()
    }

    /// Adds this number of events.
    pub fn add(&mut self, count: u64, now: Instant) {
        self.forget(now);
        let slice = self.slice();
        match self.slices.back_mut() {
            Some((begin, in_slice)) if now < *begin + slice => *in_slice += count,
            _ => self.slices.push_back((now, count)),
        }
    }

    /// Removes this number of events, the latest first, because they did not happen after all.
    pub fn take_back(&mut self, count: u64) {
        let mut left = count;
        for (_, in_slice) in self.slices.iter_mut().rev() {
            let taken = left.min(*in_slice);
            *in_slice -= taken;
            left -= taken;
        }
    }

    /// Checks that `count` more events may happen if the limit is `most`.
    pub fn room(&mut self, count: u64, most: u64, now: Instant) -> Result<(), NoRoom> {
        if count > most {
            return Err(NoRoom::Never);
        }
        let mut over = (self.count(now) + count).saturating_sub(most);
        for (begin, in_slice) in &self.slices {
            if over == 0 {
                break;
            }
            over = over.saturating_sub(*in_slice);
            if over == 0 {
                return Err(NoRoom::For(self.forgotten(*begin) - now));
            }
        }
        Ok(())
    }

    fn slice(&self) -> Duration {
        self.length / SLICES
    }

    fn forgotten(&self, begin: Instant) -> Instant {
        begin + self.length
    }

    fn forget(&mut self, now: Instant) {
        while let Some((begin, _)) = self.slices.front()
            && self.forgotten(*begin) <= now
        {
            self.slices.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn there_is_room_again_when_what_fills_it_is_forgotten() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut window = Window::new(MINUTE);
        window.add(2, at(0));
        window.add(1, at(30));
        assert_eq!(window.room(1, 4, at(30)), Ok(()));
        let wait = |seconds| Err(NoRoom::For(Duration::from_secs(seconds)));
        assert_eq!(window.room(2, 4, at(31)), wait(29));
        assert_eq!(window.room(4, 4, at(31)), wait(59));
        assert_eq!(window.room(5, 4, at(31)), Err(NoRoom::Never));
        assert_eq!(window.room(2, 4, at(60)), Ok(()));
        window.take_back(1);
        assert_eq!(window.count(at(60)), 0);
    }

    proptest! {
        #[test]
        fn never_lets_more_through_in_any_window(
            steps in prop::collection::vec((0u64..20_000, 1u64..5), 1..200),
            most in 1u64..20,
        ) {
            let begin = Instant::now();
            let (mut window, mut now, mut passed) = (Window::new(MINUTE), begin, Vec::new());
            for (wait, count) in steps {
                now += Duration::from_millis(wait);
                if window.room(count, most, now).is_ok() {
                    window.add(count, now);
                    passed.push((now, count));
                }
                let recent = passed.iter().filter(|(at, _)| now < *at + MINUTE - MINUTE / SLICES);
                prop_assert!(recent.map(|(_, count)| count).sum::<u64>() <= most);
            }
            prop_assert!(window.slices.len() <= SLICES as usize + 2);
        }
    }
}
