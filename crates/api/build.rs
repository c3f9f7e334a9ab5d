//! Compiles `proto/guiji/v1` without `protoc`: protox parses, tonic-prost-build writes the Rust code, and the
//! descriptors, comments included, are kept for the reflection service.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let mut files: Vec<PathBuf> = fs::read_dir(root.join("guiji/v1"))?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "proto"));
    files.sort();

    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true).open_files(&files)?;
    let descriptors = compiler.file_descriptor_set();
    let out = Path::new(&env::var("OUT_DIR")?).join("guiji.v1.fds");
    fs::write(out, descriptors.encode_to_vec())?;

    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names(); // JSON finds a message's descriptor by its name.
    tonic_prost_build::configure()
        // Written by hand in `pb.rs`, so that no log shows a password.
        .skip_debug(["guiji.v1.Credentials"])
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
