//! A running server, tested over HTTP.
#![allow(missing_docs, reason = "a test")]

mod common;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::*;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use vitstream::wav;
use vitstream_serve::http::{Access, Keys};

const RATE: u32 = 16_000;

#[tokio::test(flavor = "multi_thread")]
async fn openai_gets_the_samples_of_a_single_user() {
    let server = start(Access::default(), |_, _| {}).await;
    let expected = alone("letters", TEXT);
    let asked = json!({"model": "tts-1", "voice": "letters", "input": TEXT, "response_format": "wav", "unknown": [1]});
    let wave = post(server.http, "/v1/audio/speech", &asked).await;
    assert_eq!((wave.status, wave.header("content-type")), (200, Some("audio/wav")));
    assert_eq!(wave.header("cache-control"), Some("no-store"));
    assert_eq!(wave.header("x-accel-buffering"), Some("no"));
    assert!(wave.whole && wave.body[..44] == wav::header(RATE, None) && wave.body[44..] == expected);
    // Raw samples at the rate that its clients assume.
    let mut asked = json!({"voice": {"id": "letters"}, "input": TEXT, "response_format": "pcm"});
    let usual = post(server.http, "/v1/audio/speech", &asked).await;
    assert_eq!(usual.header("content-type"), Some("audio/pcm;rate=24000;channels=1"));
    assert_eq!(
        usual.body.len() / 2,
        (expected.len() as f64 / 2.0 * 24_000.0 / f64::from(RATE)).round() as usize
    );
    asked["sample_rate"] = json!(RATE);
    assert!(post(server.http, "/v1/audio/speech", &asked).await.body == expected);
    asked["stream_format"] = json!("sse");
    let events = post(server.http, "/v1/audio/speech", &asked).await;
    assert_eq!(events.header("content-type"), Some("text/event-stream"));
    let events: Vec<Value> = events
        .text()
        .split_terminator("\n\n")
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
        .collect();
    let (last, deltas) = events.split_last().unwrap();
    let audio = deltas.iter().flat_map(|event| {
        assert_eq!(event["type"], "speech.audio.delta");
        STANDARD.decode(event["audio"].as_str().unwrap()).unwrap()
    });
    assert!(audio.collect::<Vec<u8>>() == expected);
    assert_eq!(
        (&last["type"], &last["usage"]["input_tokens"]),
        (&json!("speech.audio.done"), &json!(TEXT.len()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_is_what_it_says() {
    let server = start(Access::default(), |_, _| {}).await;
    for (format, kind, magic) in [
        (json!("wav"), "audio/wav", &b"RIFF"[..]),
        (json!("flac"), "audio/flac", b"fLaC"),
        (json!("opus"), "audio/opus", b"OggS"),
        (json!("mp3"), "audio/mpeg", b"\xff"),
        (Value::Null, "audio/mpeg", b"\xff"),
        (json!("ulaw"), "audio/basic", b""),
    ] {
        let asked = json!({"input": TEXT, "voice": "letters", "response_format": format});
        let found = post(server.http, "/v1/audio/speech", &asked).await;
        assert!(found.status == 200 && found.whole, "{format}: {}", found.status);
        assert_eq!(found.header("content-type"), Some(kind));
        assert!(found.body.starts_with(magic) && found.body.len() > 500, "{format}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_told_in_openais_form() {
    let server = start(Access::default(), |limits, _| limits.body = 20_000).await;
    let speech = "/v1/audio/speech";
    for (asked, status, code, part) in [
        (
            json!({"input": "a", "response_format": "aac"}),
            400,
            "invalid_request",
            "wav, pcm, ulaw, flac, mp3, opus",
        ),
        (json!({"input": "a", "voice": "nobody"}), 404, "voice_not_found", "nobody"),
        (json!({"input": "a", "voice": "../letters"}), 404, "voice_not_found", "../letters"),
        (json!({"input": "a", "speed": 9}), 400, "invalid_request", "0.25 to 4"),
        (json!({"input": "a", "sample_rate": 1}), 400, "invalid_request", "sample rate"),
        (json!({"input": "a", "stream_format": "x"}), 400, "invalid_request", "sse"),
        (json!({"input": " "}), 400, "invalid_request", "input"),
        (json!({"input": 1}), 400, "invalid_request", "expected a string"),
        (json!({}), 400, "invalid_request", "input"),
        (json!([]), 400, "invalid_request", "object"),
        // All fields, in the order of their declaration.
        (json!(["a", null, null, null, null, null, null, null, null]), 400, "invalid_request", "object"),
        (json!({"input": "x".repeat(4_097)}), 413, "too_large", "4096"),
        (json!({"input": "x".repeat(30_000)}), 413, "too_large", "20000"),
        (json!({"input": "a", "voice": "many", "speaker": 3}), 400, "invalid_request", "0 to 2"),
        (json!({"input": "a\u{0}b"}), 400, "invalid_request", "NUL"),
    ] {
        let found = post(server.http, speech, &asked).await;
        let error = &found.json()["error"];
        assert_eq!((found.status, &error["code"]), (status, &json!(code)), "{asked}");
        assert_eq!(error["type"], "invalid_request_error");
        assert!(error["message"].as_str().unwrap().contains(part), "{error}");
    }
    for (method, path, status) in [
        ("GET", speech, 405),
        ("GET", "/nothing", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/v1/text-to-speech/letters/stream-input", 426),
        ("DELETE", "/", 405),
    ] {
        let found = ask(server.http, method, path, "", b"").await;
        assert_eq!(found.status, status, "{method} {path}");
    }
    let found = ask(server.http, "POST", "/", "", b"\xff\xfe").await;
    assert_eq!(found.status, 400);
    // A body declared as JSON is not read as text.
    for (media_type, status) in [("application/json; charset=utf-8", 400), ("text/plain", 200)] {
        let field = format!("Content-Type: {media_type}\r\n");
        assert_eq!(
            ask(server.http, "POST", "/", &field, b"[\"hello\"]").await.status,
            status,
            "{media_type}"
        );
    }
    assert_eq!(server.service.scheduler().now().active, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_have_the_shape_that_clients_read() {
    let server = start(Access::default(), |_, _| {}).await;
    let voices = get(server.http, "/v1/audio/voices").await.json();
    let names: Vec<&Value> = voices["voices"].as_array().unwrap().iter().map(|voice| &voice["id"]).collect();
    assert_eq!(names, ["letters", "many"]);
    assert_eq!(voices["voices"][1]["speakers"].as_array().unwrap().len(), 3);
    assert!(get(server.http, "/v1/audio/models").await.json()["models"][0]["id"].is_string());
    let models = get(server.http, "/v1/models").await.json();
    assert!(models["object"] == "list" && models["data"][0]["id"].is_string());
    let voices = get(server.http, "/voices").await.json();
    assert!(voices["letters"].is_object() && voices["many"].is_object());
    assert_eq!(get(server.http, "/info").await.json()["default_voice"], "letters");
    assert_eq!(get(server.http, "/healthz").await.status, 200);
    assert_eq!(get(server.http, "/readyz").await.status, 200);
    let metrics = get(server.http, "/metrics").await;
    assert!(metrics.text().contains("vitstream_streams{state=\"active\"} 0"));
    assert!(metrics.text().ends_with("# EOF\n"));
    let description = get(server.http, "/openapi.json").await.json();
    for path in [
        "/v1/audio/speech",
        "/",
        "/synthesize",
        "/voices",
        "/v1/text-to-speech/{voice}/stream-input",
        "/metrics",
    ] {
        assert!(description["paths"][path].is_object(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pipers_clients_of_every_age_are_served() {
    let server = start(Access::default(), |_, _| {}).await;
    let expected = alone("letters", TEXT);
    let asked = json!({"text": TEXT, "voice": "letters", "speaker_id": 0, "length_scale": null});
    for path in ["/", "/synthesize"] {
        let found = post(server.http, path, &asked).await;
        assert!(
            found.status == 200
                && found.body[..44] == wav::header(RATE, None)
                && found.body[44..] == expected
        );
    }
    let plain = ask(server.http, "POST", "/", "Content-Type: text/plain\r\n", TEXT.as_bytes()).await;
    assert!(plain.body[44..] == expected);
    let address = get(server.http, &format!("/?text={}", TEXT.replace(' ', "%20").replace('?', "%3F"))).await;
    assert!(address.body[44..] == expected);
    assert_eq!(get(server.http, "/").await.status, 200);
    // Unlike the original API, a voice that does not exist is an error and not replaced by another one.
    assert_eq!(post(server.http, "/", &json!({"text": "a", "voice": "nobody"})).await.status, 404);
    let many = post(server.http, "/", &json!({"text": TEXT, "voice": "many"})).await;
    assert!(many.body[44..] == alone("many", TEXT));
    let other = post(server.http, "/", &json!({"text": TEXT, "voice": "many", "speaker": "2"})).await;
    assert!(other.status == 200 && other.body != many.body);
    let slow = json!({"text": TEXT, "length_scale": 4.0, "noise_scale": 0, "noise_w_scale": 0});
    let plain = json!({"text": TEXT, "noise_scale": 0, "noise_w_scale": 0});
    let [slow, plain] = [post(server.http, "/", &slow).await, post(server.http, "/", &plain).await];
    // Most phonemes of this voice are shorter than a frame, so their length is the same in both cases.
    assert!(slow.body.len() > plain.body.len() * 5 / 4);
    // A client of ElevenLabs that uses no WebSocket.
    let found = post(
        server.http,
        "/v1/text-to-speech/letters/stream?output_format=pcm_16000",
        &json!({"text": TEXT, "model_id": "eleven_turbo_v2", "voice_settings": {"stability": 1}}),
    )
    .await;
    assert!(found.body == expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_key_is_refused() {
    let access = Access { keys: Keys::from_lines("secret\nother"), ..Access::default() };
    let server = start(access, |_, _| {}).await;
    let asked = json!({"input": "hello", "response_format": "pcm"}).to_string();
    for (fields, status) in [
        ("", 401),
        ("Authorization: Bearer wrong\r\n", 401),
        ("Authorization: Bearer \r\n", 401),
        ("Authorization: Basic secret\r\n", 401),
        ("Authorization: Bearer secret\r\n", 200),
        ("xi-api-key: other\r\n", 200),
    ] {
        let found = ask(server.http, "POST", "/v1/audio/speech", fields, asked.as_bytes()).await;
        assert_eq!(found.status, status, "{fields}");
    }
    for path in ["/v1/models", "/voices", "/?text=a", "/v1/text-to-speech/letters/stream-input"] {
        assert_eq!(get(server.http, path).await.status, 401, "{path}");
    }
    // The operators' endpoints reveal nothing about the users.
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(get(server.http, path).await.status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_are_refused() {
    let server = start(Access::default(), |_, _| {}).await;
    let own = format!("Origin: http://{}\r\n", server.http);
    assert_eq!(ask(server.http, "GET", "/voices", &own, b"").await.status, 200);
    for origin in ["http://example.org", "null", "https://127.0.0.1:1"] {
        let field = format!("Origin: {origin}\r\n");
        let found = ask(server.http, "POST", "/", &field, b"hello").await;
        assert_eq!((found.status, found.header("access-control-allow-origin")), (403, None), "{origin}");
    }
    let access = Access { origins: vec!["https://example.org".parse().unwrap()], ..Access::default() };
    let server = start(access, |_, _| {}).await;
    let found = ask(server.http, "POST", "/", "Origin: https://example.org\r\n", b"hello").await;
    assert_eq!(found.status, 200);
    assert_eq!(found.header("access-control-allow-origin"), Some("https://example.org"));
    assert_eq!(ask(server.http, "POST", "/", "Origin: https://example.com\r\n", b"hello").await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_too_much_is_told_to_come_again() {
    let server = start(Access::default(), |_, options| {
        options.load = 1e-9;
        options.hold = Duration::from_millis(20);
    })
    .await;
    let (_writer, _speech) = server.service.speak_arriving(Default::default()).await.unwrap();
    let found = post(server.http, "/v1/audio/speech", &json!({"input": "hello"})).await;
    assert_eq!((found.status, found.header("retry-after")), (503, Some("1")));
    assert_eq!(found.json()["error"]["code"], "overloaded");
    // A full server stays in service.
    assert_eq!(get(server.http, "/readyz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_broken_requests_end() {
    let server = start(Access::default(), |limits, _| {
        limits.arrival = Duration::from_millis(300);
        limits.idle = Duration::from_millis(300);
    })
    .await;
    // A head that never ends, a body that never arrives, and no data at all.
    assert_eq!(exchange(server.http, b"GET / HTTP/1.1\r\nHost: ").await, b"");
    let half = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhello";
    let found = answer(&exchange(server.http, half).await);
    assert_eq!((found.status, found.json()["error"]["code"].as_str()), (408, Some("timeout")));
    assert_eq!(exchange(server.http, b"").await, b"");
    // Data that is not HTTP.
    for bytes in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"hello\r\n\r\n", &[b'x'; 100_000]] {
        let found = exchange(server.http, bytes).await;
        assert!(found.is_empty() || found.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&found));
    }
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    assert_eq!(ask(server.http, "GET", "/healthz", &many, b"").await.status, 431);
    let long = format!("x: {}\r\n", "y".repeat(40_000));
    assert_eq!(ask(server.http, "GET", "/healthz", &long, b"").await.status, 431);
    assert_eq!(server.service.scheduler().now().active, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_more_connections_than_there_may_be() {
    let server = start(Access::default(), |limits, _| limits.connections = 2).await;
    let request = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut answer = [0; 15];
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.http).await.unwrap();
        stream.write_all(request).await.unwrap();
        stream.read_exact(&mut answer).await.unwrap();
        held.push(stream);
    }
    assert_eq!(exchange(server.http, request).await, b"");
    assert_eq!(exchange(server.wyoming, b"{\"type\": \"ping\"}\n").await, b"");
    // Present clients are served, and a client that leaves makes room.
    let mut first = held.remove(0);
    first.write_all(request).await.unwrap();
    first.read_exact(&mut answer).await.unwrap();
    drop(held);
    wait_for_room(&server).await;
}

/// Sends requests until there is room.
async fn wait_for_room(server: &Running) {
    for _ in 0..1_000 {
        let found =
            exchange(server.http, b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        if !found.is_empty() {
            assert!(found.starts_with(b"HTTP/1.1 200"));
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no room");
}

/// Sends a request with a long answer, and reads `bytes` of it.
async fn listen(server: &Running, bytes: usize) -> TcpStream {
    let body = json!({"input": "All of us will go home and sleep. ".repeat(100), "response_format": "pcm", "sample_rate": 48_000});
    let body = body.to_string();
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    let head = format!("POST /v1/audio/speech HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await.unwrap();
    let mut taken = vec![0; bytes];
    stream.read_exact(&mut taken).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_ends_the_work() {
    let server = start(Access::default(), |_, _| {}).await;
    for bytes in [0, 1, 100, 5_000, 60_000] {
        drop(listen(&server, bytes).await);
    }
    wait_for("all are gone", || server.service.scheduler().now().active == 0).await;
    assert!(server.service.scheduler().now().counts.cancelled > 0);
    assert_eq!(get(server.http, "/healthz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_nothing_is_parked_and_then_left() {
    let server = start(Access::default(), |limits, _| limits.idle = Duration::from_millis(500)).await;
    let slow = listen(&server, 100).await;
    let socket = server.service.scheduler().clone();
    wait_for("it is left", || socket.now().active == 0).await;
    drop(slow);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_lets_everybody_finish() {
    let mut server = start(Access::default(), |_, _| {}).await;
    let mut readers = Vec::new();
    for _ in 0..8 {
        let mut stream = listen(&server, 100).await;
        readers.push(tokio::spawn(async move {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            rest
        }));
    }
    server.tell_to_end();
    wait_for("nobody is let in", || server.service.scheduler().is_draining()).await;
    for reader in readers {
        assert!(reader.await.unwrap().ends_with(b"0\r\n\r\n"));
    }
    server.ended.await.unwrap();
    assert!(TcpStream::connect(server.http).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_ends_nobody_new_is_served() {
    let mut server = start(Access::default(), |limits, _| limits.drain = Duration::from_millis(700)).await;
    let stuck = listen(&server, 100).await;
    server.tell_to_end();
    wait_for("nobody is let in", || server.service.scheduler().is_draining()).await;
    assert_eq!(get(server.http, "/readyz").await.status, 503);
    assert_eq!(get(server.http, "/healthz").await.status, 200);
    let found = post(server.http, "/v1/audio/speech", &json!({"input": "hello"})).await;
    assert_eq!((found.status, found.json()["error"]["code"].as_str()), (503, Some("draining")));
    // A client that does not read cannot keep the server running forever.
    server.ended.await.unwrap();
    drop(stuck);
}

#[tokio::test(flavor = "multi_thread")]
async fn characters_have_their_times() {
    let server = start(Access::default(), |_, _| {}).await;
    let path = format!("/v1/text-to-speech/letters/stream/with-timestamps?output_format=pcm_{RATE}");
    let answer = post(server.http, &path, &json!({"text": TEXT})).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/x-ndjson")));
    let (mut audio, mut said, mut samples) = (Vec::new(), String::new(), 0);
    for line in answer.text().lines() {
        let piece: Value = serde_json::from_str(line).unwrap();
        audio.extend(STANDARD.decode(piece["audio_base64"].as_str().unwrap()).unwrap());
        let Some(alignment) = piece["alignment"].as_object() else { continue };
        let list = |name: &str| alignment[name].as_array().unwrap().clone();
        said.extend(list("characters").iter().map(|c| c.as_str().unwrap().to_owned()));
        let [starts, ends] = ["start", "end"].map(|which| {
            let times = list(&format!("character_{which}_times_seconds"));
            times.iter().map(|time| time.as_f64().unwrap()).collect::<Vec<f64>>()
        });
        assert!(starts.iter().zip(&ends).all(|(start, end)| start <= end) && starts.is_sorted());
        samples += (ends.last().unwrap() * f64::from(RATE)).round() as usize;
    }
    assert!(audio == alone("letters", TEXT));
    assert_eq!(said.replace(' ', ""), TEXT.replace(' ', ""));
    assert_eq!(samples, audio.len() / 2, "utterances follow each other without a pause");
    let other =
        post(server.http, &path.replace("letters", "many"), &json!({"text": TEXT, "speaker": 9})).await;
    assert_eq!(other.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_needs_no_key_and_no_other_server() {
    let keys = Access { keys: Keys::from_lines("one"), ..Access::default() };
    let server = start(keys, |_, _| {}).await;
    for (path, kind) in [
        ("/", "text/html"),
        ("/?unknown=1", "text/html"),
        ("/page/page.js", "text/javascript"),
        ("/page/player.js", "text/javascript"),
        ("/page/style.css", "text/css"),
    ] {
        let found = get(server.http, path).await;
        assert_eq!(found.status, 200, "{path}");
        assert!(found.header("content-type").unwrap().starts_with(kind), "{path}");
        assert!(found.header("content-security-policy").unwrap().contains("default-src 'none'"));
        assert!(!found.text().contains("http://") && !found.text().contains("https://"), "{path}");
    }
    assert_eq!(get(server.http, "/page/../Cargo.toml").await.status, 404);
    assert_eq!(get(server.http, "/page/Cargo.toml").await.status, 404);
    assert_eq!(get(server.http, "/?text=a").await.status, 401);
}
