// Asks for speech, plays it as it comes, and shows what is heard.

const $ = (id) => document.getElementById(id);

/** Sample rates that the server makes; of other voices it is asked for 24,000. */
const RATES = [8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000];

let voices = {};
/** What is being spoken, if anything. */
let speech = null;

function say(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("wrong", wrong);
}

function headers() {
  const key = $("key").value.trim();
  return { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) };
}

async function failure(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `the server answered ${response.status}`;
  }
}

async function loadVoices() {
  const response = await fetch("/voices", { headers: headers() });
  if (response.status === 401) {
    $("key-row").hidden = false;
    say("This server asks for a key.");
    $("key").focus();
    return;
  }
  if (!response.ok) return say(await failure(response), true);
  voices = await response.json();
  const names = Object.keys(voices);
  const info = await fetch("/info", { headers: headers() });
  const preferred = $("voice").value || (info.ok && (await info.json()).default_voice);
  $("voice").replaceChildren(...names.map((name) => new Option(name, name, false, name === preferred)));
  showSpeakers();
  say(names.length ? "" : "No voice is open yet. Reload this page in a moment.");
}

function showSpeakers() {
  const json = voices[$("voice").value] ?? {};
  const named = Object.entries(json.speaker_id_map ?? {}).sort(([, a], [, b]) => a - b);
  const count = json.num_speakers ?? 1;
  const options = named.length
    ? named.map(([name]) => new Option(name, name))
    : Array.from({ length: count > 1 ? count : 0 }, (_, id) => new Option(id, id));
  $("speaker").replaceChildren(...options);
  $("speaker-row").hidden = options.length < 2;
}

/** One text being spoken. */
class Speech {
  constructor(rate) {
    this.rate = rate;
    this.abort = new AbortController();
    this.chunks = [];
    this.samples = 0;
    this.played = 0;
    /** {text, begins, ends} in seconds of the audio. */
    this.words = [];
    this.peaks = [];
  }

  async start() {
    this.context = new AudioContext({ sampleRate: this.rate });
    await this.context.audioWorklet.addModule("/page/player.js");
    this.node = new AudioWorkletNode(this.context, "player", { numberOfInputs: 0, outputChannelCount: [1] });
    this.node.connect(this.context.destination);
    this.heard = new Promise((resolve) => {
      this.node.port.onmessage = ({ data }) => {
        this.played = data.played;
        $("gaps").textContent = data.gaps;
        if (data.over) resolve();
      };
    });
  }

