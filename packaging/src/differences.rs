//! The differences from knockd, for the page, out of the tables of the document that has all of them.

use crate::page::text;

/// One item for each row with five columns: what, knockd, portknock, why, and the test, which the page leaves out.
pub(crate) fn list(page: &mut String, document: &str) {
    page.push_str(".Bl -tag -width Ds\n");
    for line in document.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [what, knockd, here, why, _] = cells[..] else { continue };
        if what == "what" || what.starts_with("--") {
            continue;
        }
        page.push_str(".It Xo\n");
        text(page, what);
        page.push_str(".Xc\n");
        text(page, &format!("knockd: {knockd}."));
        text(page, &format!("Here: {here}; {why}."));
    }
    page.push_str(".El\n");
}
