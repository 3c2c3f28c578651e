//! Programs in C, linked with an installed libportknock.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::{Output, require};

/// Every warning is an error.
const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-pedantic", "-Werror"];

/// The compilation of a program.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// `gcc`, `clang` or their counterparts for C++.
    pub compiler: &'static str,
    /// As in `c99`, or `c++17`.
    pub standard: &'static str,
    /// The form of the library.
    pub linked: Linked,
    /// Further arguments.
    pub more: &'static [&'static str],
}

/// The way a program gets its library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linked {
    /// It loads `libportknock.so` when it starts.
    Shared,
    /// It contains `libportknock.a`.
    Static,
}

/// An installation of libportknock, and the directory of the programs that use it.
#[derive(Debug)]
pub struct C {
    directory: PathBuf,
}

impl C {
    /// Installs the library that cargo built, once for all tests of a process.
    pub fn install() -> &'static Self {
        static INSTALLED: OnceLock<C> = OnceLock::new();
        INSTALLED.get_or_init(|| {
            ["gcc", "g++", "clang", "pkg-config"].into_iter().for_each(require);
            let c = Self { directory: built().join("c-api") };
            fs::create_dir_all(&c.directory).expect("a directory in cargo's");
            let script = Self::source("scripts/install-library");
            let installed = Output::of(Command::new(script).args([&built(), &c.prefix()]));
            assert_eq!(installed.code, Some(0), "{installed:?}");
            c
        })
    }

    /// A file of this workspace.
    pub fn source(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
    }

    /// Compiles a program of this workspace that does not use the library, next to the test, and
    /// returns its path.
    pub fn compile_alone(source: &str, more: &[&str]) -> PathBuf {
        require("gcc");
        let source = Self::source(source);
        let name = source.file_stem().expect("a source has a name");
        let program = env::current_exe().expect("the test has a path").with_file_name(name);
        let mut command = Command::new("gcc");
        command.args(["-std=c99", "-O2"]).args(STRICT).arg("-o").arg(&program);
        let compiled = Output::of(command.arg(&source).args(more));
        assert_eq!(compiled.code, Some(0), "{}", compiled.stderr);
        program
    }

    /// The directory of the installation.
    pub fn prefix(&self) -> PathBuf {
        self.directory.join("prefix")
    }

    /// A command that uses the installation, through pkg-config and the library path.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("PKG_CONFIG_PATH", self.prefix().join("lib/pkgconfig"));
        command.env("LD_LIBRARY_PATH", self.prefix().join("lib"));
        command
    }

    /// Compiles a program without a warning, and returns its path.
    pub fn compile(&self, source: &Path, build: Build) -> PathBuf {
        let Build { compiler, standard, linked, more } = build;
        let name = source.file_stem().and_then(|name| name.to_str()).expect("a source has a name");
        let variant = more.first().map_or("", |first| first.trim_start_matches("-fsanitize="));
        let program = self.directory.join(format!("{name}-{compiler}-{standard}-{linked:?}-{variant}"));
        let mut command = self.command(compiler);
        if standard.starts_with("c++") {
            command.args(["-x", "c++"]);
        }
        command.arg(format!("-std={standard}")).args(STRICT).args(["-g", "-pthread"]);
        // Another test may run or build the same program, so only a complete file gets the name.
        let making = TempDir::new_in(&self.directory).expect("a directory in cargo's");
        let made = making.path().join("program");
        command.args(more).arg(source).args(["-x", "none", "-o"]).arg(&made).args(self.flags(linked));
        let compiled = Output::of(&mut command);
        assert_eq!(compiled.code, Some(0), "{command:?}\n{}", compiled.stderr);
        // `-fsyntax-only` makes none.
        if made.exists() {
            fs::rename(&made, &program).expect("both paths are in one directory");
        }
        program
    }

    /// The output of pkg-config for this argument.
    fn flags(&self, linked: Linked) -> Vec<String> {
        let mut command = self.command("pkg-config");
        if linked == Linked::Static {
            command.arg("--static");
        }
        let output = Output::of(command.args(["--cflags", "--libs", "portknock"]));
        assert_eq!(output.code, Some(0), "{output:?}");
        let library = |flag: &str| {
            if linked == Linked::Static && flag == "-lportknock" { "-l:libportknock.a" } else { flag }.to_owned()
        };
        // One of the tests reads captures by itself.
        output.stdout.split_whitespace().map(library).chain(["-lpcap".to_owned()]).collect()
    }
}

/// The directory in which cargo has built the library.
fn built() -> PathBuf {
    let test = env::current_exe().expect("the test has a path");
    let directory = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST").to_owned();
    let there = directory.join("libportknock.so").is_file() && directory.join("libportknock.a").is_file();
    assert!(
        there,
        "there is no libportknock in {}; build it first: cargo build --workspace --lib",
        directory.display()
    );
    directory
}
