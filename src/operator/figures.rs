//! The numbers of accepted, delivered, deferred, failed and bounced mail in the last hour, day and month. The
//! figures survive a restart: they are stored as a note in the spool.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::Timestamp;
use crate::observe::metrics::{Totals, totals};
use crate::spool::{Notes, keep, kept};

/// The interval at which the figures are stored. A crash loses the figures of at most this time.
const INTERVAL: Duration = Duration::from_secs(60);

/// The note with the figures.
const NOTE: &str = "figures";

/// The scales: the width of a period (milliseconds), and the number of periods that are kept.
const SCALES: [(i64, i64); 3] = [(60_000, 60), (1_800_000, 48), (86_400_000, 30)];

/// A scale of the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    /// The last hour, by minutes.
    Hour,
    /// The last day, by half hours.
    Day,
    /// The last 30 days, by days of UTC.
    Month,
}

impl Span {
    fn scale(self) -> usize {
        match self {
            Self::Hour => 0,
            Self::Day => 1,
            Self::Month => 2,
        }
    }
}

/// The figures: for each scale, the totals of each period that had any, by the period's number since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Figures([BTreeMap<i64, Totals>; 3]);

impl Figures {
    /// Adds totals that were counted at `now`.
    fn add(&mut self, totals: &Totals, now: Timestamp) {
        for (periods, (width, count)) in self.0.iter_mut().zip(SCALES) {
            let number = now.0.div_euclid(width);
            periods.retain(|period, _| *period > number - count);
            if *totals != Totals::default() {
                periods.entry(number).or_default().add(totals);
            }
        }
    }

    /// Adds the figures of another process.
    fn add_all(&mut self, other: &Self) {
        for (periods, its) in self.0.iter_mut().zip(&other.0) {
            for (period, totals) in its {
                periods.entry(*period).or_default().add(totals);
            }
        }
    }

    /// Returns the periods of a span, oldest first: the time at which each begins, and its totals.
    pub(crate) fn periods(&self, span: Span, now: Timestamp) -> Vec<(Timestamp, Totals)> {
        let (width, count) = SCALES[span.scale()];
        let last = now.0.div_euclid(width);
        let totals = |number| self.0[span.scale()].get(&number).copied();
        let numbers = last - count + 1..=last;
        numbers
            .map(|number| {
                (
                    Timestamp(number * width),
                    totals(number).unwrap_or_default(),
                )
            })
            .collect()
    }

    /// Returns the totals of a span.
    pub(crate) fn sum(&self, span: Span, now: Timestamp) -> Totals {
        let mut sum = Totals::default();
        for (_, totals) in self.periods(span, now) {
            sum.add(&totals);
        }
        sum
    }
}

/// The figures of the running program, kept up to date.
pub(crate) struct Recorder {
    notes: Arc<dyn Notes>,
    /// The figures, and the totals that they contain already.
    figures: Mutex<(Figures, Totals)>,
    /// The figures that the other nodes have stored, in total.
    others: Mutex<Figures>,
}

impl Recorder {
    /// Continues with the stored figures. If they cannot be read, begins anew.
    pub(crate) async fn begin(notes: Arc<dyn Notes>) -> Arc<Self> {
        let figures = kept(notes.as_ref(), &notes.own_name(NOTE)).await;
        let figures = Mutex::new((figures.unwrap_or_default(), totals()));
        let recorder = Arc::new(Self {
            notes,
            figures,
            others: Mutex::default(),
        });
        recorder.read_others().await;
        recorder
    }

    /// Reads what the other nodes have stored. If that fails, what was read before stays.
    async fn read_others(&self) {
        let own = self.notes.own_name(NOTE);
        let Ok(notes) = self.notes.notes(NOTE).await else {
            return;
        };
        let mut sum = Figures::default();
        for (_, text) in notes.into_iter().filter(|(name, _)| *name != own) {
            if let Ok(figures) = serde_json::from_str(&text) {
                sum.add_all(&figures);
            }
        }
        *self.others.lock().unwrap_or_else(PoisonError::into_inner) = sum;
    }

    fn figures(&self) -> MutexGuard<'_, (Figures, Totals)> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the figures up to now, of all nodes.
    pub(crate) fn now(&self, now: Timestamp) -> Figures {
        let mut all = self.own(now);
        let others = self.others.lock();
        all.add_all(&others.unwrap_or_else(PoisonError::into_inner));
        all
    }

    /// Returns this process's figures up to now.
    fn own(&self, now: Timestamp) -> Figures {
        let mut figures = self.figures();
        let (figures, counted) = &mut *figures;
        let all = totals();
        figures.add(&all.since(counted), now);
        *counted = all;
        figures.clone()
    }

    /// Stores the figures regularly. Never returns.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut stored = None;
        loop {
            tokio::time::sleep(INTERVAL).await;
            let figures = self.own(Timestamp::now());
            if stored.as_ref() != Some(&figures) {
                self.keep(&figures).await;
                stored = Some(figures);
            }
            self.read_others().await;
        }
    }

    /// Stores the figures before the program ends.
    pub(crate) async fn stop(&self) {
        let figures = self.own(Timestamp::now());
        self.keep(&figures).await;
    }

    async fn keep(&self, figures: &Figures) {
        let name = self.notes.own_name(NOTE);
        keep(self.notes.as_ref(), &name, figures).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_701_630_000);

    fn accepted(accepted: u64) -> Totals {
        Totals {
            accepted,
            ..Totals::default()
        }
    }

    #[test]
    fn each_span_has_its_periods_and_forgets_older_ones() {
        let mut figures = Figures::default();
        figures.add(&accepted(5), NOW.before(Duration::from_secs(40 * 86_400)));
        figures.add(&accepted(3), NOW.before(Duration::from_secs(2 * 86_400)));
        figures.add(&accepted(2), NOW.before(Duration::from_secs(7_200)));
        figures.add(&accepted(1), NOW);
        let sum = |span| figures.sum(span, NOW).accepted;
        assert_eq!([Span::Hour, Span::Day, Span::Month].map(sum), [1, 3, 6]);
        let hour = figures.periods(Span::Hour, NOW);
        assert_eq!(hour.len(), 60);
        assert_eq!(hour[59], (Timestamp(1_795_701_600_000), accepted(1)));
        let text = serde_json::to_string(&figures).unwrap();
        assert_eq!(serde_json::from_str::<Figures>(&text).unwrap(), figures);
    }
}
