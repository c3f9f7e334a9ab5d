//! A layer under the file system calls of a process, loaded with `LD_PRELOAD`, that knows what a power cut would
//! leave. Used by `tests/durability.rs`; not part of the store.
//!
//! * `POWERLOSS_ROOT`: the folder that is watched.
//! * `POWERLOSS_SHADOW`: where the durable state is kept. A file's content becomes durable when the file is synced, a
//!   name when its folder is synced, as POSIX has it; nothing else ever does. `data/INODE-GENERATION` is the content
//!   of a file, `dirs/PATH` (with `%` for `/`) the names in a folder, one `name TAB key TAB d|f` a line.
//! * `POWERLOSS_FULL`: while this file exists, writes below the root fail with `ENOSPC`.
#![allow(unsafe_code)] // it replaces functions of libc

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use libc::{c_char, c_int, c_void, off_t, size_t, ssize_t};

struct Layer {
    root: Option<PathBuf>,
    shadow: Option<PathBuf>,
    full: Option<PathBuf>,
    /// How often a file with this inode number was deleted: numbers are used again.
    generations: Mutex<HashMap<u64, u64>>,
}

static LAYER: LazyLock<Layer> = LazyLock::new(|| {
    let path = |name| std::env::var_os(name).map(PathBuf::from);
    Layer {
        root: path("POWERLOSS_ROOT"),
        shadow: path("POWERLOSS_SHADOW"),
        full: path("POWERLOSS_FULL"),
        generations: Mutex::default(),
    }
});

/// What lies there when the process starts is durable. `ready` in the shadow says that it is taken down.
extern "C" fn start() {
    if let (Some(root), Some(shadow)) = (&LAYER.root, &LAYER.shadow) {
        let made =
            ["data", "dirs"].iter().try_for_each(|name| fs::create_dir_all(shadow.join(name)));
        made.and_then(|()| LAYER.keep_tree(root, &mut LAYER.lock()))
            .and_then(|()| fs::write(shadow.join("ready"), []))
            .unwrap_or_else(|error| fail(&error));
    }
}

// SAFETY: the loader calls the functions listed in this section once, before main; glibc is set up by then.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

/// The layer must never be wrong silently.
fn fail(error: &io::Error) -> ! {
    eprintln!("powerloss: {error}");
    std::process::abort()
}

impl Layer {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, u64>> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the open file is one that is watched, and its path.
    fn watched(&self, fd: c_int) -> Option<PathBuf> {
        let path = fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
        path.starts_with(self.root.as_ref()?).then_some(path)
    }

    fn keep_tree(&self, folder: &Path, generations: &mut HashMap<u64, u64>) -> io::Result<()> {
        self.keep_names(folder, generations)?;
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                self.keep_tree(&path, generations)?;
            } else {
                self.keep_content(&path, generations)?;
            }
        }
        Ok(())
    }

    /// Makes the present content of a file durable.
    fn keep_content(&self, path: &Path, generations: &mut HashMap<u64, u64>) -> io::Result<()> {
        let Some(shadow) = &self.shadow else { return Ok(()) };
        let kept = shadow.join("data").join(key(path, generations)?);
        // A kill in the middle leaves the earlier content: the sync had not returned.
        let copy = shadow.join("data/copy");
        fs::copy(path, &copy)?;
        fs::rename(copy, kept)
    }

    /// Makes the present names in a folder durable.
    fn keep_names(&self, folder: &Path, generations: &mut HashMap<u64, u64>) -> io::Result<()> {
        let (Some(root), Some(shadow)) = (&self.root, &self.shadow) else { return Ok(()) };
        let mut names = String::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            // A file may be deleted by another thread meanwhile.
            let Ok(key) = key(&entry.path(), generations) else { continue };
            let kind = if entry.file_type()?.is_dir() { 'd' } else { 'f' };
            names.push_str(&format!("{}\t{key}\t{kind}\n", entry.file_name().to_string_lossy()));
        }
        let relative = folder.strip_prefix(root).map_err(io::Error::other)?;
        let kept = format!("%{}", relative.to_string_lossy().replace('/', "%"));
        let copy = shadow.join("dirs/copy");
        fs::write(&copy, names)?;
        fs::rename(copy, shadow.join("dirs").join(kept))
    }

    fn sync(&self, fd: c_int) {
        let Some(path) = self.watched(fd).filter(|_| self.shadow.is_some()) else { return };
        let mut generations = self.lock();
        let kept = if path.is_dir() {
            self.keep_names(&path, &mut generations)
        } else {
            // By descriptor: the name may be gone.
            self.keep_content(Path::new(&format!("/proc/self/fd/{fd}")), &mut generations)
        };
        kept.unwrap_or_else(|error| fail(&error));
    }

    fn is_full(&self, fd: c_int) -> bool {
        self.full.as_ref().is_some_and(|flag| flag.exists()) && self.watched(fd).is_some()
    }
}

fn key(path: &Path, generations: &HashMap<u64, u64>) -> io::Result<String> {
    let inode = fs::metadata(path)?.ino();
    Ok(format!("{inode}-{}", generations.get(&inode).unwrap_or(&0)))
}

fn no_space() -> ssize_t {
    // SAFETY: errno is the calling thread's own.
    unsafe { *libc::__errno_location() = libc::ENOSPC };
    -1
}

/// # Safety
/// As fsync(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    LAYER.sync(fd);
    // SAFETY: the arguments are passed on as they came.
    unsafe { libc::syscall(libc::SYS_fsync, fd) as c_int }
}

/// # Safety
/// As fdatasync(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    LAYER.sync(fd);
    // SAFETY: the arguments are passed on as they came.
    unsafe { libc::syscall(libc::SYS_fdatasync, fd) as c_int }
}

/// # Safety
/// As unlink(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: the caller promises a string that ends.
    let name = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
    let mut generations = LAYER.lock();
    let inode = fs::metadata(name).map(|file| file.ino());
    // SAFETY: the arguments are passed on as they came.
    let result = unsafe { libc::syscall(libc::SYS_unlink, path) as c_int };
    if let (0, Ok(inode)) = (result, inode) {
        *generations.entry(inode).or_default() += 1;
    }
    result
}

/// # Safety
/// As write(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, buffer: *const c_void, count: size_t) -> ssize_t {
    if LAYER.is_full(fd) {
        return no_space();
    }
    // SAFETY: the arguments are passed on as they came.
    unsafe { libc::syscall(libc::SYS_write, fd, buffer, count) as ssize_t }
}

/// # Safety
/// As pwrite(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(
    fd: c_int,
    buffer: *const c_void,
    count: size_t,
    offset: off_t,
) -> ssize_t {
    if LAYER.is_full(fd) {
        return no_space();
    }
    // SAFETY: the arguments are passed on as they came.
    unsafe { libc::syscall(libc::SYS_pwrite64, fd, buffer, count, offset) as ssize_t }
}

/// # Safety
/// As pwrite64(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(
    fd: c_int,
    buffer: *const c_void,
    count: size_t,
    offset: off_t,
) -> ssize_t {
    // SAFETY: the same contract.
    unsafe { pwrite(fd, buffer, count, offset) }
}