  /** Takes the server's answer, a line of JSON for each piece of audio. */
  async receive(response, asked) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      const lines = (rest + (value ?? "")).split("\n");
      rest = lines.pop();
      for (const line of lines.filter(Boolean)) this.take(JSON.parse(line), asked);
      if (done) break;
    }
    this.node.port.postMessage("end");
  }

  take(piece, asked) {
    if (piece.error) throw new Error(piece.error.message);
    const begins = this.samples / this.rate;
    const bytes = Uint8Array.from(atob(piece.audio_base64), (c) => c.charCodeAt(0));
    const whole = new Int16Array(bytes.buffer, 0, bytes.length >> 1);
    if (piece.alignment) this.addWords(piece.alignment, begins);
    if (!whole.length) return;
    if (!this.samples) $("first").textContent = `${Math.round(performance.now() - asked)} ms`;
    this.chunks.push(whole);
    this.samples += whole.length;
    this.addPeaks(whole);
    this.node.port.postMessage(Float32Array.from(whole, (v) => v / 32768));
    const seconds = this.samples / this.rate;
    $("length").textContent = `${seconds.toFixed(1)} s`;
    $("factor").textContent = (seconds / ((performance.now() - asked) / 1000)).toFixed(1);
  }

  addWords({ characters, character_start_times_seconds: starts, character_end_times_seconds: ends }, offset) {
    let word = null;
    characters.forEach((character, i) => {
      if (/\s/.test(character)) {
        word = null;
      } else if (word) {
        word.text += character;
        word.ends = offset + ends[i];
      } else {
        word = { text: character, begins: offset + starts[i], ends: offset + ends[i] };
        this.words.push(word);
        word.element = document.createElement("span");
        $("words").append(word.element, " ");
      }
      if (word) word.element.textContent = word.text;
    });
  }

  /** The loudest sample of each 10 ms. */
  addPeaks(samples) {
    const step = this.rate / 100;
    for (let i = 0; i < samples.length; i += step) {
      let most = 0;
      for (const v of samples.subarray(i, i + step)) most = Math.max(most, Math.abs(v));
      this.peaks.push(most / 32768);
    }
  }

  draw() {
    const canvas = $("wave");
    const scale = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = width * scale;
    canvas.height = height * scale;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const style = getComputedStyle(document.body);
    const seconds = Math.max(2, this.samples / this.rate);
    const now = this.played / this.rate;
    const x = (time) => (time / seconds) * width;
    pen.font = "12px system-ui, sans-serif";
    this.words.forEach((word) => {
      const heard = word.begins <= now && now < word.ends;
      word.element.classList.toggle("now", heard);
      pen.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--mark");
      if (heard) pen.fillRect(x(word.begins), 0, x(word.ends) - x(word.begins), height);
      pen.fillStyle = style.color;
      pen.globalAlpha = 0.3;
      pen.fillRect(x(word.begins), 0, 1, height);
      pen.globalAlpha = 1;
      if (x(word.ends) - x(word.begins) > 24) pen.fillText(word.text, x(word.begins) + 3, height - 4, x(word.ends) - x(word.begins) - 4);
    });
    pen.fillStyle = style.color;
    this.peaks.forEach((peak, i) => {
      const tall = Math.max(1, peak * (height - 30));
      pen.fillRect(x(i / 100), (height - 16 - tall) / 2, Math.max(0.5, x(0.01) * 0.7), tall);
    });
    pen.fillRect(x(now), 0, 2, height);
  }

  wav() {
    const header = new DataView(new ArrayBuffer(44));
    const text = (at, value) => [...value].forEach((c, i) => header.setUint8(at + i, c.charCodeAt(0)));
    const bytes = this.samples * 2;
    text(0, "RIFF"); header.setUint32(4, 36 + bytes, true); text(8, "WAVEfmt ");
    header.setUint32(16, 16, true); header.setUint16(20, 1, true); header.setUint16(22, 1, true);
    header.setUint32(24, this.rate, true); header.setUint32(28, this.rate * 2, true);
    header.setUint16(32, 2, true); header.setUint16(34, 16, true);
    text(36, "data"); header.setUint32(40, bytes, true);
    return new Blob([header, ...this.chunks], { type: "audio/wav" });
  }

  stop() {
    this.abort.abort();
    this.context?.close();
  }
}

function clear() {
  for (const id of ["first", "length", "factor", "gaps"]) $(id).textContent = "–";
  $("words").replaceChildren();
  URL.revokeObjectURL($("save").href);
  $("save").hidden = true;
  $("save").removeAttribute("href");
}

function redraw() {
  if (!speech) return;
  speech.draw();
  requestAnimationFrame(redraw);
}

async function speak() {
  stop();
  clear();
  const voice = $("voice").value;
  const own = voices[voice]?.audio?.sample_rate;
  const current = (speech = new Speech(RATES.includes(own) ? own : 24000));
  $("stop").disabled = false;
  say("Speaking …");
  try {
    await current.start();
    redraw();
    const body = { text: $("text").value, voice_settings: { speed: Number($("speed").value) || 1 } };
    if (!$("speaker-row").hidden) body.speaker = $("speaker").value;
    const asked = performance.now();
    const response = await fetch(
      `/v1/text-to-speech/${encodeURIComponent(voice)}/stream/with-timestamps?output_format=pcm_${current.rate}`,
      { method: "POST", headers: headers(), body: JSON.stringify(body), signal: current.abort.signal },
    );
    if (!response.ok) throw new Error(await failure(response));
    await current.receive(response, asked);
    $("save").href = URL.createObjectURL(current.wav());
    $("save").hidden = false;
    await current.heard;
    // What the player has given is yet to come out of the loudspeaker.
    const latency = current.context.baseLatency + (current.context.outputLatency || 0);
    await new Promise((resolve) => setTimeout(resolve, latency * 1000));
    if (speech === current) say("Done.");
  } catch (error) {
    if (error.name !== "AbortError" && speech === current) say(error.message, true);
  } finally {
    if (speech === current) {
      current.draw();
      stop();
    }
  }
}

function stop() {
  if (!speech) return;
  speech.stop();
  speech = null;
  $("stop").disabled = true;
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  speak();
});
$("stop").addEventListener("click", () => {
  stop();
  say("Stopped.");
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && speech) $("stop").click();
  if (event.key === "Enter" && event.ctrlKey) $("form").requestSubmit();
});
$("voice").addEventListener("change", showSpeakers);
$("key").addEventListener("change", loadVoices);
loadVoices().catch((error) => say(error.message, true));
