//! Any bytes are refused, or read as events; how they are cut changes nothing, and little is held.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vitstream_serve::wyoming::frame::{Decoder, Event, FrameError};

fn events(bytes: &[u8], size: usize) -> (Vec<Event>, Option<FrameError>) {
    let mut decoder = Decoder::default();
    let mut events = Vec::new();
    for piece in bytes.chunks(size) {
        decoder.push(piece);
        loop {
            match decoder.next() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
    }
    (events, None)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&size, bytes)) = bytes.split_first() else { return };
    let (found, error) = events(bytes, usize::from(size) + 1);
    assert!(error.is_none_or(|error| error.to_string().len() < 1000));
    // What is written is read again.
    let written: Vec<u8> = found.iter().flat_map(Event::encode).collect();
    let (again, error) = events(&written, 1 << 16);
    // Numbers may come back in their last digit only.
    let parts = |events: &[Event]| -> Vec<_> {
        events.iter().map(|event| (event.kind.clone(), event.payload.clone(), event.data.len())).collect()
    };
    assert!(error.is_none() && parts(&again) == parts(&found));
});
