//! Texts of configurations: the same as core's own tests ask of random ones.

#[path = "../../../core/tests/config_support/any_text.rs"]
mod any_text;
mod built;

use arbitrary::Unstructured;

/// No text in UTF-8 or UTF-16 begins with this byte.
const BUILT: u8 = 0xf9;

/// Panics where the reader of configurations does not keep what it promises for this text, or for one that is built of
/// what follows [`BUILT`].
pub fn check(text: &[u8]) {
    match text {
        [BUILT, choices @ ..] => {
            if let Ok(text) = built::built(&mut Unstructured::new(choices)) {
                any_text::check(&text);
            }
        }
        text => any_text::check(text),
    }
}

/// Beside the configurations that lie in files: choices, for some options and for a door with every kind of line.
pub fn seeds() -> Vec<Vec<u8>> {
    let lines = |first: u8| (first..first + 5).flat_map(|key| [key, 30 + key, 0]).collect::<Vec<_>>();
    let door = |first| [&[5, 6, 7, 5][..], &lines(first)].concat();
    vec![
        vec![BUILT],
        [&[BUILT, 1, 5][..], &lines(0), &[1], &door(0)].concat(),
        [&[BUILT, 0, 2][..], &door(3), &door(8)].concat(),
    ]
}
