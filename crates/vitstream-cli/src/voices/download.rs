//! Downloads a single file: continues an interrupted download, and checks the result.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use md5::Md5;
use sha2::Sha256;

use super::http::{Answer, Client, Failure};
use super::{Digest, Part};

/// Number of attempts in succession that may bring no data.
const MOST_FAILURES: u32 = 4;

/// Total number of attempts, so that a server that sends a few bytes each time cannot keep this going
/// forever.
const MOST_ATTEMPTS: u32 = 100;

/// Pause before the second attempt; it doubles with each further attempt without data.
const PAUSE: Duration = Duration::from_millis(250);

/// Bytes read at once.
const BLOCK: usize = 1 << 16;

/// Completes the file `partial` so that it holds the whole of `part`; data already present is kept.
/// `progress` receives the number of bytes present.
pub(super) fn download(
    client: &Client,
    part: &Part,
    partial: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let name = || partial.display().to_string();
    let resumed = length(partial).with_context(name)? > 0;
    complete(client, part, partial, progress)?;
    let found = match verify(part, partial).with_context(name)? {
        Ok(()) => return Ok(()),
        Err(found) => found,
    };
    fs::remove_file(partial).with_context(name)?;
    // The earlier download may have been of another version.
    if !resumed {
        return Err(found);
    }
    complete(client, part, partial, progress)?;
    verify(part, partial).with_context(name)?.inspect_err(|_| {
        let _ = fs::remove_file(partial);
    })
}

fn length(path: &Path) -> io::Result<u64> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// Sends requests until `partial` has the size of `part`.
fn complete(client: &Client, part: &Part, partial: &Path, progress: &mut dyn FnMut(u64)) -> Result<()> {
    let name = || partial.display().to_string();
    let mut file = File::options().create(true).append(true).open(partial).with_context(name)?;
    let mut have = length(partial).with_context(name)?;
    if have > part.size {
        file.set_len(0).with_context(name)?;
        have = 0;
    }
    let (mut failures, mut attempts) = (0, 0);
    progress(have);
    while have < part.size {
        let before = have;
        let error = match fetch(client, part, &mut file, &mut have, progress) {
            Ok(()) => continue,
            Err(Failure::Lasting(error)) => return Err(error),
            Err(Failure::Passing(error)) => error,
        };
        attempts += 1;
        failures = if have > before { 1 } else { failures + 1 };
        if failures >= MOST_FAILURES || attempts >= MOST_ATTEMPTS {
            return Err(error.context(format!(
                "{} of {} bytes were downloaded, and the next attempt continues with them",
                have, part.size
            )));
        }
        tracing::info!("{error:#}; trying again");
        thread::sleep(PAUSE * 2u32.pow(failures - 1));
    }
    file.sync_all().with_context(name)
}

/// Sends one request. `have` is the number of bytes in the file, also after an error.
fn fetch(
    client: &Client,
    part: &Part,
    file: &mut File,
    have: &mut u64,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Failure> {
    let local = |error: io::Error| Failure::Lasting(anyhow!("{}: {error}", part.file));
    let Answer { body, from } = client.get(&part.url, *have)?;
    if from != *have {
        // The server supports whole files only.
        file.set_len(from).map_err(local)?;
        *have = from;
    }
    let mut body = body.into_reader();
    let mut block = vec![0; BLOCK];
    loop {
        let read = match body.read(&mut block) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(Failure::Passing(anyhow!("{}: {}", part.url, client.explain_read(&error))));
            }
        };
        if *have + read as u64 > part.size {
            // The server announced another size, so the data cannot be right.
            file.set_len(0).map_err(local)?;
            *have = 0;
            return Err(Failure::Lasting(anyhow!(
                "{}: more than the {} bytes that were announced",
                part.url,
                part.size
            )));
        }
        file.write_all(&block[..read]).map_err(local)?;
        *have += read as u64;
        progress(*have);
    }
    if *have < part.size {
        return Err(Failure::Passing(anyhow!("{}: ended after {have} of {} bytes", part.url, part.size)));
    }
    Ok(())
}

/// The inner error means that the content is wrong.
fn verify(part: &Part, path: &Path) -> io::Result<Result<()>> {
    let (what, expected, found) = match &part.digest {
        None => return Ok(Ok(())),
        Some(Digest::Md5(expected)) => ("MD5", expected, hash::<Md5>(path)?),
        Some(Digest::Sha256(expected)) => ("SHA-256", expected, hash::<Sha256>(path)?),
    };
    let check = || -> Result<()> {
        ensure!(
            found == *expected,
            "{}: expected {what} {expected}, found {found}; the file was deleted",
            part.url
        );
        Ok(())
    };
    Ok(check())
}

fn hash<H: md5::Digest + io::Write>(path: &Path) -> io::Result<String> {
    let mut hash = H::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
