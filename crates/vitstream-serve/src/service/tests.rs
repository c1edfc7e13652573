use std::num::NonZeroUsize;
use std::path::Path;

use proptest::prelude::*;
use vitstream::{OpenOptions, Voice, wav};
use vitstream_testing::golden;
use vitstream_text::Frontend;
use vitstream_text::phonemizer::{Pool, Recorded, TIME_LIMIT};

use super::*;
use crate::scheduler::Options;

/// A voice with three speakers that reads letters, and one with a single speaker.
const VOICES: [&str; 2] = ["families/hf", "families/hf-multi"];

fn service(change: impl FnOnce(&mut Options)) -> Service {
    let places = VOICES.map(|place| (place.replace("families/", ""), golden(place))).to_vec();
    let phonemizers = Pool::new(NonZeroUsize::MIN, TIME_LIMIT, || panic!("letters need no phonemizer"));
    let voices = Voices::new(places, OpenOptions::default(), phonemizers, u64::MAX).unwrap();
    // However slow this machine is, only excess requests are refused.
    let hold = Duration::from_secs(60);
    let mut options = Options { workers: 2, starting: 100, hold, ..Options::default() };
    change(&mut options);
    Service::new(Arc::new(voices), Scheduler::new(options).unwrap(), Limits::default(), None)
}

/// The voice's audio without this crate.
fn alone(place: &Path, text: &str, options: &SpeakOptions) -> Vec<u8> {
    let voice = Voice::open(place, &OpenOptions::default()).unwrap();
    let frontend = Frontend::from_json(voice.config()).unwrap();
    let mut cutter = frontend.stream().whole_sentences();
    let mut samples = Vec::new();
    for text in cutter.push(text).into_iter().chain(cutter.finish()) {
        for sentence in frontend.speak(&text.trim().into(), &mut Recorded::default()).unwrap() {
            samples.extend(voice.synthesize(&sentence.ids, options).unwrap());
        }
    }
    wav::s16le(&samples)
}

async fn all(mut speech: Speech) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(audio) = speech.next().await {
        bytes.extend_from_slice(&audio?.bytes);
    }
    Ok(bytes)
}

fn request(voice: &str, seed: u64) -> Request {
    Request {
        protocol: "test",
        voice: Some(voice.to_owned()),
        seed: Some(seed),
        format: Format::Pcm,
        rate: Rate::Own,
        ..Request::default()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    /// However many speak at once, and in whatever order they are computed and read, everyone gets the bytes
    /// of a single user.
    #[test]
    fn everybody_hears_what_one_alone_hears(
        workers in 1_usize..4,
        channel in 1_usize..4,
        said in prop::collection::vec(
            ("[a-z ]{1,12}([,.!] ?[A-Z][a-z ]{1,20}){0,4}[.?]?", 0_u64..3, 0_usize..2, 0_u64..4),
            1..8,
        ),
    ) {
        let service = service(|options| {
            options.workers = workers;
            options.channel = channel;
            options.load = f64::INFINITY;
        });
        runtime().block_on(async {
            let mut tasks = Vec::new();
            for (text, seed, voice, pace) in said {
                let service = service.clone();
                tasks.push(tokio::spawn(async move {
                    let place = VOICES[voice];
                    let mut request = request(&place.replace("families/", ""), seed);
                    let mut options = SpeakOptions::default();
                    options.seed = Some(seed);
                    if voice == 1 {
                        request.speaker = Some(Speaker::Id(seed as i64));
                        options.speaker = request.speaker.clone();
                    }
                    let mut speech = service.speak(request, Said::Text(text.clone())).await.unwrap();
                    let mut bytes = Vec::new();
                    while let Some(audio) = speech.next().await {
                        bytes.extend_from_slice(&audio.unwrap().bytes);
                        tokio::time::sleep(Duration::from_millis(pace)).await;
                    }
                    let expected = tokio::task::spawn_blocking(move || alone(&golden(place), &text, &options));
                    assert!(bytes == expected.await.unwrap());
                }));
            }
            for task in tasks {
                task.await.unwrap();
            }
            service.scheduler().idle().await;
        });
    }
}

#[test]
fn text_that_arrives_is_spoken_as_it_is_read_from_a_pipe() {
    let text = "well then, when the day is over, all of us will go home and sleep. And then? Nothing";
    runtime().block_on(async {
        let service = service(|_| {});
        let mut options = SpeakOptions::default();
        options.seed = Some(5);
        // Divided in the first sentence, as `speak` does on standard input.
        let parts = [
            "well then, when the day is over, ",
            "all of us will go home and sleep. ",
            "And then? ",
            "Nothing",
        ];
        let expected = parts.map(|part| alone(&golden(VOICES[0]), part, &options)).concat();
        for size in [1, 7, text.len()] {
            let (mut writer, speech) = service.speak_arriving(request("hf", 5)).await.unwrap();
            let reader = tokio::spawn(all(speech));
            for bit in text.as_bytes().chunks(size) {
                writer.push(str::from_utf8(bit).unwrap()).unwrap();
                tokio::task::yield_now().await;
            }
            drop(writer);
            assert!(reader.await.unwrap().unwrap() == expected, "in bits of {size}");
        }
        // A flush requests the text so far to be spoken.
        let (mut writer, mut speech) = service.speak_arriving(request("hf", 5)).await.unwrap();
        writer.push("Nothing").unwrap();
        writer.flush();
        let first = speech.next().await.unwrap().unwrap();
        let utterance = first.utterance.unwrap();
        assert_eq!(utterance.text, "Nothing");
        assert_eq!(utterance.words.len(), 1);
        let (word, begins, ends) = &utterance.words[0];
        assert!(word == "Nothing" && begins < ends && *ends <= utterance.length);
        assert!(writer.push(&"x".repeat(4_090)).is_err());
        drop(speech);
        writer.push("Nobody").unwrap();
        drop(writer);
        service.scheduler().idle().await;
    });
}

#[test]
fn silence_and_rates_of_ssml_are_kept() {
    runtime().block_on(async {
        let service = service(|_| {});
        let ssml = "<speak>one<break time=\"1500ms\"/>two</speak>".to_owned();
        let bytes = all(service.speak(request("hf", 1), Said::Ssml(ssml)).await.unwrap()).await.unwrap();
        let mut options = SpeakOptions::default();
        options.seed = Some(1);
        let rate = service.voices().get(None).await.unwrap().voice.info().sample_rate as usize;
        let [one, two] = ["one", "two"].map(|word| alone(&golden(VOICES[0]), word, &options));
        assert!(bytes == [one, vec![0; rate * 3], two].concat());
        let error = service.speak(request("hf", 1), Said::Ssml("<speak>".to_owned())).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Client);
    });
}

