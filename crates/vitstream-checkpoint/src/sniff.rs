//! Identifies files that are not checkpoints by their first bytes.

use crate::error::{Error, ErrorKind};

/// The pickled magic number (0x1950a86a20f9469cfc6c) at the start of files written by PyTorch before 1.6.
const LEGACY_MAGIC: &[u8] = &[0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// `weights_only` is False because such files hold more than weights, which PyTorch 2.6 and later refuse by
/// default.
const LEGACY_REMEDY: &str = "Convert it with PyTorch, but only if you trust the file, because PyTorch runs the code in it: \
    python3 -c \"import torch; \
    torch.save(torch.load('OLD.pth', map_location='cpu', weights_only=False), 'NEW.pth')\"";
const DOWNLOAD_REMEDY: &str = "Download it again; this is not the checkpoint itself";

/// Size of the header's length in bytes, which precedes the header of a safetensors file.
pub(crate) const LENGTH_LEN: usize = 8;

/// Returns true if `data` begins with eight bytes of header length and a JSON object.
pub(crate) fn is_safetensors(data: &[u8]) -> bool {
    let Some((_, rest)) = data.split_first_chunk::<LENGTH_LEN>() else { return false };
    rest.first() == Some(&b'{') && header_len(data).is_some_and(|length| length >= 2)
}

pub(crate) fn header_len(data: &[u8]) -> Option<u64> {
    data.first_chunk::<LENGTH_LEN>().map(|length| u64::from_le_bytes(*length))
}

/// The error for a file that begins like neither a zip nor a safetensors file.
pub(crate) fn not_a_checkpoint(data: &[u8]) -> Error {
    let head = &data[..data.len().min(512)];
    let text = head.trim_ascii_start();
    let is = |what| Error::new(ErrorKind::NotACheckpoint(what));

    if head.is_empty() {
        is("an empty file").remedy("Download or copy it again")
    } else if head.len() > 2 && head[0] == 0x80 && head[2..].starts_with(LEGACY_MAGIC) {
        Error::new(ErrorKind::Legacy).remedy(LEGACY_REMEDY)
    } else if head.starts_with(&[0x1f, 0x8b]) {
        is("a gzip file").remedy("Unpack it first")
    } else if head.get(257..262) == Some(b"ustar") {
        is("a tar archive")
            .remedy("Unpack it first; a tar written by PyTorch 0.1 must be converted by PyTorch")
    } else if head.starts_with(b"\x28\xb5\x2f\xfd")
        || head.starts_with(b"\xfd7zXZ")
        || head.starts_with(b"7z\xbc\xaf")
    {
        is("a compressed archive").remedy("Unpack it first")
    } else if is_onnx(head) {
        is("an ONNX model").remedy("Give the checkpoint it was exported from")
    } else if head.starts_with(b"version https://git-lfs") {
        is("a Git LFS pointer").remedy("Fetch the file it points to with `git lfs pull`")
    } else if starts_with_ignoring_case(text, b"<!doctype") || starts_with_ignoring_case(text, b"<html") {
        is("an HTML page").remedy(DOWNLOAD_REMEDY)
    } else if text.starts_with(b"{") {
        is("a JSON text").remedy("Give the checkpoint, not its configuration")
    } else if head[0] == 0x80 && head.get(1).is_some_and(|&protocol| protocol <= 5) {
        is("a bare pickle").remedy("Save the object with torch.save of PyTorch 1.6 or later")
    } else if head.iter().all(|&byte| byte == 0) {
        is("filled with zeros").remedy("Probably an incomplete download")
    } else if head.iter().all(|&byte| byte == b'\n' || byte == b'\r' || byte == b'\t' || byte >= b' ') {
        is("a text file").remedy(DOWNLOAD_REMEDY)
    } else {
        is("of an unknown format")
    }
}

/// A `ModelProto` begins with field 1 (`ir_version`, a small number), followed by one of the fields that
/// exporters write next.
fn is_onnx(head: &[u8]) -> bool {
    matches!(head, [0x08, 1..=32, 0x12 | 0x1a | 0x22 | 0x3a | 0x42, ..])
}

fn starts_with_ignoring_case(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_it_sees() {
        let mut tar = vec![b'a'; 512];
        tar[257..262].copy_from_slice(b"ustar");
        let legacy = [&[0x80, 2], LEGACY_MAGIC, b"."].concat();
        for (data, expected) in [
            (&b""[..], "an empty file"),
            (b"\x1f\x8b\x08\0", "a gzip file"),
            (&tar, "a tar archive"),
            (b"\x08\x08\x12\x07pytorch", "an ONNX model"),
            (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
            (b"\n <!DOCTYPE html>", "an HTML page"),
            (b"{\"a\": 1}", "a JSON text"),
            (b"\x80\x04N.", "a bare pickle"),
            (b"\0\0\0\0\0", "filled with zeros"),
            (b"Not found\n", "a text file"),
            (b"\x01\x02\x03", "of an unknown format"),
        ] {
            let error = not_a_checkpoint(data);
            assert!(error.to_string().contains(expected), "{error} should name {expected}");
        }
        let error = not_a_checkpoint(&legacy);
        assert!(matches!(error.kind(), ErrorKind::Legacy));
        assert!(error.remedy_text().is_some_and(|text| text.contains("torch.save")));
    }
}
