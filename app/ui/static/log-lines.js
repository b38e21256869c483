// How grave the lines of a log are, and where a text stands in them. The patterns come from app/ui/log_lines.py.

export const LEVELS = ["debug", "info", "warning", "error"];

/** Tells the level of one line after another: what is indented or empty belongs to what was said before it. */
export class Levels {
  #patterns;
  #last = "info";
  #inTraceback = false;

  constructor(patterns) {
    this.#patterns = Object.fromEntries(
      Object.entries(patterns).map(([name, pattern]) => [name, new RegExp(pattern, name === "colour" ? "g" : "")]),
    );
  }

  /** Without the colours of a terminal. */
  plain(text) {
    return text.replace(this.#patterns.colour, "");
  }

  of(text) {
    text = text.replace(this.#patterns.time, "");
    if (this.#patterns.traceback.test(text)) {
      this.#inTraceback = true;
      this.#last = "error";
    } else if (text && text[0] !== " " && text[0] !== "\t") {
      const found = ["error", "warning", "debug"].find((level) => this.#patterns[level].test(text)) ?? "info";
      this.#last = this.#inTraceback ? "error" : found;
      this.#inTraceback = false;
    }
    return this.#last;
  }
}

/** The text in pieces, every second of which is what was looked for. wanted: in small letters, not empty. */
export function pieces(text, wanted) {
  const small = text.toLowerCase();
  if (small.length !== text.length) return [text]; // some letters are two when they are small: no telling where
  const found = [];
  let start = 0;
  for (let at = small.indexOf(wanted); at >= 0; at = small.indexOf(wanted, start)) {
    found.push(text.slice(start, at), text.slice(at, at + wanted.length));
    start = at + wanted.length;
  }
  return [...found, text.slice(start)];
}
