//! What network a state dict belongs to, told by its keys.

/// A family of networks that share VITS's pieces, or its file formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Network {
    /// piper's and the original VITS, under upstream's keys.
    Vits,
    /// `transformers.VitsModel`.
    HuggingFaceVits,
    /// `TTS.tts.models.vits.Vits`.
    CoquiVits,
    /// MeloTTS or Bert-VITS2: BERT features and tones beside the phonemes, a transformer in the flow.
    BertVits2,
    /// piper-plus or MB-iSTFT-VITS: a vocoder that ends in an inverse Fourier transform.
    IstftVits,
    /// A discriminator without its generator.
    Discriminator,
    /// None of these.
    Unknown,
}

impl Network {
    /// Tells by the keys of a state dict, with or without `model_g.`.
    pub fn of<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        let keys: Vec<String> = keys.into_iter().map(|key| key.replace("_orig_mod.", "")).collect();
        let generator = |key: &str| key.strip_prefix("model_g.").unwrap_or(key).to_owned();
        let any =
            |parts: &[&str]| keys.iter().any(|key| parts.iter().any(|part| generator(key).starts_with(part)));
        match () {
            () if any(&["text_encoder.embed_tokens."]) => Self::HuggingFaceVits,
            () if any(&["waveform_decoder."]) => Self::CoquiVits,
            () if any(&[
                "enc_p.bert_proj.",
                "enc_p.ja_bert_proj.",
                "enc_p.tone_emb.",
                "enc_p.language_emb.",
            ]) =>
            {
                Self::BertVits2
            }
            () if any(&["dec.subband_conv_post.", "dec.multistream_conv_post.", "dec.reflection_pad"]) => {
                Self::IstftVits
            }
            () if any(&["enc_p."]) && any(&["dec."]) => Self::Vits,
            () if !keys.is_empty()
                && keys
                    .iter()
                    .all(|key| key.starts_with("model_d.") || key.starts_with("discriminators.")) =>
            {
                Self::Discriminator
            }
            () => Self::Unknown,
        }
    }

    /// What it is, for a message about a file that cannot be exported.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Vits => "a VITS network",
            Self::HuggingFaceVits => "a Hugging Face VitsModel",
            Self::CoquiVits => "a Coqui VITS model",
            Self::BertVits2 => {
                "a MeloTTS or Bert-VITS2 model, which is another network (BERT inputs, a transformer in the flow)"
            }
            Self::IstftVits => {
                "a piper-plus or MB-iSTFT model, which is another network (an inverse Fourier transform in the decoder)"
            }
            Self::Discriminator => "a discriminator alone: the generator (`model_g.*`) is missing",
            Self::Unknown => "no VITS network: none of its keys are known",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_told_apart() {
        let of = |keys: &[&str]| Network::of(keys.iter().copied());
        assert_eq!(
            of(&["model_g.enc_p.emb.weight", "model_g.dec.conv_pre.weight", "model_d.x"]),
            Network::Vits
        );
        assert_eq!(of(&["enc_p.emb.weight", "dec.conv_pre.weight"]), Network::Vits);
        assert_eq!(
            of(&["model_g._orig_mod.enc_p.emb.weight", "model_g._orig_mod.dec.conv_pre.weight"]),
            Network::Vits
        );
        assert_eq!(of(&["text_encoder.embed_tokens.weight"]), Network::HuggingFaceVits);
        assert_eq!(of(&["waveform_decoder.conv_pre.weight"]), Network::CoquiVits);
        assert_eq!(
            of(&["enc_p.emb.weight", "enc_p.bert_proj.weight", "dec.conv_pre.weight"]),
            Network::BertVits2
        );
        assert_eq!(
            of(&["enc_p.emb.weight", "dec.conv_pre.weight", "dec.subband_conv_post.weight"]),
            Network::IstftVits
        );
        assert_eq!(of(&["model_d.discriminators.0.convs.0.bias"]), Network::Discriminator);
        assert_eq!(of(&["conv1.weight"]), Network::Unknown);
        assert_eq!(of(&[]), Network::Unknown);
    }
}
