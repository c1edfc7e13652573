//! The network of a checkpoint in the engine's description.

use std::path::Path;

use vitstream_checkpoint::Checkpoint;
use vitstream_engine::from_vits;
use vitstream_engine::spec::{DecoderSpec, EncoderSpec};
use vitstream_vits::{DecoderHalf, EncoderHalf, HParams, Weights};

pub struct Voice {
    hparams: HParams,
    encoder: EncoderHalf,
    decoder: DecoderHalf,
}

pub fn load(path: &Path) -> Voice {
    let checkpoint = Checkpoint::open(path).expect("a checkpoint");
    let tensors = checkpoint.tensors().iter();
    let weights = Weights::new(tensors.map(|t| (t.name().to_owned(), t.clone())));
    let hyper_parameters = checkpoint.lookup(&["hyper_parameters"]).expect("readable").expect("there");
    let hparams = HParams::from_lightning(hyper_parameters, &|key| weights.shape(key)).expect("consistent");
    let encoder = EncoderHalf::load(&weights, &hparams).expect("an encoder");
    let decoder = DecoderHalf::load(&weights, &hparams).expect("a decoder");
    weights.finish().expect("nothing unknown");
    Voice { hparams, encoder, decoder }
}

pub fn decoder(voice: &Voice) -> DecoderSpec<'_> {
    from_vits::decoder(&voice.decoder, &voice.hparams)
}

pub fn encoder(voice: &Voice) -> EncoderSpec<'_> {
    from_vits::encoder(&voice.encoder, &voice.hparams)
}
