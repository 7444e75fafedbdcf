//! The place in the guides where a failure is explained, by the code in its text. Pure.

/// The guide to failures. The Debian package puts it into /usr/share/doc/mailferry/guides.
const GUIDE: &str = "guides/troubleshooting.md";

/// Signs of a failure, each with its anchor in the guide.
const ANCHORS: [(&str, &str); 28] = [
    ("AADSTS7000215", "aadsts7000215"),
    ("AADSTS7000222", "aadsts7000222"),
    ("AADSTS700027", "aadsts700027"),
    ("AADSTS700016", "aadsts700016"),
    ("AADSTS90002", "aadsts90002"),
    ("AADSTS65001", "aadsts65001"),
    ("AADSTS90094", "aadsts65001"),
    ("AADSTS50076", "aadsts50076"),
    ("AADSTS50079", "aadsts50076"),
    ("AADSTS53003", "aadsts53003"),
    ("AADSTS530032", "aadsts53003"),
    ("AADSTS700082", "aadsts700082"),
    ("AADSTS50173", "aadsts700082"),
    ("535 5.7.139", "535-5.7.139"),
    ("535 5.7.3", "535-5.7.3"),
    ("5.2.252", "554-5.2.252"),
    ("5.7.60", "554-5.2.252"),
    ("SendAsDenied", "554-5.2.252"),
    ("432 4.3.2", "432-4.3.2"),
    ("5.7.232", "550-5.7.233"),
    ("5.7.233", "550-5.7.233"),
    ("5.2.251", "550-5.2.251"),
    ("5.2.255", "550-5.2.251"),
    ("554 5.2.2", "554-5.2.2"),
    ("550 5.1.8", "550-5.1.8"),
    ("5.7.705", "550-5.1.8"),
    ("5.5.105", "550-5.5.105"),
    ("5.7.62", "550-5.5.105"),
];

/// Returns where a failure is explained, if the guide has it.
pub(crate) fn explained(failure: &str) -> Option<String> {
    let is_said = |sign: &str| {
        failure.match_indices(sign).any(|(at, _)| {
            // 5.7.3 must not be found in 5.7.30.
            let next = failure[at + sign.len()..].chars().next();
            !next.is_some_and(|next| next.is_ascii_alphanumeric())
        })
    };
    let found = ANCHORS.iter().find(|(sign, _)| is_said(sign))?;
    Some(format!("{GUIDE}#{}", found.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_anchor_exists() {
        let guide = include_str!("../../config/guides/troubleshooting.md");
        for (sign, anchor) in ANCHORS {
            assert!(
                guide.contains(&format!("<a id=\"{anchor}\"></a>")),
                "{sign}: {anchor}"
            );
            assert_eq!(
                explained(&format!("x {sign} y")),
                Some(format!("{GUIDE}#{anchor}")),
                "{sign}"
            );
        }
    }

    #[test]
    fn a_code_is_found_whole() {
        let at = |text: &str| explained(text).unwrap_or_default();
        assert!(at("535 5.7.139 disabled").ends_with("#535-5.7.139"));
        assert!(at("535 5.7.3 Authentication unsuccessful").ends_with("#535-5.7.3"));
        assert_eq!(at("550 5.7.30 Basic authentication is not supported"), "");
        assert!(at("AADSTS530032: blocked").ends_with("#aadsts53003"));
    }
}
