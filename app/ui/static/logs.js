// Log page: filter, level, pause, wrap, download, and fast scrolling through ten thousand lines.

import { LEVELS, Levels, pieces } from "./log-lines.js";
import { LogStream } from "./log-stream.js";

const FIRST_LINES = 10_000;
const MAX_LINES = 20_000;
const LINES_A_BLOCK = 250; // the same as in page.css; full blocks out of sight are neither laid out nor painted
const LINES_A_FRAME = 2_000;
const AT_THE_END_PX = 24;
const MOVING_MS = 500;

const $ = (id) => document.getElementById(id);
const [root, view, text, level, pause, wrap, newest] = [
  "logs", "log", "log-text", "log-level", "log-pause", "log-wrap", "log-newest",
].map($);
const number = new Intl.NumberFormat("en");

const levels = new Levels(JSON.parse(root.dataset.patterns));
let lines = []; // {time, text, small, level, number}
let received = 0;
let dropped = 0;
let shown = 0;
let drawn = 0; // how many of `lines` were processed for the view
let frame = 0;
let isPaused = false;
let waiting = []; // received while paused
let follows = true;
let unread = 0; // lines below the visible part
let top = 0;
let movedAt = 0; // time of the reader's last input that may scroll
let isFirst = true; // the lines rendered by the server are still in the view

function take(line) {
  if (isPaused) waiting.push(line);
  else lines.push(line);
  if (waiting.length > MAX_LINES) dropped += waiting.splice(0, waiting.length - MAX_LINES).length;
  draw();
}

function lineOf(said) {
  const [time, text] = levels.split(said);
  const plain = levels.plain(text);
  return { time, text: plain, small: plain.toLowerCase(), level: levels.of(plain), number: received++ };
}

function follow(whether) {
  follows = whether;
  view.classList.toggle("follows", whether);
}

const isAtTheEnd = () => view.scrollHeight - view.scrollTop - view.clientHeight < AT_THE_END_PX;

/** Scroll to the end, again in the next frames: the heights of blocks that came into sight are known only then. */
function goToTheEnd(tries = 3) {
  view.scrollTop = view.scrollHeight;
  if (tries) requestAnimationFrame(() => follows && !isAtTheEnd() && goToTheEnd(tries - 1));
}

const isAsked = (line) =>
  line.level === "gap" ||
  ((level.value === "all" || LEVELS.indexOf(line.level) >= LEVELS.indexOf(level.value)) &&
    line.small.includes(text.value.toLowerCase()));

/** Draw new lines in the next frame, and in as many further frames as necessary. */
function draw() {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    drawSome();
  });
}

function drawSome() {
  if (isFirst && !lines.length) return tell();
  if (isFirst) view.replaceChildren();
  isFirst = false;
  forgetOld();
  const some = lines.slice(drawn, drawn + LINES_A_FRAME);
  drawn += some.length;
  const asked = some.filter(isAsked);
  for (const line of asked) blockFor(line).append(elementOf(line));
  shown += asked.length;
  if (follows) goToTheEnd();
  else unread += asked.length;
  tell();
  if (drawn < lines.length) draw();
}

function forgetOld() {
  const excess = lines.length - MAX_LINES;
  if (excess <= 0) return;
  for (const line of lines.splice(0, excess)) if (line.isShown) shown -= 1;
  dropped += excess;
  drawn = Math.max(0, drawn - excess);
  const oldest = lines[0].number;
  while (view.firstElementChild && view.firstElementChild.newest < oldest) view.firstElementChild.remove();
}

function blockFor(line) {
  let block = view.lastElementChild;
  if (!block || block.childElementCount >= LINES_A_BLOCK) {
    block?.classList.add("full");
    block = document.createElement("div");
    block.className = "block";
    view.append(block);
  }
  block.newest = line.number;
  return block;
}

