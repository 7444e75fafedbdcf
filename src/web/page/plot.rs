//! Bar charts as inline SVG.

use maud::{Markup, html};

use super::number;

/// The chart's size in units of the picture.
const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 80.0;

/// Draws a value for each period as a bar, oldest first. `name` is also the class; `period` is the length of a
/// bar in words.
pub(super) fn bars(name: &str, values: &[u64], period: &str) -> Markup {
    let (sum, most) = (
        values.iter().sum::<u64>(),
        values.iter().copied().max().unwrap_or(0),
    );
    let step = WIDTH / values.len().max(1) as f64;
    let height = |value: u64| value as f64 / most.max(1) as f64 * (HEIGHT - 2.0);
    let words = format!(
        "{name}: {} in all, at most {} in one {period}",
        number(sum),
        number(most)
    );
    html! {
        figure class=(name) {
            figcaption { span { (name) } strong { (number(sum)) } }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label=(words) {
                title { (words) }
                line x1="0" x2=(WIDTH) y1=(HEIGHT) y2=(HEIGHT) {}
                @for (place, value) in values.iter().enumerate().filter(|(_, value)| **value > 0) {
                    rect x=(format!("{:.2}", place as f64 * step)) width=(format!("{:.2}", step * 0.8))
                        y=(format!("{:.2}", HEIGHT - height(*value).max(1.5))) height=(format!("{:.2}", height(*value).max(1.5))) {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_says_in_words_what_it_shows() {
        let drawn = bars("failed", &[0, 3, 1], "minute").into_string();
        assert!(
            drawn.contains("aria-label=\"failed: 4 in all, at most 3 in one minute\""),
            "{drawn}"
        );
        assert_eq!(drawn.matches("<rect").count(), 2);
        assert!(!bars("failed", &[], "minute").into_string().contains("NaN"));
    }
}
