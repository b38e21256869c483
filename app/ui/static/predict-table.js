// Prediction of a whole table: preview, batches with progress, and the results as a file. The table is never held whole.
import { CsvFile, cells } from "/static/csv.js";

const PREVIEW_ROWS = 10;
const FIRST_ROWS = 16;
const MOST_ROWS = 8192;
const MOST_GROWTH = 16;
const QUICK_MS = 500;
const SLOW_MS = 2000;
const IN_FLIGHT = 3;
const WORDS = { BOOL: "true or false", BYTES: "text", ANY: "any value" };

const section = document.getElementById("table");
const form = section?.querySelector("form");
const part = (name) => document.getElementById(`table-${name}`);
let table = null; // the file that is chosen, opened
let chosen = null;
let stop = null; // an AbortController while rows are sent

function typeOf(input) {
  if (!input) return "";
  if (input.choices?.length) return `one of ${input.choices.length}`;
  return WORDS[input.datatype] ?? (/INT/.test(input.datatype) ? "whole number" : "number");
}

/** Return the model's input for each column: by name, or by position where the model knows no names. */
function inputsOf(names) {
  const inputs = JSON.parse(form.dataset.table);
  const byName = new Map(inputs.map((input) => [input.name, input]));
  const known = names.filter((name) => byName.has(name));
  const own = names[0] === "" ? names.slice(1) : names;
  if (!known.length && !form.dataset.named && own.length === inputs.length) {
    return { of: names.map((_, at) => inputs[at - (names.length - own.length)]), missing: [] };
  }
  return { of: names.map((name) => byName.get(name)), missing: inputs.filter((input) => !names.includes(input.name)) };
}

function row(tag, texts) {
  const line = document.createElement("tr");
  for (const text of texts) {
    const cell = document.createElement(tag);
    if (tag === "th") cell.scope = "col";
    cell.textContent = text;
    line.append(cell);
  }
  return line;
}

function showRows(names, rows, caption) {
  const shown = part("rows");
  const inputs = inputsOf(names);
  const head = row("th", names);
  [...head.cells].forEach((cell, at) => {
    const type = document.createElement("div");
    type.className = "muted small";
    type.textContent = typeOf(inputs.of[at]);
    cell.append(type);
  });
  shown.caption.textContent = caption;
  shown.tHead.replaceChildren(head);
  shown.tBodies[0].replaceChildren(...rows.map((each) => row("td", each)));
  return inputs;
}

function refuse(text) {
  part("wrong").textContent = text;
  part("wrong").hidden = !text;
  part("file").setAttribute("aria-invalid", String(Boolean(text)));
}

/** Show the first rows of a file and the types of its columns. */
async function preview(file) {
  chosen = file;
  refuse("");
  part("run").hidden = true;
  try {
    if (isParquet(file)) {
      announceWhole();
      return;
    }
    part("rows").hidden = false;
    table = await new CsvFile(file).open();
    const names = cells(table.names, table.delimiter);
    const rows = await table.first(PREVIEW_ROWS);
    const { missing } = showRows(names, rows, `${file.name}, its first rows`);
    part("said").textContent = missing.length ? `Not in the file: ${missing.map((input) => input.name).join(", ")}.` : "";
  } catch (error) {
    table = null;
    refuse(error.message);
    return;
  }
  offer();
}

function offer() {
  part("send").hidden = false;
  for (const name of ["download", "progress", "cancel"]) part(name).hidden = true;
  part("run").hidden = false;
}

const isParquet = (file) => /\.parquet$/i.test(file.name);

/** A Parquet file is not read here: its rows are shown once they are back as CSV. */
function announceWhole() {
  table = null;
  part("rows").hidden = true;
  part("said").textContent = `${chosen.name} is sent whole; its rows come back as CSV.`;
  offer();
}

