//! The properties that the fuzz targets check, one module for each target, and shared parts.

pub mod c_api;
pub mod config;
pub mod config_lines;
pub mod control;
pub mod engine;
pub mod frame;
pub mod fwknop;
pub mod journal;
pub mod keys;
pub mod one_time;
pub mod packets;
pub mod reader;
pub mod replay;
mod scratch;
pub mod spa;
