//! Settings of the server for the messages that follow.

/// Names and values.
pub(super) type Pairs = Vec<(String, String)>;

/// Speed factor of the fastest rate, and slowdown of the slowest.
const FASTEST: f32 = 3.0;

/// The settings with an effect. The voice's pitch is part of the network, and the server spells out
/// punctuation and capital letters before it sends the text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settings {
    /// -100 to 100.
    rate: f32,
    /// -100 to 100; 100 is the loudness produced by the network.
    volume: f32,
    pub(super) is_spelling: bool,
    pub(super) language: Option<String>,
    /// The voice type, such as `male1`.
    pub(super) voice_type: Option<String>,
    /// One of the listed voices.
    pub(super) voice: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { rate: 0.0, volume: 100.0, is_spelling: false, language: None, voice_type: None, voice: None }
    }
}

impl Settings {
    /// The settings with these changes; `None` if a value is not valid.
    pub(super) fn with(&self, pairs: &Pairs) -> Option<Self> {
        let mut changed = self.clone();
        for (name, value) in pairs {
            let number = || Some(f32::from(value.parse::<i16>().ok().filter(|n| (-100..=100).contains(n))?));
            let text = || Some(value.clone()).filter(|value| value != "NULL");
            match &**name {
                "rate" => changed.rate = number()?,
                "volume" => changed.volume = number()?,
                "spelling_mode" => changed.is_spelling = value == "on",
                "language" => changed.language = text(),
                "voice" => changed.voice_type = text(),
                "synthesis_voice" => changed.voice = text(),
                _ => {}
            }
        }
        Some(changed)
    }

    /// Rate of speech; 1 is the voice's own.
    pub(super) fn speed(&self) -> f32 {
        FASTEST.powf(self.rate / 100.0)
    }

    /// Factor applied to samples.
    pub(super) fn gain(&self) -> f32 {
        (self.volume + 100.0) / 200.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> Option<Settings> {
        Settings::default().with(&vec![(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn rates_and_volumes_are_factors() {
        let speeds = ["-100", "0", "100"].map(|rate| with("rate", rate).unwrap().speed());
        assert_eq!(speeds, [1.0 / 3.0, 1.0, 3.0]);
        let gains = ["-100", "0", "100"].map(|volume| with("volume", volume).unwrap().gain());
        assert_eq!(gains, [0.0, 0.5, 1.0]);
        assert_eq!((Settings::default().speed(), Settings::default().gain()), (1.0, 1.0));
        for value in ["101", "-101", "", "fast", "NaN", "99999999999"] {
            assert_eq!(with("rate", value), None, "{value}");
            assert_eq!(with("volume", value), None, "{value}");
        }
    }

    #[test]
    fn null_unsets_and_strangers_say_nothing() {
        let named = with("synthesis_voice", "Ada").unwrap();
        assert_eq!(named.voice.as_deref(), Some("Ada"));
        let unset = named.with(&vec![("synthesis_voice".to_owned(), "NULL".to_owned())]).unwrap();
        assert_eq!(unset, Settings::default());
        for (name, value) in
            [("pitch", "50"), ("punctuation_mode", "all"), ("cap_let_recogn", "icon"), ("new", "x")]
        {
            assert_eq!(with(name, value).unwrap(), Settings::default());
        }
        assert!(with("spelling_mode", "on").unwrap().is_spelling);
    }
}
