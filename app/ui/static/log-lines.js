// Levels of log lines, and search within a line. The patterns come from app/ui/log_lines.py.

export const LEVELS = ["debug", "info", "warning", "error"];

/** Classifier of successive log lines. An indented or empty line has the level of the line before it. */
export class Levels {
  #patterns;
  #last = "info";
  #inTraceback = false;

  constructor(patterns) {
    this.#patterns = Object.fromEntries(
      Object.entries(patterns).map(([name, pattern]) => [name, new RegExp(pattern, name === "colour" ? "g" : "")]),
    );
  }

  /** Split a line into its time, "" for none, and its text. */
  split(line) {
    const [stamp, time] = this.#patterns.timestamp.exec(line) ?? ["", ""];
    return [time, line.slice(stamp.length)];
  }

  /** Remove terminal colour codes. */
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

/** Split the text at each match; every second piece is a match. wanted: in lower case, not empty. */
export function pieces(text, wanted) {
  const small = text.toLowerCase();
  if (small.length !== text.length) return [text]; // some letters become two in lower case, so positions would not match
  const found = [];
  let start = 0;
  for (let at = small.indexOf(wanted); at >= 0; at = small.indexOf(wanted, start)) {
    found.push(text.slice(start, at), text.slice(at, at + wanted.length));
    start = at + wanted.length;
  }
  return [...found, text.slice(start)];
}
