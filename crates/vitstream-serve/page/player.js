// Plays what it is given, chunk after chunk, and says how far it is.

class Player extends AudioWorkletProcessor {
  constructor() {
    super();
    this.chunks = [];
    this.at = 0;
    this.played = 0;
    this.gaps = 0;
    this.begun = false;
    this.complete = false;
    this.dry = false;
    this.port.onmessage = ({ data }) => {
      if (data === "end") this.complete = true;
      else this.chunks.push(data);
    };
  }

  process(_, [[out]]) {
    let filled = 0;
    while (filled < out.length && this.chunks.length) {
      const chunk = this.chunks[0];
      const part = chunk.subarray(this.at, this.at + out.length - filled);
      out.set(part, filled);
      filled += part.length;
      this.at += part.length;
      if (this.at === chunk.length) {
        this.chunks.shift();
        this.at = 0;
      }
    }
    this.played += filled;
    this.begun ||= filled > 0;
    const dry = this.begun && !this.complete && filled < out.length;
    if (dry && !this.dry) this.gaps += 1;
    this.dry = dry;
    const over = this.complete && !this.chunks.length;
    this.port.postMessage({ played: this.played, gaps: this.gaps, over });
    return !over;
  }
}

registerProcessor("player", Player);
