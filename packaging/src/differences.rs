//! The differences from knockd for the manual page, from the tables of the document that lists all
//! of them.

use crate::page::text;

/// Writes one item for each row with five columns: subject, knockd, portknock, reason, and the
/// test, which the page omits.
pub(crate) fn list(page: &mut String, document: &str) {
    page.push_str(".Bl -tag -width Ds\n");
    for line in document.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [subject, knockd, here, reason, _] = cells[..] else { continue };
        if subject == "what" || subject.starts_with("--") {
            continue;
        }
        page.push_str(".It Xo\n");
        text(page, subject);
        page.push_str(".Xc\n");
        text(page, &format!("knockd: {knockd}."));
        text(page, &format!("Here: {here}; {reason}."));
    }
    page.push_str(".El\n");
}
