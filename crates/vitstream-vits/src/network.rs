//! Recognises the network of a state dict by its keys.

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
    /// MeloTTS or Bert-VITS2: BERT features and tones in addition to phonemes, a transformer in the flow.
    BertVits2,
    /// piper-plus or MB-iSTFT-VITS: a vocoder that ends in an inverse Fourier transform.
    IstftVits,
    /// ESPnet's VITS, also used by icefall: other blocks under other names.
    EspnetVits,
    /// VITS2: transformers in the flow, the speaker in the text encoder.
    Vits2,
    /// RVC: voice conversion from content features and pitch.
    Rvc,
    /// so-vits-svc: singing voice conversion.
    SoVitsSvc,
    /// GPT-SoVITS, either of its two networks.
    GptSoVits,
    /// StyleTTS2.
    StyleTts2,
    /// Kokoro, a StyleTTS2 without its diffusion.
    Kokoro,
    /// Matcha-TTS or Grad-TTS.
    Matcha,
    /// Tacotron 2.
    Tacotron2,
    /// A HiFi-GAN generator alone.
    HifiGan,
    /// A discriminator without its generator.
    Discriminator,
    /// None of these.
    Unknown,
}

impl Network {
    /// Recognises the network by the keys of a state dict, with or without `model_g.`.
    pub fn of<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        let keys: Vec<String> = keys.into_iter().map(|key| key.replace("_orig_mod.", "")).collect();
        let own: Vec<&str> = keys.iter().map(|key| key.strip_prefix("model_g.").unwrap_or(key)).collect();
        let any = |parts: &[&str]| own.iter().any(|key| parts.iter().any(|part| key.starts_with(part)));
        let within = |part: &str| keys.iter().any(|key| key.split('.').any(|segment| segment == part));
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
            () if any(&[
                "enc_p.ssl_proj.",
                "enc_p.mrte.",
                "quantizer.vq.",
                "ar_text_embedding.",
                "model.ar_",
            ]) =>
            {
                Self::GptSoVits
            }
            () if any(&["enc_p.emb_phone.", "enc_p.emb_pitch."]) => Self::Rvc,
            () if any(&["emb_uv.", "f0_decoder.", "dec.m_source."]) => Self::SoVitsSvc,
            () if any(&["enc_p.encoder.spk_emb_linear."]) || within("pre_transformer") => Self::Vits2,
            () if any(&["enc_p."]) && any(&["dec."]) => Self::Vits,
            () if any(&["text_encoder.", "tts.generator.text_encoder.", "generator.text_encoder."])
                && within("input_conv") =>
            {
                Self::EspnetVits
            }
            () if within("bert_encoder") && within("predictor") => {
                if within("style_encoder") || within("diffusion") { Self::StyleTts2 } else { Self::Kokoro }
            }
            () if any(&["decoder.estimator."]) => Self::Matcha,
            () if any(&["decoder.attention_rnn.", "decoder.decoder_rnn."]) => Self::Tacotron2,
            () if any(&["conv_pre."]) && any(&["ups.0."]) && any(&["conv_post."]) => Self::HifiGan,
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

    /// A description for a message about a file that cannot be exported.
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
            Self::EspnetVits => {
                "a VITS of ESPnet or icefall, which is another network (other blocks under other names): export it \
                 with icefall's export-onnx.py, and speak it with sherpa-onnx"
            }
            Self::Vits2 => {
                "a VITS2 model, which is another network (transformers in the flow): export it with its own \
                 repository's export_onnx.py"
            }
            Self::Rvc => {
                "an RVC model, which is another network: it converts speech and does not speak texts; use it in RVC"
            }
            Self::SoVitsSvc => {
                "a so-vits-svc model, which is another network: it converts singing and does not speak texts; use it \
                 in so-vits-svc"
            }
            Self::GptSoVits => {
                "half of a GPT-SoVITS model, which is another network: use it in GPT-SoVITS, whose onnx_export.py \
                 exports it"
            }
            Self::StyleTts2 => "a StyleTTS2 model, which is another network: use it in StyleTTS2",
            Self::Kokoro => {
                "a Kokoro model, which is another network: there are ONNX files of it for kokoro-onnx and sherpa-onnx"
            }
            Self::Matcha => {
                "a Matcha-TTS or Grad-TTS model, which is another network: export it with matcha.onnx.export"
            }
            Self::Tacotron2 => {
                "a Tacotron 2 model, which is another network: it makes spectrograms for a vocoder of its own"
            }
            Self::HifiGan => {
                "a HiFi-GAN vocoder alone, which turns spectrograms into sound: the network that reads texts is missing"
            }
            Self::Discriminator => "a discriminator alone: the generator (`model_g.*`) is missing",
            Self::Unknown => "not a VITS network: none of its keys are known",
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
        for (keys, expected) in [
            (&["text_encoder.emb.weight", "decoder.input_conv.weight_g"][..], Network::EspnetVits),
            (
                &["tts.generator.text_encoder.emb.weight", "tts.generator.decoder.input_conv.bias"],
                Network::EspnetVits,
            ),
            (&["enc_p.emb.weight", "flow.flows.0.pre_transformer.x", "dec.ups.0.bias"], Network::Vits2),
            (&["enc_p.emb_phone.weight", "dec.m_source.l_linear.weight"], Network::Rvc),
            (&["emb_uv.weight", "enc_p.proj.weight", "dec.m_source.l_linear.weight"], Network::SoVitsSvc),
            (&["enc_p.ssl_proj.weight", "dec.conv_pre.weight"], Network::GptSoVits),
            (&["model.ar_text_embedding.word_embeddings.weight"], Network::GptSoVits),
            (&["net.bert_encoder.weight", "net.predictor.x", "net.style_encoder.x"], Network::StyleTts2),
            (&["bert_encoder.module.weight", "predictor.module.x", "decoder.module.x"], Network::Kokoro),
            (&["encoder.emb.weight", "decoder.estimator.time_mlp.weight"], Network::Matcha),
            (&["encoder.lstm.bias", "decoder.attention_rnn.weight_ih"], Network::Tacotron2),
            (&["conv_pre.weight_g", "ups.0.bias", "conv_post.bias"], Network::HifiGan),
        ] {
            assert_eq!(of(keys), expected, "{keys:?}");
            assert!(!expected.describe().is_empty());
        }
        assert_eq!(of(&["model_d.discriminators.0.convs.0.bias"]), Network::Discriminator);
        assert_eq!(of(&["conv1.weight"]), Network::Unknown);
        assert_eq!(of(&[]), Network::Unknown);
    }
}
