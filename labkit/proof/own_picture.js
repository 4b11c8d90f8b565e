// The browser's half of own_picture.py: it brings a picture and a question, and shows what Python says.

const PAGE = `
<div class="lc-columns">
  <section class="lc-left" aria-label="Picture">
    <div class="lc-well lo-drop" tabindex="0" role="group" aria-label="Drop or paste a picture here, or choose one below">
      <p class="lo-hint">Drop a picture here, or paste one (Ctrl+V).</p>
      <figure class="lo-seen" hidden><div class="lo-frame"><img alt="Your picture, as the model sees it"><span class="lo-patches"></span></div></figure>
    </div>
    <div class="lc-row">
      <label>Choose a picture <input class="lo-file" type="file" accept="image/*"></label>
      <label class="lo-camera">Take one <input type="file" accept="image/*" capture="environment"></label>
    </div>
    <label class="lo-check"><input class="lo-grid" type="checkbox" checked> Show the patches</label>
    <p class="lc-help lo-words"></p><p class="lc-help lo-but"></p>
  </section>
  <form class="lc-right lc-ask" aria-label="Ask the model">
    <label>Model <select class="lo-model"></select></label>
    <label class="lo-check"><input class="lo-original" type="checkbox"> Ask the original, too</label>
    <label class="lc-wide">Question <input class="lc-words" type="text" maxlength="400" autocomplete="off" value="Describe the image."></label>
    <div class="lc-row"><button class="lc-go">Ask</button></div>
    <p class="lc-notice" role="status"></p>
  </form>
  <section class="lc-answer" aria-label="Answers"><p class="lc-asked"></p><div class="lo-answers" aria-live="polite"></div></section>
</div>`;
const PART_BYTES = 4 * 2 ** 20; // a message to the kernel may have 10 MiB

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function render({ model, el }) {
  const root = make("div", { class: "labkit-composer labkit-own", role: "group", "aria-label": "Ask about your own picture" });
  root.innerHTML = PAGE;
  const $ = (name) => root.querySelector(`.${name}`);
  const thinking = () => model.get("reply").status === "thinking";
  const tell = (words) => { $("lc-notice").textContent = words; };

  async function bring(file) {
    if (!file) return;
    tell(`Bringing ${file.name || "the picture"} …`);
    const bytes = await file.arrayBuffer();
    for (let at = 0; at === 0 || at < bytes.byteLength; at += PART_BYTES) {
      const part = new DataView(bytes, at, Math.min(PART_BYTES, bytes.byteLength - at));
      model.send({ do: "part", of: bytes.byteLength, first: at === 0 }, undefined, [part]);
    }
  }

  const bringFirst = (event, files) => {
    const file = [...files].find((each) => each.type.startsWith("image/")) ?? files[0];
    if (!file) return;
    event.preventDefault();
    event.stopPropagation();
    bring(file);
  };
  const drop = $("lo-drop");
  drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("lo-over"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("lo-over"));
  drop.addEventListener("drop", (event) => { drop.classList.remove("lo-over"); bringFirst(event, event.dataTransfer.files); });
  root.addEventListener("paste", (event) => bringFirst(event, event.clipboardData.files));
  for (const input of root.querySelectorAll('input[type="file"]')) input.addEventListener("change", () => { bring(input.files[0]); input.value = ""; });
  root.addEventListener("keydown", (event) => event.stopPropagation()); // else JupyterLab takes letters for notebook commands

  const set = (name, value) => { model.set(name, value); model.save_changes(); };
  $("lo-model").addEventListener("change", ({ target }) => set("model", target.value));
  $("lo-original").addEventListener("change", ({ target }) => set("original", target.checked));
  $("lo-grid").addEventListener("change", ({ target }) => { $("lo-patches").hidden = !target.checked; });
  $("lc-ask").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!thinking()) model.send({ do: "ask", question: $("lc-words").value });
  });

  function showModels() {
    $("lo-model").replaceChildren(...model.get("models").map((value) => make("option", { value }, value)));
    $("lo-model").value = model.get("model");
    $("lo-original").checked = model.get("original");
  }

  function showSeen() {
    const { url, rows, columns, words, but } = model.get("seen");
    $("lo-hint").hidden = Boolean(url);
    $("lo-seen").hidden = !url;
    if (!url) return;
    root.querySelector("img").src = url;
    root.style.cssText = `--rows: ${rows}; --columns: ${columns}`;
    $("lo-words").textContent = words;
    $("lo-but").textContent = but;
  }

  function showReply() {
    const { status, question, notice, answers } = model.get("reply");
    root.dataset.status = status;
    $("lc-go").setAttribute("aria-disabled", String(thinking()));
    $("lc-go").textContent = thinking() ? "Thinking…" : "Ask";
    tell(notice);
    $("lc-asked").textContent = question ? `“${question}”` : "The answers will stream in here.";
    const fact = ([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value));
    $("lo-answers").replaceChildren(...Object.entries(answers).map(([engine, { kind, text, facts }]) =>
      make("article", { "data-engine": engine, "aria-label": kind },
        make("h4", {}, kind), make("p", { class: "lc-live" }, text || "…"), make("dl", { class: "lc-numbers" }, ...facts.map(fact)))));
  }

  const heard = { "change:models": showModels, "change:model": showModels, "change:original": showModels, "change:seen": showSeen, "change:reply": showReply };
  for (const [name, handler] of Object.entries(heard)) model.on(name, handler);
  for (const show of [showModels, showSeen, showReply]) show();
  el.replaceChildren(root);
  return () => { for (const [name, handler] of Object.entries(heard)) model.off(name, handler); };
}

export default { render };
