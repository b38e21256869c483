// Rows of CSV as they are written, read from a file piece by piece.

const DELIMITERS = [",", ";", "\t"];
const ROW_CHARACTERS_MAX = 2 ** 22;
const BATCH_CHARACTERS = 2 ** 20;

/** Rows of a file. `names` is the first row as it is written, `line` the line where the next row begins. */
export class CsvFile {
  constructor(file) {
    this.size = file.size;
    this.line = 1;
    this.read = 0;
    this.delimiter = ",";
    this.names = "";
    this.rows = [];
    this.lines = [];
    this.rest = "";
    this.isRead = false;
    this.reader = file.stream().getReader();
    this.decoder = new TextDecoder("utf-8", { fatal: true });
  }

  /** Read the first row and decide the delimiter. */
  async open() {
    await this.fill(1);
    if (!this.rows.length) throw new Error("The file is empty. Its first line must have the names of the columns.");
    this.names = this.rows.shift();
    this.lines.shift();
    this.delimiter = DELIMITERS.reduce((best, each) => (cells(this.names, each).length > cells(this.names, best).length ? each : best));
    if (!/[\r\n]$/.test(this.names)) this.names += "\n";
    return this;
  }

  /** Return the first rows, which the next batch begins with all the same. */
  async first(count) {
    await this.fill(count);
    return this.rows.slice(0, count).map((row) => cells(row, this.delimiter));
  }

  /** Return the next rows as {text, rows, lines, read}, at most `count` and about BATCH_CHARACTERS; null at the end. */
  async batch(count) {
    await this.fill(count);
    let taken = 0;
    for (let size = 0; taken < Math.min(count, this.rows.length) && size < BATCH_CHARACTERS; taken += 1) {
      size += this.rows[taken].length;
    }
    if (!taken) return null;
    const rows = this.rows.splice(0, taken);
    return { text: this.names + rows.join(""), rows: taken, lines: this.lines.splice(0, taken), read: this.read };
  }

  async fill(count) {
    while (this.rows.length < count && !this.isRead) {
      const { value, done } = await this.reader.read();
      this.isRead = done;
      this.read += value?.length ?? 0;
      try {
        this.cut(this.rest + (done ? this.decoder.decode() : this.decoder.decode(value, { stream: true })));
      } catch (error) {
        if (error instanceof TypeError) throw new Error("The file is not UTF-8 text. Save it as CSV UTF-8.");
        throw error;
      }
    }
  }

  /** Cut the text into rows; what may be incomplete waits for more. A quotation mark opens only at a cell's beginning. */
  cut(text) {
    let start = 0;
    let opens = true;
    let isQuoted = false;
    const end = this.isRead ? text.length : text.length - 1; // the last character may be half of "" or of a line end
    for (let at = 0; at < end; at += 1) {
      const character = text[at];
      if (isQuoted) {
        if (character !== '"') continue;
        if (text[at + 1] === '"') at += 1;
        else isQuoted = false;
      } else if (character === '"' && opens) {
        isQuoted = true;
        opens = false;
      } else if (character === "\n" || character === "\r") {
        if (character === "\r" && text[at + 1] === "\n") at += 1;
        this.keep(text.slice(start, at + 1));
        start = at + 1;
        opens = true;
      } else {
        opens = character === this.delimiter;
      }
    }
    this.rest = text.slice(start);
    if (this.rest.length > ROW_CHARACTERS_MAX) {
      throw new Error(`The row at line ${this.line} is too long. Look there for a quotation mark that is never closed.`);
    }
    if (this.isRead && this.rest) this.keep(`${this.rest}\n`);
  }

  keep(row) {
    if (/[^\r\n]/.test(row)) {
      this.rows.push(row);
      this.lines.push(this.line);
    }
    this.line += row.match(/\r\n|\n|\r/g)?.length ?? 0;
  }
}

/** Split one row into its cells. */
export function cells(row, delimiter) {
  const found = [];
  let cell = "";
  let isQuoted = false;
  let wasQuoted = false;
  for (let at = 0; at < row.length; at += 1) {
    const character = row[at];
    if (isQuoted && character === '"' && row[at + 1] === '"') {
      cell += '"';
      at += 1;
    } else if (character === '"' && (isQuoted || (!cell && !wasQuoted))) {
      isQuoted = !isQuoted;
      wasQuoted = true;
    } else if (!isQuoted && character === delimiter) {
      found.push(cell);
      cell = "";
      wasQuoted = false;
    } else if (isQuoted || !/[\r\n]/.test(character)) {
      cell += character;
    }
  }
  return [...found, cell];
}
