//! Voices inside archives: downloads by a browser, and clients' packages. They are read in place; nothing is
//! unpacked to disk.

use std::path::Path;

use bytes::Bytes;
use vitstream_checkpoint::{Packing, ZipMember, excerpt, is_zip, zip_members};

use crate::Error;
use crate::budget;
use crate::json::MAX_SIZE;
use crate::surroundings::Surroundings;
use crate::unpack::{gunzip, inflate, tar_members};
use vitstream_contract::files;

/// Endings of files that may be a voice.
const VOICES: [&str; 6] = [".ckpt", ".pth", ".pt", ".bin", ".safetensors", ".onnx"];

/// Limit on the files that a message lists.
const MAX_LISTED: usize = 5;

/// The only voice of an archive.
pub(crate) enum Inside {
    /// A file, and the files next to it.
    File { name: String, contents: Bytes, around: Surroundings },
    /// The graphs of a pair, and the files next to them.
    Pair { graphs: [Bytes; 2], around: Surroundings },
}

/// A file in an archive.
struct Member {
    name: String,
    contents: Contents,
}

enum Contents {
    Plain(Bytes),
    Packed(ZipMember),
}

impl Member {
    fn folder(&self) -> &str {
        self.name.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    fn file(&self) -> &str {
        self.name.rsplit_once('/').map_or(&self.name, |(_, file)| file)
    }

    /// Returns true for hidden files, among them those that macOS adds to its archives.
    fn is_hidden(&self) -> bool {
        self.name.starts_with("__MACOSX/") || self.file().starts_with('.')
    }

    fn contents(&self, path: &Path, limit: u64) -> Result<Bytes, Error> {
        let problem = |problem: &str| {
            container(
                path,
                format!("{} in it {problem}; download it again or unpack it first", excerpt(&self.name)),
            )
        };
        let packed = match &self.contents {
            Contents::Plain(contents) => return Ok(contents.clone()),
            Contents::Packed(packed) => packed,
        };
        let contents = match packed.packing {
            Packing::Stored => packed.data.clone(),
            Packing::Deflated => {
                if packed.len > limit {
                    return Err(budget::exceeded(path, packed.len, limit));
                }
                inflate(&packed.data, limit).map_err(|e| problem(&e))?
            }
            Packing::Other => {
                return Err(problem("is encrypted, or packed by a method that is not supported"));
            }
        };
        if contents.len() as u64 != packed.len
            || (packed.crc != 0 && crc32fast::hash(&contents) != packed.crc)
        {
            return Err(problem("is damaged"));
        }
        Ok(contents)
    }
}

fn container(path: &Path, problem: String) -> Error {
    Error::Container { path: path.to_owned(), problem }
}

/// The voice in the archive `data`, read from the file at `path`. `None` if `data` is not an archive, or is a
/// checkpoint, which is itself a zip archive. `limit` is the number of bytes that may be unpacked.
///
/// # Errors
/// When the archive is damaged, or holds no voice or several.
pub(crate) fn voice(path: &Path, data: &Bytes, limit: u64) -> Result<Option<Inside>, Error> {
    let (kind, members) = if is_zip(data) {
        let members = zip_members(path, data)?;
        if members.iter().any(|member| member.name == "data.pkl" || member.name.ends_with("/data.pkl")) {
            return Ok(None);
        }
        let member =
            |member: ZipMember| Member { name: member.name.clone(), contents: Contents::Packed(member) };
        ("a zip archive", members.into_iter().map(member).collect())
    } else if data.starts_with(&[0x1f, 0x8b]) {
        let contents = gunzip(data, limit)
            .map_err(|problem| container(path, format!("this is a gzip file that {problem}")))?;
        if is_tar(&contents) {
            ("a tar archive", in_tar(path, &contents)?)
        } else {
            let name = path.file_stem().map_or(String::new(), |name| name.to_string_lossy().into_owned());
            ("a gzip file", vec![Member { name, contents: Contents::Plain(contents) }])
        }
    } else if is_tar(data) {
        ("a tar archive", in_tar(path, data)?)
    } else {
        return Ok(None);
    };
    only_voice(path, kind, &members, limit).map(Some)
}

fn is_tar(data: &[u8]) -> bool {
    data.get(257..262) == Some(b"ustar")
}

fn in_tar(path: &Path, data: &Bytes) -> Result<Vec<Member>, Error> {
    let members = tar_members(data).map_err(|problem| container(path, problem))?;
    let member = |(name, contents)| Member { name, contents: Contents::Plain(contents) };
    Ok(members.into_iter().map(member).collect())
}

fn only_voice(path: &Path, kind: &str, members: &[Member], limit: u64) -> Result<Inside, Error> {
    let list = |members: &[&Member]| {
        let names: Vec<String> =
            members.iter().take(MAX_LISTED).map(|member| excerpt(&member.name)).collect();
        let more = members.len().saturating_sub(MAX_LISTED);
        let names = names.join(", ");
        if more > 0 { format!("{names} and {more} more") } else { names }
    };
    let visible: Vec<&Member> = members.iter().filter(|member| !member.is_hidden()).collect();
    if let Some(pickle) = visible.iter().find(|member| member.file() == "data.pkl") {
        let pickle = excerpt(&pickle.name);
        return Err(container(
            path,
            format!("this is {kind} that holds a checkpoint which was unpacked ({pickle}): {REPACK}"),
        ));
    }
    let is_graph = |member: &Member, name: &str| member.file() == name;
    let pairs: Vec<&Member> = visible
        .iter()
        .filter(|encoder| is_graph(encoder, files::ENCODER))
        .filter(|encoder| {
            visible.iter().any(|other| is_graph(other, files::DECODER) && other.folder() == encoder.folder())
        })
        .copied()
        .collect();
    let in_pair = |member: &Member| pairs.iter().any(|pair| pair.folder() == member.folder());
    let is_voice = |member: &&&Member| VOICES.iter().any(|ending| member.name.ends_with(ending));
    let mut voices: Vec<&Member> =
        visible.iter().filter(is_voice).filter(|member| !in_pair(member)).copied().collect();
    voices.extend(&pairs);
    let voice = match voices.as_slice() {
        &[voice] => voice,
        [] => {
            let problem = format!("this is {kind} without a voice; it holds {}", list(&visible));
            return Err(container(path, problem));
        }
        several => {
            let problem = format!(
                "this is {kind} with several voices: {}; unpack it and choose one of them",
                list(several)
            );
            return Err(container(path, problem));
        }
    };
    let mut beside = Vec::new();
    for member in
        visible.iter().filter(|member| member.folder() == voice.folder() && member.file().ends_with(".json"))
    {
        beside.push((member.file().to_owned(), member.contents(path, MAX_SIZE)?));
    }
    let around = Surroundings::Archive { path: path.join(voice.folder()), files: beside };
    if in_pair(voice) {
        let graph = |name: &str| {
            let member =
                visible.iter().find(|member| is_graph(member, name) && member.folder() == voice.folder());
            member.map_or_else(
                || Err(container(path, format!("{name} is missing"))),
                |member| member.contents(path, limit),
            )
        };
        return Ok(Inside::Pair { graphs: [graph(files::ENCODER)?, graph(files::DECODER)?], around });
    }
    Ok(Inside::File { name: voice.name.clone(), contents: voice.contents(path, limit)?, around })
}

/// The remedy for a checkpoint that was unpacked.
pub(crate) const REPACK: &str = "it can only be read as the zip archive it was; zip the folder again without compression, as in `zip -0 -r v.ckpt v`";

#[cfg(all(test, feature = "archives"))]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, contents) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(contents.len() as u64);
            header.set_cksum();
            builder.append_data(&mut header, name, *contents).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn gzipped(contents: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(contents).unwrap();
        encoder.finish().unwrap().into()
    }

