//! The layers of this crate. A module imports modules of lower layers. It also imports modules of
//! the same layer, if they do not import it in turn, directly or through others. The same holds for
//! the modules of each directory.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

/// The layers, lowest first: a name, and the top-level modules.
const LAYERS: &[(&str, &[&str])] = &[
    ("values", &["local_addresses", "network", "packet", "port_map", "printable", "tick", "time"]),
    ("system calls", &["sys"]),
    (
        "tools",
        &["clock", "firewall_command", "host", "keys", "port_list", "programs", "rate_limit", "timeline", "totp"],
    ),
    ("input", &["client_file", "config", "decode", "fwknop", "spa"]),
    (
        "decisions",
        &[
            "clock_search",
            "engine",
            "event",
            "filter",
            "fwknop_keys",
            "json",
            "live_windows",
            "log_limit",
            "mac_detector",
            "matcher",
            "openings",
            "packet_keys",
            "replay_memory",
            "weak_search",
        ],
    ),
    ("devices", &["arrivals", "capture", "exec", "gate", "feed", "journal", "one_time"]),
    ("programs for people", &["knock", "probe", "replay", "rules"]),
    ("reader process", &["reader"]),
    ("service", &["service"]),
    ("control", &["control"]),
];

/// The path of a module from the root of the crate, as in `["config", "model"]`.
type Module = Vec<String>;

/// The source of a module.
struct Source {
    /// The file, from the root of the sources.
    file: String,
    /// The text, without comments and tests.
    text: String,
}

/// One module imports another.
struct Import {
    file: String,
    from: Module,
    to: Module,
    /// The path as it is written.
    path: String,
}

impl Import {
    /// The two modules below the last directory that both are in; `None` if one of them contains
    /// the other.
    fn siblings(&self) -> Option<(&[String], &str, &str)> {
        let common = self.from.iter().zip(&self.to).take_while(|(from, to)| from == to).count();
        Some((&self.from[..common], self.from.get(common)?, self.to.get(common)?))
    }

    fn describe(&self) -> String {
        format!("core/src/{} imports `{}`", self.file, self.path)
    }
}

