//! Days in this machine's time zone.

use crate::base::Timestamp;

/// Returns the beginning and the end of a day, written as `2026-11-26`, `today` or `yesterday`.
pub(crate) fn bounds(text: &str) -> Result<(Timestamp, Timestamp), String> {
    let zone = jiff::tz::TimeZone::system();
    let today = || jiff::Timestamp::now().to_zoned(zone.clone()).date();
    let date = match text {
        "today" => Ok(today()),
        "yesterday" => today().yesterday(),
        date => date.parse(),
    };
    let date: jiff::civil::Date =
        date.map_err(|_| "expected a day such as 2026-11-26, today or yesterday")?;
    let start = |date: jiff::civil::Date| -> Result<Timestamp, jiff::Error> {
        let start = date.to_zoned(zone.clone())?;
        Ok(Timestamp(start.timestamp().as_millisecond()))
    };
    let bounds = start(date).and_then(|first| Ok((first, start(date.tomorrow()?)?)));
    bounds.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_a_beginning_and_an_end() {
        let (since, until) = bounds("2026-11-26").unwrap();
        assert_eq!(until.since(since).as_secs(), 24 * 3_600);
        assert!(bounds("today").unwrap().1 > Timestamp::now());
        assert!(bounds("yesterday").unwrap().1 <= Timestamp::now());
        assert!(bounds("26.11.").unwrap_err().contains("expected a day"));
    }
}
