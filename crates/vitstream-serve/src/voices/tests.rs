use std::fs;
use std::num::NonZeroUsize;

use vitstream_testing::golden;
use vitstream_text::phonemizer::TIME_LIMIT;

use super::*;

/// A folder with three voices that read letters, and a damaged one.
fn place() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        let folder = root.path().join(name);
        fs::create_dir(&folder).unwrap();
        for file in ["model.safetensors", "config.json", "vocab.json", "tokenizer_config.json"] {
            let from = golden("families/hf").join(file);
            if from.exists() {
                fs::copy(from, folder.join(file)).unwrap();
            }
        }
    }
    fs::write(root.path().join("damaged.ckpt"), b"no voice").unwrap();
    fs::write(root.path().join("notes.txt"), b"no voice either").unwrap();
    root
}

fn nobody() -> Pool {
    Pool::new(NonZeroUsize::MIN, TIME_LIMIT, || panic!("letters need no phonemizer"))
}

fn voices(root: &Path, memory: u64) -> Arc<Voices> {
    let phonemizers = nobody();
    Arc::new(Voices::new(find(root).unwrap(), OpenOptions::default(), phonemizers, memory).unwrap())
}

#[tokio::test]
async fn a_voice_that_cannot_be_opened_is_an_error_of_its_own() {
    let root = place();
    let voices = voices(root.path(), u64::MAX);
    assert_eq!(voices.names().collect::<Vec<_>>(), ["a", "b", "c", "damaged"]);
    assert_eq!(voices.default_name(), "a");
    assert!(voices.descriptions().is_empty());
    let error = voices.get(Some("damaged")).await.unwrap_err();
    assert!(error.to_string().contains("damaged.ckpt"), "{error}");
    assert!(!error.for_client().contains("damaged.ckpt"));
    assert!(matches!(voices.get(Some("../a")).await, Err(Error::UnknownVoice(_))));
    let open = voices.get(None).await.unwrap();
    assert!(open.name == "a" && open.rtf > 0.0);
    // All requests share the same voice.
    assert!(Arc::ptr_eq(&open, &voices.get(Some("a")).await.unwrap()));
    let described: Vec<String> = voices.descriptions().into_iter().map(|voice| voice.name).collect();
    assert_eq!(described, ["a"]);
}

#[tokio::test]
async fn the_voice_that_was_not_asked_for_longest_is_put_aside() {
    let root = place();
    let one = voices(root.path(), u64::MAX).get(Some("a")).await.unwrap().bytes;
    assert!(one > 10_000);
    let voices = voices(root.path(), 2 * one);
    let a = voices.get(Some("a")).await.unwrap();
    assert_eq!(voices.in_memory(), [("a".to_owned(), one)]);
    voices.get(Some("b")).await.unwrap();
    voices.get(Some("a")).await.unwrap();
    voices.get(Some("c")).await.unwrap();
    let names = |voices: &Voices| voices.in_memory().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(&voices), ["a", "c"]);
    // It can still be opened, and is still listed.
    assert_eq!(voices.descriptions().len(), 3);
    voices.get(Some("b")).await.unwrap();
    assert_eq!(names(&voices), ["b", "c"]);
    // Those who hold it keep it.
    assert!(!a.voice.synthesize(&[1, 2, 3], &SpeakOptions::default()).unwrap().is_empty());
}

#[tokio::test]
async fn one_voice_is_opened_however_little_memory_there_is() {
    let root = place();
    let voices = voices(root.path(), 0);
    for name in ["a", "b", "a"] {
        assert_eq!(voices.get(Some(name)).await.unwrap().name, name);
        assert_eq!(voices.in_memory().len(), 1);
    }
}

#[test]
fn names_are_told_apart() {
    let phonemizers = nobody();
    let places = vec![("a".to_owned(), "x".into()), ("a".to_owned(), "y".into())];
    let error = Voices::new(places, OpenOptions::default(), phonemizers.clone(), 0).unwrap_err().to_string();
    assert!(error.contains("x and y"), "{error}");
    assert!(Voices::new(Vec::new(), OpenOptions::default(), phonemizers, 0).is_err());
    let root = tempfile::tempdir().unwrap();
    assert!(find(root.path()).unwrap_err().to_string().contains("encoder.onnx"));
}
