//! The archive: ustar with one way to write each file.

use tar::{EntryType, Header};

pub(crate) const BLOCK: usize = 512;

/// The header of a file. `None` when the name is too long or no plain relative path.
pub(crate) fn header(name: &str, size: u64) -> Option<[u8; BLOCK]> {
    let mut header = Header::new_ustar();
    let plain = !name.is_empty() && name.len() <= 100 && !name.split('/').any(|part| part == "..");
    if !plain || header.set_path(name).is_err() {
        return None;
    }
    header.set_entry_type(EntryType::Regular);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Some(*header.as_bytes())
}

/// Name and size that a header says, whatever else is wrong with it.
pub(crate) fn said(block: &[u8; BLOCK]) -> Option<(String, u64)> {
    let header = Header::from_byte_slice(block);
    let name = String::from_utf8_lossy(&header.path_bytes()).into_owned();
    Some((name, header.entry_size().ok()?))
}

/// The zeros after a file of this size.
pub(crate) fn padding(size: u64) -> usize {
    let over = (size % BLOCK as u64) as usize; // below a block
    if over == 0 { 0 } else { BLOCK - over }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_said_back_and_has_one_form() {
        let block = header("pictures/a/1-frame.jpg", 1234).unwrap();
        assert_eq!(said(&block), Some(("pictures/a/1-frame.jpg".to_owned(), 1234)));
        for name in ["", "../x", "/etc/passwd", &"x".repeat(101)] {
            assert!(header(name, 1).is_none(), "{name}");
        }
        for size in [0, 1, 511, 512, 513] {
            assert_eq!((size + padding(size) as u64) % 512, 0);
        }
    }
}
