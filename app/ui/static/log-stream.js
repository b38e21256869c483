// Event stream of a log. It resumes after a lost connection, a hidden tab, a silent network and a server restart.

const SILENCE_MS = 45_000; // the server sends a keep-alive every 15 s
const LOOK_MS = 5_000;
const AGAIN_MS = 3_000;

export class LogStream {
  #address;
  #on;
  #source = null;
  #lastId = "";
  #heardAt = 0;
  #again = 0;

  /**
   * address: (id of the last line, or "") → URL from which to continue.
   * on: {line(text), gap(text), state(text, kind)}; kind: "live", "waiting" or "ended".
   */
  constructor(address, on) {
    this.#address = address;
    this.#on = on;
    document.addEventListener("visibilitychange", () => this.#follow());
    addEventListener("pagehide", () => this.#close());
    addEventListener("pageshow", () => this.#follow());
    setInterval(() => this.#look(), LOOK_MS);
    this.#follow();
  }

  /** Connect only while the tab is visible: over HTTP/1.1 a browser has six connections for all its tabs. */
  #follow() {
    if (document.visibilityState !== "visible") this.#close();
    else if (!this.#source) this.#open();
  }

  #open() {
    this.#close();
    const source = (this.#source = new EventSource(this.#address(this.#lastId)));
    this.#heardAt = performance.now();
    const hear = (name, take) =>
      source.addEventListener(name, (event) => {
        this.#heardAt = performance.now();
        this.#lastId = event.lastEventId || this.#lastId;
        take?.(event.data);
      });
    hear("open");
    hear("alive", () => this.#on.state("Live", "live"));
    hear("place");
    hear("message", (text) => this.#on.line(text));
    hear("gap", (text) => this.#on.gap(text));
    hear("problem", (text) => this.#on.state(text, "waiting"));
    hear("end", (status) => this.#ended(status));
    source.addEventListener("error", () => this.#failed(source));
  }

  #close() {
    clearTimeout(this.#again);
    this.#source?.close();
    this.#source = null;
  }

  #ended(status) {
    if (status === "closing") this.#on.state("The server is stopping. Waiting for it …", "waiting");
    else this.#on.state(status, "ended");
    this.#close();
    this.#again = setTimeout(() => this.#follow(), AGAIN_MS);
  }

  #failed(source) {
    this.#on.state("The connection was lost. Reconnecting …", "waiting");
    if (source.readyState !== EventSource.CLOSED || source !== this.#source) return; // the browser reconnects by itself
    this.#close();
    this.#again = setTimeout(() => this.#follow(), AGAIN_MS);
  }

  #look() {
    if (this.#source && performance.now() - this.#heardAt > SILENCE_MS) {
      this.#on.state("No data for a while. Reconnecting …", "waiting");
      this.#open();
    }
  }
}
