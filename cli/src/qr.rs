//! QR codes on a terminal.

use qrcode::render::unicode::Dense1x2;
use qrcode::types::QrError;
use qrcode::{EcLevel, QrCode};

/// White on black, so that the theme of the terminal does not matter.
const WHITE_ON_BLACK: &str = "\x1b[97;40m";
const DEFAULT_COLORS: &str = "\x1b[0m";

/// Returns a text as a QR code, with two modules in each character. Characters are the light
/// modules, as on a terminal with a dark background; with `colors`, escape sequences make the
/// background dark.
pub(crate) fn render(text: &str, colors: bool) -> Result<String, QrError> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L)?;
    let image = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    let (start, end) = if colors { (WHITE_ON_BLACK, DEFAULT_COLORS) } else { ("", "") };
    Ok(image.lines().map(|line| format!("{start}{line}{end}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The modules of the code, without the margin.
    fn modules(text: &str) -> Vec<Vec<bool>> {
        let drawn = render(text, false).unwrap();
        let mut rows = Vec::new();
        for line in drawn.lines() {
            let is_light = |halves: [char; 2]| line.chars().map(|c| halves.contains(&c)).collect::<Vec<_>>();
            rows.push(is_light(['▀', '█']));
            rows.push(is_light(['▄', '█']));
        }
        let size = rows[0].len() - 8;
        rows.iter().skip(4).take(size).map(|row| row[4..4 + size].iter().map(|light| !light).collect()).collect()
    }

    #[test]
    fn dark_modules_are_those_of_the_code() {
        let text = "key = pk1:x\n".repeat(20);
        let code = QrCode::with_error_correction_level(&text, EcLevel::L).unwrap();
        let expected: Vec<Vec<bool>> = code
            .to_colors()
            .chunks(code.width())
            .map(|row| row.iter().map(|c| c.select(true, false)).collect())
            .collect();
        assert_eq!(modules(&text), expected);
        assert!(render(&text, true).unwrap().lines().all(|line| line.starts_with("\x1b[97;40m")));
        assert!(render(&"x".repeat(3000), true).is_err());
    }
}
