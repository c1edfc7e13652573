//! A running server, tested over ElevenLabs' WebSocket.
#![allow(missing_docs, reason = "a test")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::*;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use vitstream_serve::http::Access;

type Socket = WebSocketStream<TcpStream>;

async fn connect(address: SocketAddr, voice: &str) -> Socket {
    let url =
        format!("ws://{address}/v1/text-to-speech/{voice}/stream-input?output_format=pcm_16000&model_id=x");
    let stream = TcpStream::connect(address).await.unwrap();
    tokio_tungstenite::client_async(url, stream).await.unwrap().0
}

async fn say(socket: &mut Socket, message: Value) {
    socket.send(Message::text(message.to_string())).await.unwrap();
}

async fn next(socket: &mut Socket) -> Option<Message> {
    let message = tokio::time::timeout(Duration::from_secs(60), socket.next());
    message.await.expect("a message within a minute")?.ok()
}

/// Returns the audio, and the alignments with their offsets in it; the last message is returned as it is.
async fn hear(socket: &mut Socket) -> (Vec<u8>, Vec<(usize, Value)>, Value) {
    let (mut samples, mut alignments) = (Vec::new(), Vec::new());
    while let Some(message) = next(socket).await {
        let Message::Text(text) = message else { panic!("{message:?}") };
        let message: Value = serde_json::from_str(&text).unwrap();
        if message["isFinal"] == json!(true) {
            return (samples, alignments, message);
        }
        if !message["alignment"].is_null() {
            alignments.push((samples.len() / 2, message["alignment"].clone()));
        }
        samples.extend(STANDARD.decode(message["audio"].as_str().unwrap()).unwrap());
    }
    panic!("no last message");
}

#[tokio::test(flavor = "multi_thread")]
async fn words_become_speech_while_they_are_written() {
    let server = start(Access::default(), |_, _| {}).await;
    let text = "hello there. How are you? Fine.";
    let mut socket = connect(server.http, "letters").await;
    say(
        &mut socket,
        json!({"text": " ", "voice_settings": {"speed": 1, "stability": 0.5}, "xi_api_key": "x"}),
    )
    .await;
    for word in text.split_inclusive(' ') {
        say(&mut socket, json!({"text": word, "try_trigger_generation": true})).await;
    }
    say(&mut socket, json!({"text": ""})).await;
    let (samples, alignments, last) = hear(&mut socket).await;
    assert!(samples == alone("letters", text));
    assert!(last["audio"].is_null());
    let Some(Message::Close(Some(frame))) = next(&mut socket).await else { panic!("no close") };
    assert_eq!(u16::from(frame.code), 1_000);
    // Each sentence has the times of its characters.
    let texts: Vec<String> = alignments
        .iter()
        .map(|(_, found)| found["chars"].as_array().unwrap().iter().filter_map(Value::as_str).collect())
        .collect();
    assert_eq!(texts, ["hello there.", "How are you?", "Fine."]);
    for (index, (start, found)) in alignments.iter().enumerate() {
        let list = |key: &str| -> Vec<u64> {
            found[key].as_array().unwrap().iter().map(|value| value.as_u64().unwrap()).collect()
        };
        let (starts, lengths) = (list("charStartTimesMs"), list("charDurationsMs"));
        assert!(starts.is_sorted() && starts.len() == lengths.len());
        let end = alignments.get(index + 1).map_or(samples.len() / 2, |(next, _)| *next);
        let length = (end - start) as u64 * 1_000 / 16_000;
        let last = starts.last().unwrap() + lengths.last().unwrap();
        assert!(last.abs_diff(length) <= 1, "{last} of {length} ms");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_is_heard_at_once_and_closing_ends_it() {
    let server = start(Access::default(), |_, _| {}).await;
    let mut socket = connect(server.http, "letters").await;
    say(&mut socket, json!({"text": "hello", "flush": true})).await;
    let expected = alone("letters", "hello");
    let mut samples = Vec::new();
    while samples.len() < expected.len() {
        let Some(Message::Text(text)) = next(&mut socket).await else { panic!("no audio") };
        let message: Value = serde_json::from_str(&text).unwrap();
        samples.extend(STANDARD.decode(message["audio"].as_str().unwrap()).unwrap());
    }
    assert!(samples == expected);
    say(&mut socket, json!({"text": "All of us will go home and sleep. ".repeat(100)})).await;
    assert!(matches!(next(&mut socket).await, Some(Message::Text(_))));
    // The user interrupts, so the rest is not spoken.
    socket.close(None).await.unwrap();
    wait_for("it is over", || server.service.scheduler().now().active == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_told_and_closes() {
    let server = start(Access::default(), |limits, _| limits.idle = Duration::from_millis(300)).await;
    for (voice, message, code) in [
        ("nobody", Message::text(r#"{"text": "a"}"#), "voice_not_found"),
        ("letters", Message::text(r#"{"text": "a", "voice_settings": {"speed": 100}}"#), "invalid_request"),
        ("letters", Message::text("hello"), "invalid_request"),
        ("letters", Message::text(r#"{"text": 1}"#), "invalid_request"),
        ("letters", Message::binary(&b"{}"[..]), "invalid_request"),
        ("letters", Message::text(format!(r#"{{"text": "{}"}}"#, "x".repeat(5_000))), "too_large"),
    ] {
        let mut socket = connect(server.http, voice).await;
        socket.send(message).await.unwrap();
        let (_, _, last) = hear(&mut socket).await;
        assert_eq!(last["error"], code);
        let Some(Message::Close(Some(frame))) = next(&mut socket).await else { panic!("no close") };
        assert_eq!(u16::from(frame.code), 1_008);
    }
    // Too much for one message, and no text at all.
    let mut socket = connect(server.http, "letters").await;
    let _ = socket.send(Message::text("x".repeat(200_000))).await;
    assert!(!matches!(next(&mut socket).await, Some(Message::Text(_))));
    let mut socket = connect(server.http, "letters").await;
    assert!(!matches!(next(&mut socket).await, Some(Message::Text(_))));
    wait_for("all are gone", || server.service.scheduler().now().active == 0).await;
}