#[test]
fn no_module_imports_one_of_a_higher_layer() {
    let sources = sources();
    let layer = |module: &str| LAYERS.iter().position(|(_, modules)| modules.contains(&module));
    let top: BTreeSet<&str> = sources.keys().filter_map(|module| Some(module.first()?.as_str())).collect();
    let listed: BTreeSet<&str> = LAYERS.iter().flat_map(|(_, modules)| *modules).copied().collect();
    assert_eq!(top, listed, "each top-level module belongs to one layer of the list in this file");
    let mut faults = Vec::new();
    for import in imports(&sources) {
        let Some(([], from, to)) = import.siblings() else { continue };
        if let (Some(own), Some(other)) = (layer(from), layer(to))
            && own < other
        {
            let (own, other) = (LAYERS[own].0, LAYERS[other].0);
            faults.push(format!("{}: layer `{own}` is below layer `{other}`", import.describe()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn no_modules_of_a_directory_import_each_other() {
    let sources = sources();
    let imports = imports(&sources);
    let mut directories: BTreeMap<&[String], Vec<(&str, &str, &Import)>> = BTreeMap::new();
    for import in &imports {
        if let Some((directory, from, to)) = import.siblings() {
            directories.entry(directory).or_default().push((from, to, import));
        }
    }
    let mut faults = Vec::new();
    for edges in directories.values() {
        for (from, to, import) in edges {
            if reaches(edges, to, from) {
                faults.push(format!("{}: `{from}` and `{to}` import each other", import.describe()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// True if one module imports the other, directly or through others.
fn reaches(edges: &[(&str, &str, &Import)], from: &str, to: &str) -> bool {
    let mut reached = BTreeSet::from([from]);
    let mut left = vec![from];
    while let Some(module) = left.pop() {
        left.extend(
            edges.iter().filter(|edge| edge.0 == module).map(|edge| edge.1).filter(|next| reached.insert(next)),
        );
    }
    reached.contains(to)
}

/// All modules except tests.
fn sources() -> BTreeMap<Module, Source> {
    let mut sources = BTreeMap::new();
    let mut tests = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    read(&root, &root, &[], &mut sources, &mut tests);
    assert!(sources.remove(&["lib".to_owned()][..]).is_some());
    sources.retain(|module, _| !tests.iter().any(|test: &Module| module.starts_with(test)));
    assert!(sources.len() > 100, "only {} modules were found", sources.len());
    sources
}

/// Reads the modules of a directory, and notes which modules are tests.
fn read(
    root: &Path,
    directory: &Path,
    parent: &[String],
    sources: &mut BTreeMap<Module, Source>,
    tests: &mut Vec<Module>,
) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(OsStr::to_str).expect("a name in UTF-8").to_owned();
        let child: Module = parent.iter().cloned().chain([name]).collect();
        if path.is_dir() {
            read(root, &path, &child, sources, tests);
            continue;
        }
        let module = if path.ends_with("mod.rs") { parent.to_vec() } else { child };
        let text = fs::read_to_string(&path).expect("a source file");
        let lines: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
        let mut kept = String::new();
        // The modules that `lib.rs` declares are next to it.
        let scope = if module == ["lib"] { parent } else { &module };
        for (index, line) in lines.iter().enumerate() {
            let is_test = index > 0 && lines[index - 1].trim() == "#[cfg(test)]";
            let name = line.split_once("mod ").map(|(_, name)| name.trim());
            match name.filter(|_| is_test) {
                // Tests are the last part of a file.
                Some(name) if name.ends_with('{') => break,
                Some(name) => tests.push(scope.iter().cloned().chain([name.trim_end_matches(';').into()]).collect()),
                None if is_test && line.starts_with("use ") => {}
                None => kept.extend([line, "\n"]),
            }
        }
        let file = path.strip_prefix(root).expect("a file of the sources").display().to_string();
        sources.insert(module, Source { file, text: kept });
    }
}

/// All imports of other modules, and mentions of their items by a whole path.
fn imports(sources: &BTreeMap<Module, Source>) -> Vec<Import> {
    let mut imports = Vec::new();
    for (from, Source { file, text }) in sources {
        for (base, path) in paths(text) {
            let ups = base.matches("super").count();
            let base = match base.as_str() {
                "crate" => &[][..],
                "self" => &from[..],
                _ => &from[..from.len().saturating_sub(ups)],
            };
            let mut to: Module = base.iter().cloned().chain(path.split("::").map(str::to_owned)).collect();
            while !to.is_empty() && !sources.contains_key(&to) {
                to.pop();
            }
            assert!(!to.is_empty(), "core/src/{file}: import `{path}` from its module");
            if to != *from {
                imports.push(Import { file: file.clone(), from: from.clone(), to, path });
            }
        }
    }
    imports
}

/// The paths in a text that begin with `crate`, `self` or `super`: the beginning, and what follows
/// it, one path for each name in braces.
fn paths(text: &str) -> Vec<(String, String)> {
    let mut paths = Vec::new();
    for start in ["crate", "self", "super"] {
        for (at, _) in text.match_indices(&format!("{start}::")) {
            let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            if text[..at].ends_with(is_word) {
                continue;
            }
            let mut base = start.to_owned();
            let mut rest = &text[at + start.len() + 2..];
            while let Some(further) = rest.strip_prefix("super::") {
                base.push_str("::super");
                rest = further;
            }
            let mut names = Vec::new();
            expand("", rest, &mut names);
            paths.extend(names.into_iter().map(|name| (base.clone(), name)));
        }
    }
    paths
}

/// The paths of a tree such as `a::{b, c::d}`, each after `prefix`; returns what follows the tree.
fn expand<'a>(prefix: &str, text: &'a str, paths: &mut Vec<String>) -> &'a str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(text.len());
    let (name, mut rest) = text.split_at(end);
    let path = format!("{prefix}{name}");
    let Some(inner) = rest.strip_prefix('{').filter(|_| name.is_empty() || name.ends_with("::")) else {
        paths.push(path);
        return rest;
    };
    rest = inner;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        match rest.strip_prefix('}') {
            Some(rest) => return rest,
            None if rest.is_empty() => return rest,
            None => {
                let before = rest.len();
                rest = expand(&path, rest, paths);
                // A name may be followed by `as other`, a glob by nothing.
                rest = rest.trim_start_matches(|c: char| c != ',' && c != '}');
                assert!(rest.len() < before, "{text}");
            }
        }
    }
}

#[test]
fn trees_of_imports_are_read_whole() {
    let text = "use crate::a::{b, c::{self, d as e}};\nlet x = super::super::f::g(crate::h::I);\nuse self::j::*;\n";
    let paths: Vec<String> = paths(text).into_iter().map(|(base, path)| format!("{base}>{path}")).collect();
    let expected = ["crate>a::b", "crate>a::c::self", "crate>a::c::d", "crate>h::I", "self>j::", "super::super>f::g"];
    assert_eq!(paths, expected);
}
