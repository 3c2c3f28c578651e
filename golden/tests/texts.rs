//! Every text in the sources that a program can print, of all crates, in `golden/texts.txt`: messages, log lines,
//! diagnostics and their help, headings of reports, in the form in which the sources have them. The rendered forms of
//! errors, notices and events are in `core/tests/golden/messages.txt`.
//!
//! The texts are the string literals outside of tests that have more than one word. The list is sorted, so that a text that
//! only moves changes nothing here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use syn::LitStr;

/// The crates that print, by the files that their modules begin with.
const ROOTS: [(&str, &[&str]); 5] = [
    ("core", &["core/src/lib.rs"]),
    ("cli", &["cli/src/lib.rs", "cli/src/bin/knock.rs", "cli/src/bin/portknock.rs"]),
    ("daemon", &["daemon/src/main.rs"]),
    ("ffi", &["ffi/src/lib.rs"]),
    ("python", &["python/src/lib.rs"]),
];

/// Attributes whose texts no program prints. Doc comments of command lines are in the golden manual.
const SILENT_ATTRIBUTES: [&str; 8] = ["doc", "allow", "expect", "cfg", "cfg_attr", "must_use", "deprecated", "serde"];

/// Macros and functions whose texts only a fault of the program prints.
const FAULTS: [&str; 9] = [
    "assert",
    "assert_eq",
    "assert_ne",
    "debug_assert",
    "debug_assert_eq",
    "debug_assert_ne",
    "panic",
    "unreachable",
    "expect",
];

#[test]
fn all_texts_are_the_golden_ones() {
    let mut golden = String::new();
    for (name, roots) in ROOTS {
        let mut texts = Texts::default();
        for root in roots {
            texts.read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(root));
        }
        if name == "python" {
            texts.raised(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../python/portknock"));
        }
        assert!(!texts.found.is_empty(), "{name} has no texts");
        golden += &format!("[{name}]\n");
        for text in texts.found {
            golden += &text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t");
            golden += "\n";
        }
        golden += "\n";
    }
    portknock_golden::assert_golden("golden/texts.txt", &golden);
}

#[derive(Default)]
struct Texts {
    found: BTreeSet<String>,
    /// Files of the modules that were declared and are still to be read.
    modules: Vec<PathBuf>,
}

impl Texts {
    /// Reads the file and those of its modules.
    fn read(&mut self, root: &Path) {
        self.modules.push(root.to_owned());
        while let Some(file) = self.modules.pop() {
            let source = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let tokens = source.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let directory = file.parent().unwrap_or(&file).to_owned();
            let is_root = ["lib.rs", "main.rs", "mod.rs"].iter().any(|name| file.ends_with(name)) || file == root;
            let modules = if is_root { directory } else { file.with_extension("") };
            self.tokens(tokens, &modules);
        }
    }

    fn tokens(&mut self, tokens: TokenStream, modules: &Path) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut index = 0;
        while index < tokens.len() {
            let following = &tokens[index..];
            index += match following {
                [TokenTree::Punct(hash), TokenTree::Group(attribute), item @ ..] if hash.as_char() == '#' => {
                    2 + self.attribute(attribute, item, modules)
                }
                [TokenTree::Punct(hash), TokenTree::Punct(mark), TokenTree::Group(_), ..]
                    if hash.as_char() == '#' && mark.as_char() == '!' =>
                {
                    3
                }
                [TokenTree::Ident(name), TokenTree::Punct(mark), TokenTree::Group(_), ..]
                    if mark.as_char() == '!' && is_any(name, &FAULTS) =>
                {
                    3
                }
                [TokenTree::Ident(name), TokenTree::Group(arguments), ..]
                    if arguments.delimiter() == Delimiter::Parenthesis && is_any(name, &FAULTS) =>
                {
                    2
                }
                [TokenTree::Ident(word), TokenTree::Ident(name), TokenTree::Punct(end), ..]
                    if word == "mod" && end.as_char() == ';' =>
                {
                    let file = modules.join(format!("{name}.rs"));
                    self.modules.push(if file.exists() { file } else { modules.join(name.to_string()).join("mod.rs") });
                    3
                }
                [TokenTree::Ident(word), TokenTree::Ident(name), TokenTree::Group(body), ..] if word == "mod" => {
                    self.tokens(body.stream(), &modules.join(name.to_string()));
                    3
                }
                [TokenTree::Group(group), ..] => {
                    self.tokens(group.stream(), modules);
                    1
                }
                [TokenTree::Literal(literal), ..] => {
                    if let Ok(text) = syn::parse_str::<LitStr>(&literal.to_string()) {
                        self.text(text.value());
                    }
                    1
                }
                _ => 1,
            };
        }
    }

    /// Returns how many tokens of the item after the attribute are skipped, because it is only for tests.
    fn attribute(&mut self, attribute: &Group, item: &[TokenTree], modules: &Path) -> usize {
        let tokens: Vec<TokenTree> = attribute.stream().into_iter().collect();
        let [TokenTree::Ident(name), ..] = tokens.as_slice() else { return 0 };
        let is_for_tests = name == "cfg"
            && attribute.to_string().split(|c: char| !c.is_alphanumeric()).any(|word| word == "test")
            && !attribute.to_string().contains("not");
        if is_for_tests {
            let ends = |token: &TokenTree| match token {
                TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                TokenTree::Punct(mark) => matches!(mark.as_char(), ';' | ','),
                _ => false,
            };
            return item.iter().position(ends).map_or(item.len(), |end| end + 1);
        }
        if !is_any(name, &SILENT_ATTRIBUTES) {
            self.tokens(attribute.stream(), modules);
        }
        0
    }

    /// The messages of exceptions that the Python files in this directory raise.
    fn raised(&mut self, directory: &Path) {
        let files = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        for path in files
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "py"))
        {
            let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            for raise in source.lines().filter(|line| line.trim_start().starts_with("raise ")) {
                let text = raise.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"'));
                // A message on the following line would be left out.
                assert!(text.is_some() || !raise.ends_with('('), "{}: {raise}", path.display());
                self.text(text.map(|(text, _)| text.to_owned()).unwrap_or_default());
            }
        }
    }

    fn text(&mut self, text: String) {
        let words = text.split_whitespace().filter(|word| word.contains(char::is_alphabetic));
        if words.count() > 1 {
            self.found.insert(text.trim().to_owned());
        }
    }
}

fn is_any(name: &proc_macro2::Ident, names: &[&str]) -> bool {
    names.iter().any(|candidate| name == candidate)
}
