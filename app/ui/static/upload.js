// Uploads with progress: a file is sent as soon as it is chosen or dropped, and the upload can be cancelled.
import { announce } from "/static/page.js";

const MB = 1e6;
const LOOK_MS = 1000;

function megabytes(bytes) {
  return (bytes / MB).toFixed(bytes < 10 * MB ? 1 : 0);
}

/** Send the form in a separate request, and show its progress. */
function send(form) {
  const file = form.elements.file.files[0];
  const limit = Number(form.elements.file.dataset.maxBytes);
  if (file.size > limit) {
    const detail = `The file is larger than ${Math.round(limit / 2 ** 20)} MiB.`;
    refuse(form, detail, "Raise PRISM_MAX_UPLOAD_MB, or save a smaller model.");
    return;
  }
  const request = new XMLHttpRequest();
  const requestId = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  let looking;
  const began = performance.now();
  const progress = form.querySelector("progress");
  const what = form.querySelector(".progress-what");
  const figures = form.querySelector(".progress-figures");
  const cancel = form.querySelector(".cancel");

  function done() {
    clearInterval(looking);
    form.classList.remove("busy");
    form.querySelector(".drop-progress").hidden = true;
  }
  form.classList.add("busy");
  form.querySelector(".drop-progress").hidden = false;
  what.textContent = `Uploading ${file.name}`;
  progress.value = 0;
  figures.textContent = "";
  cancel.focus();
  cancel.onclick = () => request.abort();

  request.upload.onprogress = (event) => {
    const seconds = (performance.now() - began) / 1000;
    progress.max = event.total;
    progress.value = event.loaded;
    const speed = seconds > 0.2 ? `, ${megabytes(event.loaded / seconds)} MB/s` : "";
    figures.textContent = `${megabytes(event.loaded)} of ${megabytes(event.total)} MB${speed}`;
  };
  request.upload.onload = () => {
    progress.removeAttribute("value"); // everything is sent; how long reading it takes is unknown
    what.textContent = `Reading ${file.name}`;
    looking = setInterval(() => tellPlace(requestId, what), LOOK_MS);
  };
  request.onabort = () => {
    done();
    form.reset();
    form.elements.file.focus();
    announce("The upload was cancelled; no part of it was kept.");
  };
  request.onerror = () => {
    done();
    refuse(form, "The upload did not reach the server completely.", "Check that the server is running, then try again.");
  };
  request.onload = () => {
    done();
    const login = request.getResponseHeader("HX-Redirect");
    if (login) location.assign(login);
    else show(form, request);
  };
  request.open("POST", form.action);
  request.setRequestHeader("HX-Request", "true");
  request.setRequestHeader("X-Request-ID", requestId);
  request.setRequestHeader("HX-Current-URL", location.href);
  request.send(new FormData(form));
}

/** Show this upload's place while other uploads are read first. */
async function tellPlace(requestId, what) {
  try {
    const answer = await fetch("/inspections");
    const { inspections } = await answer.json();
    const own = inspections.find((one) => one.request_id === requestId);
    if (own?.place) what.textContent = own.message;
    else if (own) what.textContent = `Reading ${own.filename}`;
  } catch {
    // The upload's own request reports what is wrong with the server.
  }
}

/** Replace the upload with the answer. On a page without an upload section, go to the page of the answer. */
function show(form, request) {
  const answer = new DOMParser().parseFromString(request.responseText, "text/html");
  const part = answer.getElementById("upload");
  const place = document.getElementById("upload");
  if (part && place) {
    place.replaceWith(part);
    window.htmx.process(part);
    const address = new URL(request.responseURL);
    if (request.status < 400) history.pushState({ upload: true }, "", address.pathname + address.search);
    (part.querySelector("[autofocus], h1") ?? part).focus();
  } else if (part && request.status < 400) {
    location.assign(request.responseURL);
  } else {
    const wrong = answer.querySelector(".wrong, .problem");
    for (const code of wrong?.querySelectorAll("code") ?? []) code.replaceWith(`\`${code.textContent}\``);
    const [detail, hint] = [...(wrong?.querySelectorAll("p:not(.small)") ?? [])].map((one) => one.textContent);
    refuse(form, detail ?? `The server answered ${request.status}.`, hint ?? "");
  }
}

/** Append text, with the parts between backquotes as <code>, as in the pages. */
function tell(element, text) {
  text.split("`").forEach((piece, index) => {
    const code = document.createElement("code");
    code.textContent = piece;
    element.append(index % 2 ? code : piece);
  });
}

/** Show what is wrong with the file next to its field. */
function refuse(form, detail, hint) {
  const input = form.elements.file;
  form.querySelector("#file-wrong")?.remove();
  const wrong = document.createElement("div");
  wrong.id = "file-wrong";
  wrong.className = "wrong";
  wrong.setAttribute("role", "alert");
  for (const [text, name] of [[detail, ""], [hint, "hint"]]) {
    if (!text) continue;
    const line = document.createElement("p");
    line.className = name;
    tell(line, text);
    wrong.append(line);
  }
  form.querySelector(".drop-words").append(wrong);
  input.setAttribute("aria-invalid", "true");
  input.setAttribute("aria-describedby", "file-hint file-wrong");
  form.reset();
  input.focus();
}

document.addEventListener("submit", (event) => {
  if (!event.target.matches("form[data-upload]")) return;
  event.preventDefault();
  send(event.target);
});
document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-upload]");
  // If the field for code files is open, the reader has more files to choose, so the upload must wait.
  if (event.target.name === "file" && event.target.files.length && !form?.querySelector("details[open]")) {
    form?.requestSubmit();
  }
});

// A file may be dropped anywhere on the page: without this, the browser would leave the page and open the file.
function zone() {
  return document.querySelector("form[data-upload]:not(.busy)");
}
let within = 0;
addEventListener("dragenter", (event) => {
  if (!event.dataTransfer?.types.includes("Files")) return;
  within += 1;
  zone()?.classList.add("over");
});
addEventListener("dragleave", () => {
  within = Math.max(0, within - 1);
  if (!within) zone()?.classList.remove("over");
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  within = 0;
  const form = zone();
  form?.classList.remove("over");
  if (!form || !event.dataTransfer.files.length) return;
  const files = new DataTransfer();
  files.items.add(event.dataTransfer.files[0]);
  form.elements.file.files = files.files;
  form.requestSubmit();
});

addEventListener("popstate", () => location.reload());
