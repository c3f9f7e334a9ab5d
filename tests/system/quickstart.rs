//! The quick start of `docs/api.md`, as a reader runs it: against the real program, from the protos alone.

use std::process::Command;

use crate::rig::{
    connect_to, exclusive, free_address, peer_python, repository, runtime, serve_without_cameras,
};

#[test]
fn the_quick_start_in_python_works() {
    let _one_at_a_time = exclusive();
    let dir = tempfile::tempdir().expect("a folder");
    let api = free_address();
    let mut server = serve_without_cameras(dir.path(), &api);
    runtime().block_on(connect_to(&api, &server));
    // Twice, since a reader does so too.
    for _ in 0..2 {
        let run = Command::new(peer_python())
            .arg(repository().join("examples/python/quickstart.py"))
            .arg(&api)
            .env("PYTHONIOENCODING", "utf-8")
            .output()
            .expect("python runs");
        let printed = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(run.status.success(), "{printed}{}", String::from_utf8_lossy(&run.stderr));
        for part in
            ["imported: 2", "found: 浙J8K088 cameras/quickstart-1", "alert: 浙J8K088", "done"]
        {
            assert!(printed.contains(part), "{part} in {printed}");
        }
    }
    assert!(server.terminate().success(), "{}", server.log());
}
