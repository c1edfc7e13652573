//! Items of a batch do not affect each other, and neither does the padding of a batch.

mod support;

use proptest::prelude::*;
use support::{Array, Fixture, Net, Random, assert_close, by_name, decoder_feeds};
use vitstream_vits::{NoiseSource, SynthesizerTrn};

struct Pair {
    name: String,
    model: SynthesizerTrn,
    encoder: Net,
    decoder: Net,
}

impl Pair {
    fn new(fixture: &Fixture) -> Self {
        let model = fixture.model();
        Self {
            name: fixture.name.clone(),
            encoder: Net::new(model.emit_encoder(15, NoiseSource::Input).unwrap()),
            decoder: Net::new(model.emit_decoder(15).unwrap()),
            model,
        }
    }

    /// A batch of items with the given lengths; shorter items are followed by ids of another item.
    fn feeds(&self, lengths: &[usize], seed: u64) -> Vec<(&'static str, Array)> {
        let random = &mut Random(seed);
        let hp = &self.model.hparams;
        let (b, t) = (lengths.len(), *lengths.iter().max().unwrap());
        let mut choose = |count: usize, below: usize| -> Vec<i64> {
            (0..count).map(|_| random.within(0..below) as i64).collect()
        };
        let mut feeds = vec![
            ("input", Array::i64(&[b, t], &choose(b * t, hp.num_symbols))),
            ("input_lengths", Array::i64(&[b], &lengths.iter().map(|&n| n as i64).collect::<Vec<_>>())),
            ("scales", Array::f32(&[3], vec![0.667, 1.0, 0.8])),
        ];
        if hp.multi_speaker() {
            feeds.push(("sid", Array::i64(&[b], &choose(b, hp.num_speakers))));
        }
        if hp.use_sdp() {
            feeds.push(("noise_dp", Array::noise(&[b, 2, t], seed + 1)));
        }
        // More noise than necessary; the rest is not used.
        feeds.push(("noise_p", Array::noise(&[b, hp.inter_channels, 4000], seed + 2)));
        feeds
    }

    /// Item `index` of the feeds, without padding.
    fn alone(feeds: &[(&'static str, Array)], index: usize, length: usize) -> Vec<(&'static str, Array)> {
        let item = |(name, array): &(&'static str, Array)| {
            let item = match *name {
                "scales" => array.clone(),
                "input" => array.item(index).slice(1, 0..length),
                "noise_dp" => array.item(index).slice(2, 0..length),
                _ => array.item(index),
            };
            (*name, item)
        };
        feeds.iter().map(item).collect()
    }

    fn check(&self, lengths: &[usize], seed: u64) {
        let feeds = self.feeds(lengths, seed);
        let batch = self.encoder.run(by_name(&feeds));
        let (z, y_mask, g) = (&batch[0], &batch[1], batch.get(2));
        let audio = self.decoder.run(decoder_feeds(z, y_mask, g)).remove(0);
        let hop = self.model.hparams.hop_length();
        for (index, &length) in lengths.iter().enumerate() {
            let what = |what: &str| format!("{}, {lengths:?} seed {seed}, item {index}: {what}", self.name);
            let alone = self.encoder.run(by_name(&Self::alone(&feeds, index, length)));
            let frames = alone[0].dims[2];
            let mask = y_mask.item(index);
            let valid = mask.floats().iter().filter(|&&m| m == 1.0).count();
            assert_eq!(valid, frames, "{}", what("frames"));
            assert!(mask.floats()[..frames].iter().all(|&m| m == 1.0), "{}", what("y_mask"));
            assert_close(&z.item(index).slice(2, 0..frames), &alone[0], 2e-5, &what("z"));
            assert_eq!(g.map(|g| g.item(index)).as_ref(), alone.get(2), "{}", what("g"));

            // Upstream's generator is not masked, so the last samples of an item depend on what follows it in
            // the batch.
            let z = z.item(index).slice(2, 0..frames);
            let own = self.decoder.run(decoder_feeds(&z, &alone[1], alone.get(2))).remove(0);
            assert_eq!(own.dims, [1, 1, frames * hop], "{}", what("samples"));
            let clear = frames.saturating_sub(self.model.dec.receptive_field()) * hop;
            let inner = audio.item(index).slice(2, 0..clear);
            assert_close(&inner, &own.slice(2, 0..clear), 2e-5, &what("audio"));
            if frames * hop == audio.dims[2] {
                assert_close(&audio.item(index), &own, 2e-5, &what("audio of the longest item"));
            }
        }
    }
}

#[test]
fn an_item_is_what_it_is_alone() {
    for fixture in support::distinct() {
        let pair = Pair::new(&fixture);
        let cases = (prop::collection::vec(1usize..24, 1..5), any::<u32>());
        let mut runner = support::runner(12);
        runner
            .run(&cases, |(lengths, seed)| {
                pair.check(&lengths, u64::from(seed));
                Ok(())
            })
            .unwrap();
    }
}

/// Noise beyond the spoken frames is not used, whatever it is; with too little noise the encoder fails.
#[test]
fn noise_is_cut_to_the_frames() {
    for name in ["multi", "multi-nosdp"] {
        let pair = Pair::new(&Fixture::committed(name));
        let mut feeds = pair.feeds(&[9], 5);
        let z = pair.encoder.run(by_name(&feeds)).remove(0);
        let (frames, channels) = (z.dims[2], z.dims[1]);
        let at = feeds.len() - 1;
        let noise = feeds[at].1.clone();

        let mut filled = noise.floats().to_vec();
        for row in filled.chunks_exact_mut(noise.dims[2]) {
            row[frames..].fill(f32::NAN);
        }
        feeds[at].1 = Array::f32(&noise.dims, filled);
        assert_eq!(pair.encoder.run(by_name(&feeds))[0], z, "{name}: with fillers");
        feeds[at].1 = noise.slice(2, 0..frames);
        assert_eq!(pair.encoder.run(by_name(&feeds))[0], z, "{name}: exactly enough");
        feeds[at].1 = noise.slice(2, 0..frames - 1);
        assert!(
            pair.encoder.try_run(by_name(&feeds)).is_err(),
            "{name}: one frame of {channels} channels too few"
        );
    }
}
