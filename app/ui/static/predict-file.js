// An image or a sound on the predict page: dropped, pasted or chosen, shown, and sent at once.
// The page is exchanged with each answer, so everything is listened for on the document.

const area = (event) => event.target.closest?.("[data-file-drop]");
const kind = () => document.querySelector("[data-file-drop]")?.dataset.fileDrop;
const field = () => document.getElementById(kind());

/** Show the chosen file, unless the model could not read it. The server shows it too, but not a large one. */
function show() {
  const preview = document.getElementById("preview");
  const file = field()?.files[0];
  if (!preview || !file || document.getElementById("file-wrong")) return;
  const reader = new FileReader();
  reader.onload = () => {
    preview.src = reader.result;
    preview.hidden = false;
  };
  reader.readAsDataURL(file);
}

function send() {
  document.getElementById(`tab-${kind()}`).checked = true;
  document.getElementById("file-wrong")?.remove();
  show();
  const button = document.getElementById("send");
  if (!button.disabled) button.form.requestSubmit(button);
}

/** Put the first file of the kind into the field; return whether there was one. */
function take(files) {
  const file = [...files].find((each) => each.type.startsWith(`${kind()}/`));
  if (!file || !field()) return false;
  const chosen = new DataTransfer();
  chosen.items.add(file);
  field().files = chosen.files;
  send();
  return true;
}

document.addEventListener("change", (event) => {
  if (kind() && event.target === field() && field().files.length) send();
});
document.addEventListener("dragover", (event) => {
  if (!area(event)) return;
  event.preventDefault();
  area(event).classList.add("over");
});
document.addEventListener("dragleave", (event) => area(event)?.classList.remove("over"));
document.addEventListener("drop", (event) => {
  const place = area(event);
  if (!place) return;
  event.preventDefault();
  place.classList.remove("over");
  take(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData && take(event.clipboardData.files)) event.preventDefault();
});
document.addEventListener("htmx:after:swap", show);
