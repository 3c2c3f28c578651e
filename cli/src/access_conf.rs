//! Reads the text of fwknop's `access.conf`.

/// A line with a setting.
#[derive(Debug)]
pub(crate) struct Setting<'a> {
    /// The number of the line, counted from 1.
    pub(crate) line: usize,
    pub(crate) name: &'a str,
    pub(crate) value: &'a str,
}

/// The settings that belong to one `SOURCE`, which is the first of them.
#[derive(Debug)]
pub(crate) struct Stanza<'a> {
    pub(crate) settings: Vec<Setting<'a>>,
}

/// A message about a line. It never contains any part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) line: usize,
    pub(crate) message: String,
}

impl Finding {
    pub(crate) fn new(line: usize, message: impl Into<String>) -> Self {
        Self { line, message: message.into() }
    }
}

/// Splits a text into stanzas. Lines that belong to none are in the findings.
pub(crate) fn parse<'a>(text: &'a [u8], found: &mut Vec<Finding>) -> Vec<Stanza<'a>> {
    let mut stanzas: Vec<Stanza<'a>> = Vec::new();
    for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        let Ok(line) = std::str::from_utf8(line) else {
            found.push(Finding::new(number, "the line is not valid UTF-8"));
            continue;
        };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once(|c: char| c == ':' || c.is_whitespace()).unwrap_or((line, ""));
        let value = value.trim_start_matches(|c: char| c == ':' || c.is_whitespace());
        // Old files end lines with a semicolon. It can be a part of a passphrase.
        let is_passphrase = matches!(name, "KEY" | "HMAC_KEY");
        let value = if is_passphrase { value } else { value.strip_suffix(';').unwrap_or(value).trim_end() };
        if name.starts_with('%') {
            let message = "other files are not read: run portknock import-fwknop for each of them";
            found.push(Finding::new(number, message));
        } else if value.is_empty() {
            found.push(Finding::new(number, "the line has no value"));
        } else if name == "SOURCE" {
            stanzas.push(Stanza { settings: vec![Setting { line: number, name, value }] });
        } else if let Some(stanza) = stanzas.last_mut() {
            stanza.settings.push(Setting { line: number, name, value });
        } else {
            found.push(Finding::new(number, "the line is not below a SOURCE"));
        }
    }
    stanzas
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_begins_a_stanza() {
        let text = b"# comment\nKEY early\n\nSOURCE: ANY;\n  KEY   a b c;  \r\nKEY_BASE64:\txyz=\n%include /a\nSOURCE a\n\xff\nX";
        let mut found = Vec::new();
        let stanzas = parse(text, &mut found);
        let settings: Vec<_> = stanzas
            .iter()
            .map(|stanza| stanza.settings.iter().map(|one| (one.line, one.name, one.value)).collect::<Vec<_>>())
            .collect();
        let first = vec![(4, "SOURCE", "ANY"), (5, "KEY", "a b c;"), (6, "KEY_BASE64", "xyz=")];
        assert_eq!(settings, [first, vec![(8, "SOURCE", "a")]]);
        assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [2, 7, 9, 10]);
    }
}