function elementOf(line) {
  const element = document.createElement("div");
  element.className = "line";
  element.dataset.level = line.level;
  line.isShown = true;
  if (line.time) element.append(timeOf(line.time), " ");
  const wanted = text.value.toLowerCase();
  if (!wanted) {
    element.append(line.text);
    return element;
  }
  pieces(line.text, wanted).forEach((piece, index) => {
    if (index % 2) element.append(Object.assign(document.createElement("mark"), { textContent: piece }));
    else element.append(piece);
  });
  return element;
}

function timeOf(time) {
  const element = document.createElement("time");
  element.dateTime = `${time.slice(0, 23)}Z`;
  element.title = `${time.slice(0, 10)} ${time.slice(11, 23)} UTC`;
  element.textContent = time.slice(11, 19);
  return element;
}

function drawAnew() {
  if (isFirst && !lines.length) return;
  view.replaceChildren();
  for (const line of lines) line.isShown = false;
  shown = drawn = unread = 0;
  follow(true);
  draw();
}

function tell() {
  const count = number.format(shown) + (shown === 1 ? " line" : " lines");
  const of = shown === lines.length ? "" : ` of ${number.format(lines.length)}`;
  $("log-count").textContent = isFirst ? $("log-count").textContent : count + of;
  $("log-dropped").hidden = !dropped;
  $("log-dropped").textContent = `${number.format(dropped)} lines dropped: this page keeps the newest ${number.format(MAX_LINES)}.`;
  view.dataset.none = lines.length ? "No line of it matches." : root.dataset.none;
  pause.textContent = isPaused ? `Resume (${number.format(waiting.length)} waiting)` : "Pause";
  newest.hidden = follows;
  newest.textContent = unread ? `Newest (${number.format(unread)} more)` : "Newest";
}

// Input of the reader.

let typing = 0;
text.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(drawAnew, 120);
});
level.addEventListener("change", drawAnew);
$("log-tools").addEventListener("submit", (event) => {
  event.preventDefault();
  drawAnew();
});
pause.addEventListener("click", () => {
  isPaused = !isPaused;
  if (!isPaused) for (const line of waiting.splice(0)) lines.push(line);
  draw();
  tell();
});
wrap.addEventListener("click", () => {
  wrap.setAttribute("aria-pressed", view.classList.toggle("wraps"));
  if (follows) goToTheEnd();
});
$("log-download").addEventListener("click", (event) => {
  event.preventDefault();
  const asked = lines.filter(isAsked).map((line) => `${line.time ? `${line.time} ` : ""}${line.text}\n`);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(asked, { type: "text/plain" }));
  link.download = root.dataset.file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
});
// Detects scrolling by the reader: the view also moves when blocks turn out higher or lower than estimated.
for (const event of ["wheel", "touchmove", "keydown", "pointerdown"]) {
  view.addEventListener(event, () => (movedAt = performance.now()), { passive: true });
}
view.addEventListener("scroll", () => {
  if (isAtTheEnd()) {
    follow(true);
    unread = 0;
  } else if (view.scrollTop < top && performance.now() - movedAt < MOVING_MS) {
    movedAt = performance.now();
    follow(false);
  }
  top = view.scrollTop;
  tell();
});
newest.addEventListener("click", () => {
  follow(true);
  unread = 0;
  goToTheEnd();
  view.focus({ preventScroll: true });
  tell();
});

// Events of the server.

const ENDED = {
  stopped: "The model is stopped. New lines appear once it is started.",
  failed: "The model has failed. New lines appear once it is started again.",
  built: "The model has not been started yet.",
  deleted: "The model was deleted.",
};

function address(lastId) {
  const query = new URLSearchParams({ kind: root.dataset.kind, follow: "true", timestamps: "true" });
  if (lastId) query.set("after", lastId);
  else query.set("tail", FIRST_LINES);
  return `${root.dataset.url}?${query}`;
}

new LogStream(address, {
  line: (said) => take(lineOf(said)),
  gap: (said) => take({ text: said, small: "", level: "gap", number: received++ }),
  state(said, kind) {
    const state = $("log-state");
    const words = kind === "ended" ? (ENDED[said] ?? "No more lines for now.") : said;
    if (state.textContent !== words) state.textContent = words;
    state.dataset.kind = kind;
  },
});

follow(true);
tell();