#[test]
fn what_makes_no_sense_is_refused_before_anybody_is_let_in() {
    runtime().block_on(async {
        let service = service(|_| {});
        let good = || request("hf", 1);
        let bad = [
            Request { voice: Some("../../etc/passwd".to_owned()), ..good() },
            Request { speaker: Some(Speaker::Id(9)), ..good() },
            Request { speed: Some(0.0), ..good() },
            Request { speed: Some(f32::NAN), ..good() },
            Request { length_scale: Some(1e9), ..good() },
            Request { noise_scale: Some(-1.0), ..good() },
            Request { rate: Rate::Hertz(1), ..good() },
            Request { format: Format::Opus, rate: Rate::Hertz(22_050), ..good() },
        ];
        for request in bad {
            let error = service.speak(request.clone(), Said::Text("a".to_owned())).await.unwrap_err();
            assert_eq!(error.fault(), Fault::Client, "{request:?}: {error}");
        }
        let long = "é".repeat(4_097);
        assert!(matches!(service.speak(good(), Said::Text(long)).await, Err(Error::TooLarge(_))));
        let most = service.speak(good(), Said::Text("é".repeat(4_096))).await;
        assert_eq!(all(most.unwrap()).await.unwrap().len(), 0, "the voice has no such letter");
        assert_eq!(service.scheduler().now().counts.accepted, 1);
        let twice = Request { speed: Some(2.0), ..good() };
        let bytes = all(service.speak(twice, Said::Text("hello".to_owned())).await.unwrap()).await.unwrap();
        let mut options = SpeakOptions::default();
        options.seed = Some(1);
        let voice = service.voices().get(None).await.unwrap();
        let default = voice.voice.info().scales;
        options.scales = Some(Scales { length: default.length / 2.0, ..default });
        assert!(bytes == alone(&golden(VOICES[0]), "hello", &options));
    });
}

#[test]
fn what_happened_is_counted() {
    runtime().block_on(async {
        let service = service(|_| {});
        assert!(!service.is_ready());
        // The first voice alone is not all of them.
        service.voices().get(None).await.unwrap();
        assert!(!service.is_ready());
        service.open_voices().await;
        assert!(service.is_ready());
        all(service.speak(request("hf", 1), Said::Text("hello".to_owned())).await.unwrap()).await.unwrap();
        drop(service.speak(request("hf", 1), Said::Text("hello".to_owned())).await.unwrap());
        let _ = service.speak(request("no", 1), Said::Text("hello".to_owned())).await;
        let text = service.metrics();
        for line in [
            r#"vitstream_requests_total{protocol="test",outcome="ended"} 1"#,
            r#"vitstream_requests_total{protocol="test",outcome="cancelled"} 1"#,
            r#"vitstream_requests_total{protocol="test",outcome="invalid"} 1"#,
            r#"vitstream_first_audio_seconds_count{protocol="test"} 1"#,
            r#"vitstream_streams{state="active"} "#,
            r#"vitstream_voice_bytes{voice="hf"} "#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        service.scheduler().drain();
        assert!(!service.is_ready());
    });
}
