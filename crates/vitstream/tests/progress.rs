//! Long operations report their progress and can be stopped.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use vitstream::export::ExportOptions;
use vitstream::verify::VerifyOptions;
use vitstream::{ErrorKind, Progress};

const TRAINED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../vitstream-vits/tests/golden/multi.ckpt");

/// Records the reported steps, and stops the work before the step called `last`.
fn recorder(last: &'static str) -> (Progress, Arc<Mutex<Vec<String>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let kept = told.clone();
    let progress = Progress::new(move |step| {
        let mut kept = kept.lock().unwrap();
        assert_eq!(step.done, kept.len(), "{step:?}");
        kept.push(format!("{} of {}", step.next, step.of));
        if step.next == last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    (progress, told)
}

#[test]
fn every_step_is_told_and_each_can_be_the_last() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("voice");
    for last in ["source", "encoder.onnx", "decoder.onnx", "decoder.stream.onnx", "folder"] {
        let (progress, _) = recorder(last);
        let error =
            vitstream::export(TRAINED, &folder, &ExportOptions::new().progress(progress)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted, "{last}: {error}");
        assert!(!folder.join("encoder.onnx").exists(), "{last}");
    }
    let (progress, told) = recorder("never");
    vitstream::export(TRAINED, &folder, &ExportOptions::new().progress(progress)).unwrap();
    let expected = [
        "source of 5",
        "encoder.onnx of 5",
        "decoder.onnx of 5",
        "decoder.stream.onnx of 5",
        "folder of 5",
        " of 5",
    ];
    assert_eq!(*told.lock().unwrap(), expected);

    let (progress, _) = recorder("chunks");
    let error = vitstream::verify(&folder, &VerifyOptions::new().progress(progress)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    let (progress, told) = recorder("never");
    assert!(vitstream::verify(&folder, &VerifyOptions::new().progress(progress)).unwrap().passed);
    assert_eq!(told.lock().unwrap().last().unwrap(), " of 5");
}
