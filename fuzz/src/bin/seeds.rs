//! Writes the seeds of each target into a directory of the target's name, inside the given
//! directory.

use std::env::args_os;
use std::fs;
use std::path::PathBuf;

use portknock_fuzz::{
    c_api, config_lines, control, engine, frame, fwknop, journal, keys, one_time, reader, replay, spa,
};

fn main() -> std::io::Result<()> {
    let Some(directory) = args_os().nth(1).map(PathBuf::from) else { panic!("usage: seeds DIRECTORY") };
    for (target, seeds) in [
        ("config_lines", config_lines::seeds()),
        ("control", control::seeds()),
        ("frame", frame::seeds()),
        ("fwknop", fwknop::seeds()),
        ("engine", engine::seeds()),
        ("journal", journal::seeds()),
        ("keys", keys::seeds()),
        ("one_time", one_time::seeds()),
        ("reader", reader::seeds()),
        ("replay", replay::seeds()),
        ("spa", spa::seeds()),
        ("c_api", c_api::seeds()),
    ] {
        let directory = directory.join(target);
        fs::create_dir_all(&directory)?;
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(directory.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
