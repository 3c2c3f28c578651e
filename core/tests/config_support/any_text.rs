//! Properties of any text of a configuration. The fuzz target `config` checks them too.

use portknock_core::config::{Diagnostic, Locator, apply_fixes, check_json, parse};

/// Panics if a property does not hold for this text.
pub(crate) fn check(text: &[u8]) {
    let parsed = parse(text);
    assert_eq!(parsed.config.is_none(), parsed.report.has_errors());
    let locator = Locator::new(text);
    for found in &parsed.report.diagnostics {
        check_finding(found, text, &locator);
    }
    let rendered = parsed.report.render("file", text);
    assert!(!rendered.chars().any(|c| c.is_control() && c != '\n'), "{rendered:?}");
    check_shown(&check_json("file", text, &parsed.report, parsed.config.as_ref()), parsed.report.errors());

    let fixed = apply_fixes(text, &parsed.report);
    let again = parse(&fixed);
    assert!(
        again.report.diagnostics.iter().all(|found| found.fix.is_none()),
        "{}",
        again.report.render("fixed", &fixed)
    );
    if let Some(config) = parsed.config {
        // If only warnings are fixed, the meaning stays, except for typographic characters and for
        // quotes around a command, which change the meaning.
        let changes_meaning = |found: &Diagnostic| ["PK026", "PK045"].contains(&found.code);
        if !parsed.report.diagnostics.iter().any(changes_meaning) {
            assert_eq!(again.config.as_ref(), Some(&config));
        }
        let canonical = config.to_string();
        let printed = parse(canonical.as_bytes());
        assert_eq!(printed.config.as_ref(), Some(&config), "{canonical}");
    }
}

fn check_finding(found: &Diagnostic, text: &[u8], locator: &Locator<'_>) {
    let (start, end) = (found.span.start, found.span.end);
    assert!(start <= end && end <= text.len(), "{found:?}");
    let messages = found.message.chars().chain(found.help.iter().flat_map(|help| help.chars()));
    assert!(messages.into_iter().all(|c| !c.is_control()), "{found:?}");
    let fix = found.fix.as_ref();
    assert!(fix.is_none_or(|fix| fix.span.start <= fix.span.end && fix.span.end <= text.len()), "{found:?}");
    assert!(locator.position(start) <= locator.position(end));
    // A second way to the same result, if the bytes are UTF-8.
    if let Ok(before) = std::str::from_utf8(&text[..start]) {
        let before = before.strip_prefix('\u{feff}').unwrap_or(before);
        let column = 1 + before.chars().rev().take_while(|c| *c != '\n').count();
        let position = locator.position(start);
        assert_eq!((position.line, position.column), (1 + before.matches('\n').count(), column), "{found:?}");
    }
}

fn check_shown(json: &str, errors: usize) {
    let shown: serde_json::Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error} in {json}"));
    assert_eq!(shown["errors"], errors);
    assert_eq!(shown["config"].is_null(), errors > 0);
}