/** Send a Parquet file as one request. */
async function runWhole() {
  stop = new AbortController();
  let failure = null;
  let text = "";
  let rows = [];
  let errors = [];
  busy(true);
  part("progress").removeAttribute("value");
  try {
    text = await send({ text: chosen, type: "application/vnd.apache.parquet", lines: [] }, stop.signal);
    table = { delimiter: "," };
    errors = errorsOf(text);
    rows = rowsOf(text).slice(1);
    part("rows").hidden = false;
    showResults(text);
  } catch (error) {
    failure = stop.signal.aborted ? "Cancelled." : error.message;
  }
  busy(false);
  finish([text], rows.length, errors.length, failure);
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Send one batch; returns its answer's text. Waits while a rate limit asks to. Throws an Error that names the line. */
async function send(batch, signal) {
  for (;;) {
    const began = performance.now();
    const headers = { "Content-Type": batch.type ?? "text/csv", Accept: "text/csv" };
    const answer = await fetch(form.action, { method: "POST", headers, body: batch.text, signal });
    batch.ms = performance.now() - began;
    if (answer.ok) return answer.text();
    if (answer.status === 429) {
      await pause(1000 * Number(answer.headers.get("Retry-After") ?? 1));
      signal.throwIfAborted();
      continue;
    }
    const problem = await answer.json().catch(() => ({ detail: `The server answered ${answer.status}.` }));
    const line = batch.lines[problem.row];
    const detail = line === undefined ? problem.detail : problem.detail.replace(`Row ${problem.row}`, `Line ${line}`);
    const where = problem.code === "prediction_failed" ? `Lines ${batch.lines[0]} to ${batch.lines.at(-1)}: ` : "";
    throw new Error(`${where}${detail} ${problem.hint ?? ""}`.trim());
  }
}

/** Send the table, a few batches ahead of the answers, and keep the results in order. */
async function run() {
  stop = new AbortController();
  const parts = [];
  const sent = [];
  let count = FIRST_ROWS;
  let done = 0;
  let failed = 0;
  let header = "";
  let failure = null;
  busy(true);
  try {
    for (;;) {
      while (sent.length < IN_FLIGHT) {
        const batch = await table.batch(count);
        if (!batch) break;
        batch.answer = send(batch, stop.signal);
        batch.answer.catch(() => {}); // it is awaited below, in its turn
        sent.push(batch);
      }
      if (!sent.length) break;
      const batch = sent.shift();
      const text = await batch.answer;
      const errors = errorsOf(text);
      if (!done && errors.length === batch.rows) throw new Error(`None of the first ${batch.rows} rows has a result. ${errors[0]}`);
      failed += errors.length;
      if (!header) {
        header = showResults(text);
        parts.push(new Blob([header]));
      }
      if (!text.startsWith(header)) throw new Error(`The results have other columns from line ${batch.lines[0]} on.`);
      parts.push(new Blob([text.slice(header.length)]));
      done += batch.rows;
      if (batch.ms < QUICK_MS && batch.rows >= count) {
        count = Math.min(Math.floor(batch.rows * Math.min(MOST_GROWTH, QUICK_MS / Math.max(batch.ms, 1))), MOST_ROWS);
      }
      if (batch.ms > SLOW_MS) count = Math.max(1, Math.floor(count / 2));
      part("progress").value = batch.read / table.size;
      part("said").textContent = `${done.toLocaleString("en")} rows`;
    }
    if (!done) throw new Error("The file has no rows behind its line of names.");
  } catch (error) {
    failure = stop.signal.aborted ? "Cancelled." : error.message;
    stop.abort();
  }
  busy(false);
  finish(parts, done, failed, failure);
}

/** Return what the last column of an answer, that of errors, says of the rows that have no result. */
const errorsOf = (text) => rowsOf(text).slice(1).map((each) => cells(each, table.delimiter).at(-1)).filter(Boolean);

function rowsOf(text) {
  const results = new CsvFile(new Blob([]));
  results.delimiter = table.delimiter;
  results.cut(`${text}\n`);
  return results.rows;
}

/** Return a number with many digits with four that count, any other text as it is. */
function rounded(text) {
  return /^-?[0-9]*\.[0-9]{5,}(e[-+]?[0-9]+)?$/.test(text) ? String(Number(Number(text).toPrecision(4))) : text;
}

/** Show the first rows of the results; returns their first line as it is written. */
function showResults(text) {
  const all = rowsOf(text);
  const [names, ...rows] = all.slice(0, PREVIEW_ROWS + 1).map((each) => cells(each, table.delimiter));
  const own = cells(table.names, table.delimiter).length;
  const short = rows.map((each) => each.map((value, at) => (at < own ? value : rounded(value))));
  showRows(names, short, `${chosen.name}, its first results; the file has all digits`);
  return all[0];
}

function busy(isBusy) {
  part("send").hidden = true;
  part("progress").hidden = part("cancel").hidden = !isBusy;
  part("file").disabled = isBusy;
  if (isBusy) part("cancel").focus();
}

function finish(parts, done, failed, failure) {
  const link = part("download");
  if (done) {
    URL.revokeObjectURL(link.href);
    link.href = URL.createObjectURL(new Blob(parts, { type: "text/csv" }));
    link.download = chosen.name.replace(/(\.[^.]*)?$/, (suffix) => `-predictions${!suffix || isParquet(chosen) ? ".csv" : suffix}`);
    link.textContent = failure ? `Download the first ${done.toLocaleString("en")} results` : "Download the results";
  }
  link.hidden = !done;
  refuse(failure ?? "");
  const bad = failed ? ` ${failed.toLocaleString("en")} of them have an error instead, in the last column.` : "";
  part("said").textContent = done ? `${done.toLocaleString("en")} rows have results.${bad}` : "";
  if (done) link.focus();
  else part("file").focus();
  table = null; // it is read to its end
  form.reset();
}

const isTable = (file) => /\.(csv|tsv|parquet)$/i.test(file.name) || file.type === "text/csv";

if (form) {
  form.addEventListener("submit", (event) => event.preventDefault());
  part("file").addEventListener("change", (event) => event.target.files[0] && preview(event.target.files[0]));
  part("send").addEventListener("click", () => (isParquet(chosen) ? runWhole() : run()));
  part("cancel").addEventListener("click", () => stop.abort());
  addEventListener("dragover", (event) => {
    event.preventDefault(); // otherwise the browser would leave the page and open the file
    form.classList.toggle("over", event.dataTransfer.types.includes("Files"));
  });
  addEventListener("dragleave", () => form.classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    form.classList.remove("over");
    const file = [...event.dataTransfer.files].find(isTable);
    if (file && !part("file").disabled) preview(file);
  });
}
