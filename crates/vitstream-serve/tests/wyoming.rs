//! A running server, tested with Wyoming.
#![allow(missing_docs, reason = "a test")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::*;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use vitstream_serve::http::Access;
use vitstream_serve::wyoming::frame::{Decoder, Event};

struct Client {
    stream: TcpStream,
    decoder: Decoder,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), decoder: Decoder::default() }
    }

    async fn send(&mut self, kind: &str, data: Value) {
        self.stream.write_all(&Event::new(kind, data).encode()).await.unwrap();
    }

    /// Returns the next event; `None` when the server closes the connection.
    async fn next(&mut self) -> Option<Event> {
        let mut buffer = [0; 4_096];
        loop {
            if let Some(event) = self.decoder.event().unwrap() {
                return Some(event);
            }
            let read = tokio::time::timeout(Duration::from_secs(60), self.stream.read(&mut buffer));
            match read.await.expect("an event within a minute") {
                Ok(0) | Err(_) => return None,
                Ok(length) => self.decoder.push(&buffer[..length]),
            }
        }
    }

    /// Returns the audio up to the event `last`, and the kinds of the other events.
    async fn hear(&mut self, last: &str) -> (Vec<u8>, Vec<String>) {
        let (mut samples, mut kinds) = (Vec::new(), Vec::new());
        loop {
            let event = self.next().await.unwrap();
            match &*event.kind {
                "audio-chunk" => {
                    assert_eq!(event.data["timestamp"], json!(samples.len() / 32));
                    samples.extend_from_slice(&event.payload);
                }
                kind => kinds.push(kind.to_owned()),
            }
            if event.kind != "audio-stop" {
                for (key, value) in [("rate", 16_000), ("width", 2), ("channels", 1)] {
                    assert!(!event.kind.starts_with("audio") || event.data[key] == json!(value), "{event:?}");
                }
            }
            if event.kind == last {
                return (samples, kinds);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_on_after_its_first_sentence() {
    let server = start(Access::default(), |_, _| {}).await;
    let mut client = Client::connect(server.wyoming).await;
    client.send("describe", Value::Null).await;
    let info = client.next().await.unwrap();
    let program = &info.data["tts"][0];
    assert_eq!((&info.kind[..], &program["supports_synthesize_streaming"]), ("info", &json!(true)));
    assert_eq!(program["voices"][0]["name"], "letters");
    assert_eq!(program["voices"][1]["speakers"].as_array().unwrap().len(), 3);
    for key in ["asr", "handle", "intent", "wake", "mic", "snd"] {
        assert_eq!(info.data[key], json!([]));
    }
    client.send("ping", json!({"text": "x"})).await;
    assert_eq!(client.next().await.unwrap(), Event::new("pong", json!({"text": "x"})));
    client.send("select-program", json!({"name": "x"})).await;
    client.send("no-such-event", Value::Null).await;
    let expected = alone("letters", TEXT);
    for _ in 0..3 {
        client.send("synthesize", json!({"text": TEXT, "voice": {"name": "letters", "speaker": null}})).await;
        let (samples, kinds) = client.hear("audio-stop").await;
        assert!(samples == expected && kinds == ["audio-start", "audio-stop"]);
    }
    client.send("synthesize", json!({"text": TEXT, "voice": {"name": "many", "speaker": "0"}})).await;
    assert!(client.hear("audio-stop").await.0 == alone("many", TEXT));
    client.send("synthesize", json!({"text": "<speak>hello</speak>", "text_format": "ssml"})).await;
    assert!(client.hear("audio-stop").await.0 == alone("letters", "hello"));
    // An empty text also ends properly.
    client.send("synthesize", json!({"text": " "})).await;
    assert_eq!(
        client.hear("audio-stop").await,
        (Vec::new(), vec!["audio-start".into(), "audio-stop".into()])
    );
    // Several requests at once are answered one after the other.
    client.send("synthesize", json!({"text": "hello"})).await;
    client.send("synthesize", json!({"text": "there"})).await;
    for text in ["hello", "there"] {
        assert!(client.hear("audio-stop").await.0 == alone("letters", text));
    }
}

/// Sends the events of Home Assistant in its order, on a separate connection; they include the whole text,
/// for servers that do not support streams.
#[tokio::test(flavor = "multi_thread")]
async fn home_assistants_stream_is_spoken_while_it_is_written() {
    let server = start(Access::default(), |_, _| {}).await;
    let text = "hello there. How are you? Fine.";
    let expected = alone("letters", text);
    for fallback in [true, false] {
        let mut client = Client::connect(server.wyoming).await;
        client.send("synthesize-start", json!({"voice": {"name": "letters"}, "context": null})).await;
        client.send("synthesize-chunk", json!({"text": &text[..20]})).await;
        // The first sentence is spoken before the last one is written.
        let first = client.next().await.unwrap();
        assert_eq!(first.kind, "audio-start");
        let first = client.next().await.unwrap();
        assert!(first.kind == "audio-chunk" && expected.starts_with(&first.payload));
        for piece in text.as_bytes()[20..].chunks(3) {
            client.send("synthesize-chunk", json!({"text": str::from_utf8(piece).unwrap()})).await;
        }
        if fallback {
            client.send("synthesize", json!({"text": text, "voice": {"name": "letters"}})).await;
        }
        client.send("synthesize-stop", Value::Null).await;
        let mut samples = first.payload.to_vec();
        loop {
            let event = client.next().await.unwrap();
            samples.extend_from_slice(&event.payload);
            if event.kind == "synthesize-stopped" {
                break;
            }
        }
        assert!(samples == expected);
        // The end event ends a stream.
        client.send("synthesize", json!({"text": "hello"})).await;
        assert!(client.hear("audio-stop").await.0 == alone("letters", "hello"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_events() {
    let server = start(Access::default(), |_, _| {}).await;
    let mut client = Client::connect(server.wyoming).await;
    for (data, code) in [
        (json!({"text": "a", "voice": {"name": "nobody"}}), "voice_not_found"),
        (json!({"text": "a", "voice": {"name": "many", "speaker": "9"}}), "invalid_request"),
        (json!({"text": "x".repeat(5_000)}), "too_large"),
        (json!({}), "invalid_request"),
        (json!({"text": "<speak>", "text_format": "ssml"}), "invalid_request"),
        (json!({"text": "a\u{0}"}), "invalid_request"),
    ] {
        client.send("synthesize", data.clone()).await;
        let event = client.next().await.unwrap();
        assert_eq!((&event.kind[..], &event.data["code"]), ("error", &json!(code)), "{data}");
        assert!(event.data["text"].is_string());
    }
    // A refused stream, with the events that its client sent before it received the refusal.
    client.send("synthesize-start", json!({"voice": {"name": "nobody"}})).await;
    client.send("synthesize-chunk", json!({"text": "a"})).await;
    client.send("synthesize-stop", Value::Null).await;
    assert_eq!(client.next().await.unwrap().kind, "error");
    client.send("ping", Value::Null).await;
    assert_eq!(client.next().await.unwrap().kind, "pong");
    let language = client_language(&mut client).await;
    client.send("synthesize", json!({"text": "hello", "voice": {"language": language}})).await;
    assert!(client.hear("audio-stop").await.0 == alone("letters", "hello"));
}

async fn client_language(client: &mut Client) -> Value {
    client.send("describe", Value::Null).await;
    client.next().await.unwrap().data["tts"][0]["voices"][0]["languages"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_wyoming_closes_the_connection_and_nothing_else() {
    let server = start(Access::default(), |limits, _| limits.idle = Duration::from_millis(300)).await;
    let long = vec![b'x'; 100_000];
    for bytes in [
        &b"hello\n"[..],
        b"{}\n",
        b"{\"type\": \"ping\", \"data_length\": -1}\n",
        b"{\"type\": \"ping\", \"payload_length\": 99999999999}\n",
        b"{\"type\": \"\xff\"}\n",
        b"GET / HTTP/1.1\r\n\r\n",
        &long,
        // Incomplete input is refused as well.
        b"{\"type\": \"ping\"",
        b"{\"type\": \"ping\", \"payload_length\": 10}\n",
        b"",
    ] {
        assert_eq!(exchange(server.wyoming, bytes).await, b"");
    }
    let mut client = Client::connect(server.wyoming).await;
    client.send("ping", Value::Null).await;
    assert_eq!(client.next().await.unwrap().kind, "pong");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_ends_the_work() {
    let server = start(Access::default(), |_, _| {}).await;
    let text = "All of us will go home and sleep. ".repeat(100);
    for events in [0, 1, 2, 5] {
        let mut client = Client::connect(server.wyoming).await;
        client.send("synthesize", json!({"text": text})).await;
        for _ in 0..events {
            client.next().await.unwrap();
        }
        drop(client);
    }
    let mut client = Client::connect(server.wyoming).await;
    client.send("synthesize-start", Value::Null).await;
    drop(client);
    wait_for("all are gone", || server.service.scheduler().now().active == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_lets_everybody_finish() {
    let mut server = start(Access::default(), |_, _| {}).await;
    let text = "All of us will go home and sleep. ".repeat(50);
    let mut idle = Client::connect(server.wyoming).await;
    let mut client = Client::connect(server.wyoming).await;
    client.send("synthesize", json!({"text": text})).await;
    assert_eq!(client.next().await.unwrap().kind, "audio-start");
    server.tell_to_end();
    let mut samples = Vec::new();
    while let Some(event) = client.next().await {
        samples.extend_from_slice(&event.payload);
        if event.kind == "audio-stop" {
            break;
        }
    }
    assert!(samples == alone("letters", &text));
    assert!(idle.next().await.is_none());
    server.ended.await.unwrap();
}
