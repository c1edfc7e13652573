//! Speaks phoneme ids and writes 16-bit samples to standard output, each chunk as soon as it is ready:
//!
//! ```sh
//! cargo run --release -p vitstream --example stream -- VOICE 1,0,20,0,59,0,2 | aplay -q -r 22050 -f S16_LE -c 1
//! ```

use std::io::Write;

use vitstream::{OpenOptions, SpeakOptions, Voice};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(ids)) = (arguments.next(), arguments.next()) else {
        return Err("usage: stream VOICE ID,ID,...".into());
    };
    let ids: Vec<i64> = ids.split(',').map(|id| id.trim().parse()).collect::<Result<_, _>>()?;

    let voice = Voice::open(path, &OpenOptions::new())?;
    let mut out = std::io::stdout().lock();
    for chunk in voice.stream(&ids, &SpeakOptions::default())? {
        let samples = chunk?.samples.into_iter().map(|sample| (sample.clamp(-1.0, 1.0) * 32767.0) as i16);
        out.write_all(&samples.flat_map(i16::to_le_bytes).collect::<Vec<u8>>())?;
        out.flush()?;
    }
    Ok(())
}
