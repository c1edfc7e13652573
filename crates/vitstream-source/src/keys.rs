//! Restores the keys of the network's own code. Training wrappers (`DataParallel`, DeepSpeed, custom
//! Lightning modules) add prefixes to keys on any level, and averaging keeps a second set of the same
//! weights. This module removes the prefixes and chooses one of the sets.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

use vitstream_checkpoint::{Checkpoint, ErrorKind, Tensor, Value, excerpt};
use vitstream_vits::Network;
use vitstream_vits::weights::{OTHER_SET, OUTSIDE, unneeded};

use crate::Error;
use crate::WeightSet;

/// Prefixes that wrappers add to keys and that no supported network has: removed wherever all keys of a group
/// have them.
const WRAPPERS: [&str; 7] = [
    "module",
    "_forward_module",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_orig_mod",
    "model",
    "generator",
];

/// First parts of keys; every supported network has at least one of them.
const ROOTS: [&str; 9] = [
    "enc_p",
    "text_encoder",
    "emb_uv",
    "f0_decoder",
    "bert_encoder",
    "encoder",
    "waveform_decoder",
    "ssl_proj",
    "ar_text_embedding",
];

/// Dicts next to the state dict that hold the other set of weights: averaged ones, or, for Lightning's
/// `WeightAveraging`, those as trained.
const AVERAGED_STATE_DICTS: [&str; 7] =
    ["ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "ema", "averaged_model", "shadow"];
const TRAINED_STATE_DICT: &str = "current_model_state";

/// Parts of a name that indicate an average.
const AVERAGED: [&str; 5] = ["ema", "averaged", "average", "swa", "shadow"];

/// Limits on the depth at which networks are searched for, and on the length of keys. The longest known
/// combination is `module.model.generator.` before keys of 66 bytes; a longer key belongs to no network.
const MAX_DEPTH: usize = 8;
const MAX_KEY: usize = 256;
const MAX_SEGMENTS: usize = 24;

/// Limit on the places within a state dict at which networks may begin; the outermost are examined first. A
/// file made to have more would only cost time.
const MAX_PLACES: usize = 256;
const MAX_NETWORKS: usize = 8;

/// With fewer tensors than this, a callback holds only its own counters.
const MIN_TENSORS: usize = 16;

/// A state dict under the network's own keys.
pub(crate) struct Keys {
    /// Tensors under their new keys, in the file's order.
    pub(crate) tensors: Vec<(String, Tensor)>,
    /// New and old keys of entries that are not tensors.
    pub(crate) others: Vec<(String, String)>,
    /// The network.
    pub(crate) network: Network,
    /// Notes on what was done, for people.
    pub(crate) notes: Vec<String>,
    /// Warnings for people.
    pub(crate) warnings: Vec<String>,
}

impl Keys {
    /// The keys of the checkpoint's state dict, or of the dict that replaces it if `set` requests the other
    /// set of weights.
    pub(crate) fn of(checkpoint: &Checkpoint, set: Option<WeightSet>) -> Result<Self, Error> {
        let path = checkpoint.path();
        let root = checkpoint.metadata();
        let trained = root.get(TRAINED_STATE_DICT).and_then(Value::items).filter(|items| is_network(items));
        // If the weights as trained have a place of their own, the usual place holds the average.
        if let Some(trained) = trained {
            return match set {
                Some(WeightSet::Raw) => {
                    let mut keys = Self::unwrap(path, from_items(checkpoint, trained), None)?;
                    keys.notes.push(format!("weights as trained ({TRAINED_STATE_DICT})"));
                    Ok(keys)
                }
                chosen => {
                    let mut keys = Self::unwrap(path, from_state_dict(checkpoint), None)?;
                    keys.notes.push("averaged weights (state_dict)".to_owned());
                    if chosen.is_none() {
                        let there = "the state dict holds averaged weights, which are used, as upstream's export does";
                        keys.warnings.push(format!(
                            "{}: {there}; the weights as trained are present as well ({TRAINED_STATE_DICT})",
                            path.display()
                        ));
                    }
                    Ok(keys)
                }
            };
        }
        let averaged = averaged_dicts(root);
        let keys = Self::unwrap(path, from_state_dict(checkpoint), set.filter(|_| averaged.is_empty()));
        let Some((name, items)) = averaged.first() else { return keys };
        let mut keys = match set {
            Some(WeightSet::Ema) => {
                let mut keys = Self::unwrap(path, from_items(checkpoint, items), None)?;
                keys.notes.push(format!("averaged weights ({name})"));
                keys
            }
            None => {
                let mut keys = keys?;
                keys.warnings.push(both_sets(path, name));
                keys
            }
            Some(WeightSet::Raw) => keys?,
        };
        if set != Some(WeightSet::Ema) {
            keys.notes.push("weights as trained".to_owned());
        }
        Ok(keys)
    }

    fn unwrap(path: &Path, entries: Entries, set: Option<WeightSet>) -> Result<Self, Error> {
        let names =
            entries.tensors.iter().map(|tensor| tensor.name()).chain(entries.others.iter().map(|n| &**n));
        let names: Vec<Cow<'_, str>> = names.map(without_wrappers_that_are_none_else).collect();
        let mut notes = Vec::new();
        let mut warnings = Vec::new();
        let chosen = choose(path, &names, set, &mut notes, &mut warnings)?;
        let mut split: Vec<Option<Vec<&str>>> =
            names.iter().map(|name| chosen.own(name).and_then(segments)).collect();
        let mut taken = BTreeSet::new();
        let mut groups: Vec<&mut Vec<&str>> = split.iter_mut().flatten().collect();
        take_off(&mut groups, 0, "", &mut taken);
        // Compiled modules are too common to be worth a note.
        taken.remove("_orig_mod.");
        if !taken.is_empty() {
            let taken: Vec<&str> = taken.iter().map(String::as_str).take(MAX_LISTED).collect();
            notes.push(format!("prefixes removed from keys: {}", taken.join(", ")));
        }
        let keys: Vec<String> = names
            .iter()
            .zip(split)
            .map(|(name, split)| match (split, chosen.own(name)) {
                (Some(segments), _) => segments.join("."),
                (None, Some(own)) => own.to_owned(),
                (None, None) => chosen.outside(name),
            })
            .collect();
        let network = Network::of(keys.iter().map(String::as_str));
        let (tensor_keys, other_keys) = keys.split_at(entries.tensors.len());
        Ok(Self {
            others: other_keys.iter().cloned().zip(entries.others).collect(),
            tensors: tensor_keys.iter().cloned().zip(entries.tensors).collect(),
            network,
            notes,
            warnings,
        })
    }

    /// Fails for a required entry that is not a tensor, before its key would be reported as missing.
    pub(crate) fn check_others(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        for (_, name) in self.others.iter().filter(|(key, _)| unneeded(key).is_none()) {
            match checkpoint.tensors().require(name) {
                Err(error) if !matches!(error.kind(), ErrorKind::NotATensor | ErrorKind::MissingTensor) => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The shape of the tensor under the new key `key`.
    pub(crate) fn shape(&self, key: &str) -> Option<&[usize]> {
        self.tensors.iter().find(|(name, _)| name == key).map(|(_, tensor)| tensor.shape())
    }

    /// Some of the file's keys, to help find out what it is.
    pub(crate) fn examples(&self) -> String {
        let names: Vec<String> =
            self.tensors.iter().take(5).map(|(_, tensor)| excerpt(tensor.name())).collect();
        names.join(", ")
    }
}

/// Limit on the names listed in a note.
const MAX_LISTED: usize = 5;

fn both_sets(path: &Path, averaged: &str) -> String {
    format!(
        "{}: averaged weights are present as well ({averaged}); the weights as trained are used, as upstream's export does",
        path.display()
    )
}

/// The entries of a state dict.
struct Entries {
    tensors: Vec<Tensor>,
    /// Names of entries that are not tensors.
    others: Vec<String>,
}

fn from_state_dict(checkpoint: &Checkpoint) -> Entries {
    let mut others: Vec<String> = checkpoint.tensors().others().map(|(key, _)| key.to_owned()).collect();
    others.sort_unstable();
    Entries { tensors: checkpoint.tensors().iter().cloned().collect(), others }
}

fn from_items(checkpoint: &Checkpoint, items: &[(Value, Value)]) -> Entries {
    let tensor = |(key, value): &(Value, Value)| match (key.as_str(), value) {
        (Some(key), Value::Tensor(reference)) => Some(checkpoint.tensor(key, reference)),
        _ => None,
    };
    Entries { tensors: items.iter().filter_map(tensor).collect(), others: Vec::new() }
}

/// Returns true if the tensors in a dict form a network of some kind.
fn is_network(items: &[(Value, Value)]) -> bool {
    let names: Vec<Cow<'_, str>> = items
        .iter()
        .filter(|(_, value)| matches!(value, Value::Tensor(_)))
        .filter_map(|(key, _)| key.as_str().map(without_wrappers_that_are_none_else))
        .collect();
    names.len() >= MIN_TENSORS && !networks(&names).is_empty()
}

/// Dicts of averaged weights outside the state dict, and their places.
fn averaged_dicts(root: &Value) -> Vec<(String, &[(Value, Value)])> {
    let mut found = Vec::new();
    for name in AVERAGED_STATE_DICTS {
        if let Some(value) = root.get(name) {
            collect_networks(value, name, 0, &mut found);
        }
    }
    if let Some(callbacks) = root.get("callbacks") {
        collect_networks(callbacks, "callbacks", 0, &mut found);
    }
    found
}

fn collect_networks<'a>(
    value: &'a Value,
    name: &str,
    depth: usize,
    found: &mut Vec<(String, &'a [(Value, Value)])>,
) {
    let Some(items) = value.items() else { return };
    if is_network(items) {
        found.push((excerpt(name), items));
    } else if depth < 3 && found.len() < MAX_NETWORKS {
        for (key, value) in
            items.iter().filter(|(key, _)| key.as_str().is_some_and(|key| key.len() < MAX_KEY))
        {
            let key = key.as_str().unwrap_or_default();
            collect_networks(value, &format!("{name}.{key}"), depth + 1, found);
        }
    }
}

/// Removes the prefixes that `torch.compile` and similar tools add anywhere, also next to keys without them.
fn without_wrappers_that_are_none_else(name: &str) -> Cow<'_, str> {
    if name.contains("_orig_mod.") { name.replace("_orig_mod.", "").into() } else { name.into() }
}

/// The parts of a key, if it can belong to a network.
fn segments(key: &str) -> Option<Vec<&str>> {
    let split: Vec<&str> = key.split('.').take(MAX_SEGMENTS + 1).collect();
    (key.len() <= MAX_KEY && split.len() <= MAX_SEGMENTS).then_some(split)
}

/// Removes wrappers' prefixes that all keys of a group have at `level`, and continues with the groups within.
/// `within` is the group's name in `taken`.
fn take_off(keys: &mut [&mut Vec<&str>], level: usize, within: &str, taken: &mut BTreeSet<String>) {
    while let Some(first) = keys.first().and_then(|key| key.get(level).copied()) {
        let common = |key: &Vec<&str>| key.get(level) == Some(&first) && key.len() > level + 1;
        if !WRAPPERS.contains(&first) || !keys.iter().all(|key| common(key)) {
            break;
        }
        for key in keys.iter_mut() {
            key.remove(level);
        }
        if taken.len() < MAX_LISTED {
            let at = if within.is_empty() { String::new() } else { format!(" within {}", excerpt(within)) };
            taken.insert(format!("{first}.{at}"));
        }
    }
    if level + 1 >= MAX_SEGMENTS {
        return;
    }
    keys.sort_by(|a, b| a.get(level).cmp(&b.get(level)));
    let mut rest = keys;
    while !rest.is_empty() {
        let name = rest[0].get(level).copied();
        let length = rest.iter().take_while(|key| key.get(level).copied() == name).count();
        let (group, behind) = rest.split_at_mut(length);
        // A single key has nothing in common with others.
        if let Some(name) = name.filter(|_| length > 1) {
            let within = if within.is_empty() { name.to_owned() } else { format!("{within}.{name}") };
            take_off(group, level + 1, &within, taken);
        }
        rest = behind;
    }
}

/// The keys that belong to the network.
struct Chosen {
    /// Prefix of the network's keys, including the dot; empty if they are at the top level.
    prefix: String,
    /// Prefixes of the other sets' keys.
    other_sets: Vec<String>,
}

impl Chosen {
    /// The network's own key.
    fn own<'a>(&self, name: &'a str) -> Option<&'a str> {
        let own = name.strip_prefix(&self.prefix)?;
        (!self.is_other_set(name)).then_some(own)
    }

    fn is_other_set(&self, name: &str) -> bool {
        self.other_sets.iter().any(|prefix| prefix.len() > self.prefix.len() && name.starts_with(prefix))
    }

    /// The key for an entry that does not belong to the network.
    fn outside(&self, name: &str) -> String {
        if self.other_sets.iter().any(|prefix| name.starts_with(prefix)) {
            format!("{OTHER_SET}{name}")
        } else if ["model_d.", "discriminator."].iter().any(|prefix| name.starts_with(prefix)) {
            name.to_owned()
        } else {
            format!("{OUTSIDE}{name}")
        }
    }
}

/// Places at which networks begin: the prefix before the first known part of a key, if a network follows it.
fn networks(names: &[Cow<'_, str>]) -> Vec<(String, Network)> {
    let mut prefixes = BTreeSet::new();
    for name in names.iter().filter(|name| name.len() <= MAX_KEY) {
        let mut start = 0;
        for segment in name.split('.').take(MAX_DEPTH) {
            if ROOTS.contains(&segment) {
                prefixes.insert(&name[..start]);
                break;
            }
            start += segment.len() + 1;
        }
        if prefixes.len() > MAX_PLACES {
            break;
        }
    }
    let mut prefixes: Vec<&str> = prefixes.into_iter().collect();
    prefixes.sort_by_key(|prefix| (prefix.matches('.').count(), prefix.len()));
    prefixes.truncate(MAX_NETWORKS);
    let of = |prefix: &str| Network::of(names.iter().filter_map(|name| name.strip_prefix(prefix)));
    let known =
        |network: Network| !matches!(network, Network::Unknown | Network::Discriminator | Network::HifiGan);
    let found = prefixes.into_iter().map(|prefix| (prefix.to_owned(), of(prefix)));
    found.filter(|&(_, network)| known(network)).collect()
}

/// Returns true if the name of a group of weights says that they are averaged.
fn is_average(prefix: &str) -> bool {
    prefix.split(['.', '_']).any(|part| AVERAGED.contains(&part))
}

fn choose(
    path: &Path,
    names: &[Cow<'_, str>],
    set: Option<WeightSet>,
    notes: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Result<Chosen, Error> {
    let (averaged, trained): (Vec<_>, Vec<_>) =
        networks(names).into_iter().map(|(prefix, _)| prefix).partition(|prefix| is_average(prefix));
    // Piper's generator takes precedence over others, and the outermost over those within it.
    let first = |prefixes: &[String]| {
        let rank = |prefix: &&String| (prefix.as_str() != "model_g.", prefix.len());
        prefixes.iter().min_by_key(rank).cloned()
    };
    let shown = |prefix: &str| format!("{}*", excerpt(prefix));
    let prefix = match set {
        Some(WeightSet::Ema) => {
            let averaged = first(&averaged).ok_or_else(|| Error::Unrecoverable {
                path: path.to_owned(),
                place: "state dict".to_owned(),
                problem: "averaged weights were asked for, but there are none under any known name"
                    .to_owned(),
            })?;
            notes.push(format!("averaged weights ({})", shown(&averaged)));
            averaged
        }
        _ => match (first(&trained), first(&averaged)) {
            (Some(trained), Some(averaged)) => {
                if set.is_none() {
                    warnings.push(both_sets(path, &shown(&averaged)));
                }
                notes.push("weights as trained".to_owned());
                trained
            }
            (Some(trained), None) => trained,
            (None, Some(averaged)) => {
                notes.push(format!("averaged weights ({}), the only ones present", shown(&averaged)));
                averaged
            }
            (None, None) => String::new(),
        },
    };
    if !matches!(prefix.as_str(), "" | "model_g.") && !averaged.contains(&prefix) {
        notes.push(format!("prefixes removed from keys: {}", excerpt(&prefix)));
    }
    let other_sets = averaged.into_iter().chain(trained).filter(|other| *other != prefix).collect();
    Ok(Chosen { prefix, other_sets })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The resulting keys, and the notes about them.
    fn unwrapped(keys: &[&str], set: Option<WeightSet>) -> (Vec<String>, Vec<String>) {
        let path: std::sync::Arc<Path> = Path::new("voice.ckpt").into();
        let tensor = |key: &&str| {
            let zero = vec![0; 4].into();
            Tensor::from_bytes(&path, key, vitstream_checkpoint::DType::F32, vec![1], zero).unwrap()
        };
        let entries = Entries { tensors: keys.iter().map(tensor).collect(), others: Vec::new() };
        let keys = Keys::unwrap(&path, entries, set).unwrap();
        let said = [keys.notes, keys.warnings].concat();
        (keys.tensors.into_iter().map(|(key, _)| key).collect(), said)
    }

    const VITS: [&str; 5] = [
        "enc_p.emb.weight",
        "enc_p.proj.bias",
        "dec.conv_pre.weight",
        "dec.ups.0.bias",
        "flow.flows.0.pre.bias",
    ];

    #[test]
    fn keys_of_the_families_stay_as_they_are() {
        for keys in [
            &VITS[..],
            &["text_encoder.embed_tokens.weight", "decoder.conv_pre.weight", "discriminator.x"],
            &["text_encoder.emb.weight", "waveform_decoder.conv_pre.weight", "disc.x", "emb_l.weight"],
        ] {
            assert_eq!(
                unwrapped(keys, None),
                (keys.iter().map(|key| (*key).to_owned()).collect(), Vec::new())
            );
        }
        let (keys, said) = unwrapped(
            &["model_g.enc_p.emb.weight", "model_g._orig_mod.dec.ups.0.bias", "model_d.x", "loss.y"],
            None,
        );
        assert_eq!(keys, ["enc_p.emb.weight", "dec.ups.0.bias", "model_d.x", "(outside model_g).loss.y"]);
        assert!(said.is_empty(), "{said:?}");
    }

    #[test]
    fn wrappers_within_are_taken_off_groups_only() {
        let (keys, said) = unwrapped(
            &[
                "model_g.enc_p.emb.weight",
                "model_g.enc_p.proj.bias",
                "model_g.dec.module.conv_pre.weight",
                "model_g.dec.module.ups.0.bias",
                "model_g.flow.flows.module.pre.bias",
                "model_g.flow.flows.0.pre.bias",
            ],
            None,
        );
        assert_eq!(keys[2..], [VITS[2], VITS[3], "flow.flows.module.pre.bias", VITS[4]]);
        assert_eq!(said, ["prefixes removed from keys: module. within dec"]);
    }

    #[test]
    fn of_two_sets_one_is_chosen_and_named() {
        for (trained, averaged) in [
            ("model_g.", "model_g_ema."),
            ("module.", "ema.module."),
            ("", "ema.module."),
            ("model.", "swa_model."),
        ] {
            let both: Vec<String> =
                VITS.iter().flat_map(|key| [format!("{trained}{key}"), format!("{averaged}{key}")]).collect();
            let both: Vec<&str> = both.iter().map(String::as_str).collect();
            for (set, first) in [(None, 0), (Some(WeightSet::Raw), 0), (Some(WeightSet::Ema), 1)] {
                let (keys, said) = unwrapped(&both, set);
                for (i, key) in VITS.iter().enumerate() {
                    assert_eq!(keys[2 * i + first], *key, "{averaged} {set:?}");
                    let other = &keys[2 * i + 1 - first];
                    assert!(unneeded(other).is_some(), "{other} {averaged} {set:?}");
                }
                assert_eq!(said.iter().any(|said| said.contains("as well")), set.is_none(), "{said:?}");
                let name = if first == 0 { "as trained" } else { averaged };
                assert!(said.iter().any(|said| said.contains(name)), "{said:?}");
            }
        }
        let only: Vec<String> = VITS.iter().map(|key| format!("ema.{key}")).collect();
        let only: Vec<&str> = only.iter().map(String::as_str).collect();
        let (keys, said) = unwrapped(&only, None);
        assert_eq!(keys, VITS);
        assert!(said[0].contains("the only ones present"), "{said:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Prefixes common to all keys of a network are removed, whatever they are.
        #[test]
        fn prefixes_common_to_all_keys_are_taken_off(
            prefix in prop::collection::vec("(module|_forward_module|model|generator|_orig_mod|net_g|[a-z]{1,9})", 0..5),
            before in prop::sample::select(vec!["", "model_g."]),
            within in prop::collection::vec(prop::sample::select(WRAPPERS.to_vec()), 0..3),
        ) {
            prop_assume!(!prefix.iter().any(|part| ROOTS.contains(&part.as_str()) || part == "dec" || part == "flow"));
            let prefix: String = prefix.iter().map(|part| format!("{part}.")).collect();
            let within: String = within.iter().map(|part| format!("{part}.")).collect();
            let wrapped: Vec<String> = VITS
                .iter()
                .map(|key| {
                    let (part, rest) = key.split_once('.').unwrap();
                    match part {
                        "dec" => format!("{prefix}{before}{part}.{within}{rest}"),
                        _ => format!("{prefix}{before}{key}"),
                    }
                })
                .collect();
            let wrapped: Vec<&str> = wrapped.iter().map(String::as_str).collect();
            let (keys, said) = unwrapped(&wrapped, None);
            prop_assert_eq!(&keys[..], &VITS[..]);
            let silent = prefix.replace("_orig_mod.", "").is_empty() && within.replace("_orig_mod.", "").is_empty();
            prop_assert_eq!(said.is_empty(), silent, "{:?}", said);
        }

        /// Keys that belong to no network are left alone, whatever they are.
        #[test]
        fn any_keys_do_no_harm(keys in prop::collection::vec("[a-z._]{0,40}", 0..40)) {
            let keys: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
            let keys: Vec<&str> = keys.into_iter().collect();
            prop_assert_eq!(unwrapped(&keys, None).0.len(), keys.len());
        }
    }
}