    fn open(data: Bytes) -> Result<Option<Inside>, String> {
        voice("voice.tar".as_ref(), &data, 1 << 20).map_err(|error| error.to_string())
    }

    #[test]
    fn the_only_voice_is_found_with_what_lies_beside_it() {
        let files: [(&str, &[u8]); 5] = [
            ("./v/README", b"read me"),
            ("./v/joe.ckpt", b"weights"),
            ("./v/._joe.ckpt", b"of macOS"),
            ("./v/joe.onnx.json", b"{}"),
            ("./other/config.json", b"[]"),
        ];
        for data in [Bytes::from(tar_of(&files)), gzipped(&tar_of(&files))] {
            let Some(Inside::File { name, contents, around }) = open(data).unwrap() else { panic!("a file") };
            assert_eq!((name.as_str(), &*contents), ("v/joe.ckpt", &b"weights"[..]));
            let (path, json) = around.contents("joe.onnx.json").unwrap().unwrap();
            assert_eq!((path.to_str(), &*json), (Some("voice.tar/v/joe.onnx.json"), &b"{}"[..]));
            assert!(around.contents("config.json").unwrap().is_none());
        }
        let pair: [(&str, &[u8]); 4] = [
            ("v/encoder.onnx", b"1"),
            ("v/decoder.onnx", b"2"),
            ("v/decoder.stream.onnx", b"3"),
            ("v/config.json", b"{}"),
        ];
        let Some(Inside::Pair { graphs, around }) = open(tar_of(&pair).into()).unwrap() else {
            panic!("a pair")
        };
        assert_eq!((&*graphs[0], &*graphs[1]), (&b"1"[..], &b"2"[..]));
        assert!(around.contents("config.json").unwrap().is_some());
        // A bare gzip file is named after the archive without its last ending.
        let data = gzipped(b"weights");
        let inside = voice("joe.ckpt.gz".as_ref(), &data, 1 << 20).unwrap();
        assert!(matches!(inside, Some(Inside::File { name, .. }) if name == "joe.ckpt"));
        assert!(open(data).err().unwrap().contains("a gzip file without a voice"));
    }

    #[test]
    fn archives_without_a_single_voice_say_what_they_hold() {
        let refused = |files: &[(&str, &[u8])]| open(tar_of(files).into()).err().expect("refused");
        let error = refused(&[("a/readme.txt", b""), ("b", b"")]);
        assert!(error.contains("without a voice") && error.contains("a/readme.txt, b"), "{error}");
        let error = refused(&[("a/x.ckpt", b""), ("b/y.onnx", b"")]);
        assert!(error.contains("several voices: a/x.ckpt, b/y.onnx"), "{error}");
        let error = refused(&[("v/data.pkl", b""), ("v/data/0", b"")]);
        assert!(error.contains("unpacked (v/data.pkl)") && error.contains("zip -0"), "{error}");
        assert!(open(Bytes::from_static(b"anything else")).unwrap().is_none());
        let bomb = gzipped(&vec![0; 2 << 20]);
        assert!(open(bomb).err().unwrap().contains("more than 1048576 bytes"));
        let cut = tar_of(&[("v/joe.ckpt", &[1; 5000])]);
        assert!(open(Bytes::copy_from_slice(&cut[..3000])).is_err());
    }
}
