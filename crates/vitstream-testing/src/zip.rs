//! A minimal writer of uncompressed zip archives, for fuzz targets and tests.

/// Writes the entries in order. The data of each entry is aligned to 64 bytes, as in files of torch.save.
pub fn write(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let offset = out.len() as u32;
        let padding = (64 - (out.len() + 30 + name.len() + 4) % 64) % 64;
        out.extend(b"PK\x03\x04");
        let common = common_header(name, data, 4 + padding);
        out.extend(&common);
        out.extend(name.as_bytes());
        out.extend(b"FB");
        out.extend((padding as u16).to_le_bytes());
        out.resize(out.len() + padding, b'Z');
        out.extend(*data);

        directory.extend(b"PK\x01\x02\x00\x00");
        directory.extend(common_header(name, data, 0));
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let start = out.len() as u32;
    let count = (entries.len() as u16).to_le_bytes();
    out.extend(&directory);
    out.extend(b"PK\x05\x06\x00\x00\x00\x00");
    out.extend([count, count].concat());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}

/// The fields that local and central headers share, from the version to the length of the extra field.
fn common_header(name: &str, data: &[u8], extra: usize) -> Vec<u8> {
    let mut header = vec![0; 14];
    header.extend((data.len() as u32).to_le_bytes());
    header.extend((data.len() as u32).to_le_bytes());
    header.extend((name.len() as u16).to_le_bytes());
    header.extend((extra as u16).to_le_bytes());
    header
}
