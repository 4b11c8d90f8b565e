// The browser's half of composer.py: it shows the state that Python holds and sends commands.
// It decides nothing about the scene; while a drag lasts it draws a preview of its own.

const PAGE = `
<div class="lc-columns">
  <section class="lc-left" aria-label="Scene">
    <div class="lc-row">
      <label>Picture <select class="lc-size"></select></label> <label>Background <select class="lc-background"></select></label>
    </div>
    <div class="lc-well"><div class="lc-stage" role="group">
      <canvas aria-hidden="true"></canvas><div class="lc-objects"></div><p class="lc-empty">Choose an object to begin.</p>
    </div></div>
    <div class="lc-row" role="group" aria-label="Scene tools">
      <button class="lc-smaller" title="Make the chosen object smaller (−)" aria-label="Smaller">−</button>
      <button class="lc-larger" title="Make the chosen object larger (+)" aria-label="Larger">+</button>
      <button class="lc-remove" title="Remove the chosen object (Delete)">Remove</button>
      <button class="lc-undo" title="Take the last change back (Ctrl+Z)">Undo</button>
      <button class="lc-redo" title="Make it again (Ctrl+Shift+Z or Ctrl+Y)">Redo</button>
      <button class="lc-clear" title="Remove all objects">Clear</button>
    </div>
    <p class="lc-notice" role="status"></p>
    <p class="lc-help">Drag an object, or reach it with Tab: arrow keys move it (Shift: bigger steps), + and − change its size,
      Delete removes it, Ctrl+Z undoes, Ctrl+Y makes it again.</p>
    <details class="lc-keep"><summary>Keep this scene</summary>
      <button class="lc-save" title="The picture as the model gets it">Save as PNG</button>
      <label>As code, for a cell <textarea class="lc-code" readonly rows="5" spellcheck="false"></textarea></label>
    </details>
  </section>
  <div class="lc-right">
    <section class="lc-palette" aria-label="Objects">
      <label>Add an object <input class="lc-search" type="search" placeholder="cat, pizza, …" autocomplete="off" spellcheck="false"></label>
      <div class="lc-grid" role="group" aria-label="Objects to add"></div> <p class="lc-count"></p>
    </section>
    <form class="lc-ask" aria-label="Ask the model">
      <div class="lc-chips" role="group" aria-label="Kind of question"></div>
      <div class="lc-row">
        <label>About <select class="lc-subject"></select></label>
        <button class="lc-other" type="button" title="Ask the same in other words">Other words</button>
      </div>
      <div class="lc-row">
        <label class="lc-wide">Question
          <input class="lc-words" type="text" maxlength="400" autocomplete="off" placeholder="Choose above, or type one"></label>
        <button class="lc-go">Ask</button>
      </div>
    </form>
  </div>
  <section class="lc-answer" aria-label="Answer">
    <p class="lc-asked"></p><div class="lc-live" aria-live="polite" aria-atomic="false"></div>
    <p class="lc-verdict"></p><dl class="lc-numbers"></dl><p class="lc-stale"></p>
  </section>
</div>`;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const between = (value, low, high) => Math.max(low, Math.min(value, high));

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  const put = (value) => (typeof value === "function" ? "addEventListener" : "setAttribute");
  for (const [name, value] of Object.entries(attributes)) node[put(value)](name, value);
  node.append(...children);
  return node;
}

const options = (values) => values.map((value) => make("option", { value }, value));

function render({ model, el }) {
  let library = null; // words, limits and sprites; sent once, on hello
  let drag = null; // { id, x, y, side, … }: where the pointer holds an object now
  let selected = null;
  let gesture = 0;
  let question = { task: "left_of", variant: 0, own: false };

  const root = make("div", { class: "labkit-composer", role: "group", "aria-label": "Scene composer" });
  root.innerHTML = PAGE;
  const $ = (name) => root.querySelector(`.lc-${name}`);
  const [stage, objects, grid, chips, search, subject, words, live] =
    ["stage", "objects", "grid", "chips", "search", "subject", "words", "live"].map($);
  const canvas = root.querySelector("canvas");
  const now = () => model.get("stage");
  const find = (id) => now().objects.find((o) => o.id === id);
  const nodeOf = (id) => objects.querySelector(`[data-id="${id}"]`);
  const tell = (command, content = {}) => model.send({ do: command, ...content });
  const able = (name, yes) => $(name).setAttribute("aria-disabled", String(!yes));
  const listen = (node, handlers) => Object.entries(handlers).forEach(([name, handler]) => node.addEventListener(name, handler));

  // ---- the scene

  listen($("smaller"), { click: () => find(selected) && tell("nudge", { number: selected, by: -2 }) });
  listen($("larger"), { click: () => find(selected) && tell("nudge", { number: selected, by: 2 }) });
  listen($("remove"), { click: () => find(selected) && tell("remove", { number: selected }) });
  for (const step of ["undo", "redo"]) listen($(step), { click: () => tell(step) });
  listen($("save"), { click: () => canvas.toBlob((blob) => {
    const link = make("a", { href: URL.createObjectURL(blob), download: "scene.png" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }) });
  listen($("clear"), { click: () => tell("clear") });
  listen($("background"), { change: ({ target }) => tell("paint", { background: target.value }) });
  listen($("size"), { change: ({ target }) => tell("resize", library.sizes[target.value]) });

  function select(id) {
    selected = id;
    for (const node of objects.children) node.classList.toggle("lc-selected", Number(node.dataset.id) === id);
    const chosen = find(id);
    for (const name of ["smaller", "larger", "remove"]) able(name, chosen);
    if (!chosen || question.own) return;
    subject.value = chosen.name;
    compose();
  }

  const placed = (o) => (drag?.id === o.id ? { ...o, x: drag.x, y: drag.y, side: drag.side } : o);

  function draw() {
    const { width, height, revision, picture, ground } = now();
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    const pixels = ({ buffer, byteOffset, byteLength }) => new Uint8ClampedArray(buffer, byteOffset, byteLength).slice();
    context.putImageData(new ImageData(pixels(drag ? ground : picture), width, height), 0, 0);
    if (!drag) {
      canvas.dataset.revision = revision; // from here on the canvas is the model's picture, pixel by pixel
      return;
    }
    delete canvas.dataset.revision;
    context.imageSmoothingQuality = "high";
    for (const { name, x, y, side } of now().objects.map(placed)) context.drawImage(library.images[name], x, y, side, side);
  }

  function lay(node, { name, x, y, side }) {
    const { width, height } = now();
    const share = { left: x / width, top: y / height, width: side / width, height: side / height };
    for (const [property, part] of Object.entries(share)) node.style[property] = `${100 * part}%`;
    node.setAttribute("aria-label", `${name}, column ${x}, row ${y}, ${side} pixels wide`);
  }

  function objectNode({ id, name }) {
    const does = { focus: () => select(id), pointerdown: grab, pointermove: pull, pointerup: () => drop(true), pointercancel: () => drop(false) };
    const handle = (corner) => make("span", { class: "lc-handle", "data-corner": corner, "aria-hidden": "true" });
    const tag = make("span", { class: "lc-tag", "aria-hidden": "true" }, name);
    const attributes = { class: "lc-object", "data-id": id, "aria-roledescription": "movable object" };
    return make("button", { ...attributes, ...does }, tag, ...["nw", "ne", "sw", "se"].map(handle));
  }

  function showScene() {
    const { width, height, objects: there } = now();
    stage.style.cssText = `--lc-width: ${width}; --lc-height: ${height}`;
    stage.setAttribute("aria-label", `Scene, ${width} × ${height} pixels, ${there.length} objects`);
    const held = objects.contains(document.activeElement) || document.activeElement === $("remove");
    const at = [...objects.children].indexOf(nodeOf(selected));
    const nodes = there.map((o) => nodeOf(o.id) ?? objectNode(o));
    for (const node of [...objects.children]) if (!nodes.includes(node)) node.remove();
    nodes.forEach((node, i) => {
      lay(node, placed(there[i]));
      if (objects.children[i] !== node) objects.insertBefore(node, objects.children[i] ?? null); // moving a node costs it its focus
    });
    $("empty").hidden = there.length > 0;
    if (selected !== null && !find(selected)) {
      selected = null;
      if (held) (nodes[between(at, 0, nodes.length - 1)] ?? search).focus(); // never let the keyboard fall out of the composer
    }
    select(selected);
    draw();
  }

  function grab({ button, currentTarget: node, target, pointerId, clientX: atX, clientY: atY }) {
    const from = find(Number(node.dataset.id));
    if (button !== 0 || drag || !from || !library) return;
    node.focus();
    node.setPointerCapture(pointerId);
    node.classList.add("lc-dragged");
    drag = { ...from, from, corner: target.dataset.corner, atX, atY };
  }

  function pull(event) {
    if (!drag || drag.dropped) return;
    const { width, height } = now();
    const { from, corner } = drag;
    const [dx, dy] = [event.clientX - drag.atX, event.clientY - drag.atY].map((way) => Math.round((way * width) / stage.clientWidth));
    if (corner) {
      const [west, north] = [corner.endsWith("w"), corner.startsWith("n")];
      const room = Math.min(west ? from.x + from.side : width - from.x, north ? from.y + from.side : height - from.y);
      const wish = from.side + Math.max(west ? -dx : dx, north ? -dy : dy);
      const side = between(wish, library.limits.smallest, Math.min(library.limits.largest, room));
      Object.assign(drag, { side, x: west ? from.x + from.side - side : from.x, y: north ? from.y + from.side - side : from.y });
    } else {
      Object.assign(drag, { x: between(from.x + dx, 0, width - from.side), y: between(from.y + dy, 0, height - from.side) });
    }
    lay(nodeOf(drag.id), drag);
    draw();
  }

  function drop(keep) {
    if (!drag || drag.dropped) return;
    const { id, x, y, side, from } = drag;
    nodeOf(id)?.classList.remove("lc-dragged");
    drag.dropped = keep && (x !== from.x || y !== from.y || side !== from.side); // the preview stays until Python's answer
    if (drag.dropped) return tell("move", { number: id, x, y, side });
    drag = null;
    showScene();
  }

  listen(stage, {
    keydown(event) {
      const number = Number(event.target.dataset?.id);
      if (event.key === "Escape" && drag) drop(false);
      if (!number || event.ctrlKey || event.metaKey || event.altKey) return;
      const held = `${number} ${gesture}`;
      if (ARROWS[event.key]) {
        const [dx, dy] = ARROWS[event.key].map((way) => way * (event.shiftKey ? 8 : 1));
        tell("nudge", { number, dx, dy, gesture: held });
      } else if ("+=-−_".includes(event.key)) tell("nudge", { number, by: "+=".includes(event.key) ? 2 : -2, gesture: held });
      else if (event.key === "Delete" || event.key === "Backspace") tell("remove", { number });
      else return;
      event.preventDefault();
    },
    keyup: () => { gesture += 1; }, // a key held down is one step of undo
  });

  listen(root, {
    keydown(event) {
      const command = event.ctrlKey || event.metaKey;
      const key = event.key.toLowerCase(), step = { z: event.shiftKey ? "redo" : "undo", y: "redo" }[key];
      const own = command && step && !event.target.matches("input, textarea");
      if (!own && (command || event.altKey || event.key === "Escape")) return;
      event.stopPropagation(); // else JupyterLab takes letters, arrows and Delete for notebook commands
      if (!own) return;
      event.preventDefault();
      tell(step);
    },
  });

  // ---- the palette

  const inPalette = () => [...grid.children].filter((node) => !node.hidden);
  const reach = (next) => { for (const node of grid.children) node.tabIndex = node === next ? 0 : -1; };

  function sift() {
    const wish = search.value.trim();
    for (const node of grid.children) node.hidden = !node.dataset.name.includes(wish.toLowerCase());
    const [first] = inPalette();
    grid.dataset.none = first ? "" : `No object is called “${wish}”.`;
    reach(first);
  }

  listen(search, {
    input: sift,
    keydown(event) {
      const [first] = inPalette();
      if (event.key === "Enter" && first && search.value.trim()) first.click();
      else if (event.key === "ArrowDown" && first) first.focus();
      else return;
      event.preventDefault();
    },
  });
  listen(grid, {
    keydown(event) {
      const nodes = inPalette();
      const at = nodes.indexOf(event.target);
      const columns = nodes.filter((node) => node.offsetTop === nodes[0].offsetTop).length;
      const jumps = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns, ArrowDown: at + columns, Home: 0, End: nodes.length - 1 };
      if (!(event.key in jumps)) return;
      event.preventDefault();
      const next = nodes[jumps[event.key]] ?? event.target;
      reach(next);
      next.focus();
    },
  });

  // ---- question and answer

  const thinking = () => model.get("reply").status === "thinking";
  listen($("other"), { click: () => compose({ variant: question.variant + 1, own: false }) });
  listen(subject, { change: () => compose({ own: false }) });
  listen(words, { input: () => compose({ own: true }) });
  listen($("ask"), {
    submit(event) {
      event.preventDefault();
      if (!thinking()) tell("ask", { question: words.value });
    },
  });

  function compose(change = {}) {
    if (!library) return;
    Object.assign(question, change);
    const { task, variant, own } = question;
    for (const node of chips.children) node.setAttribute("aria-pressed", String(!own && node.dataset.task === task));
    subject.disabled = "" in library.wordings[task]; // a task that is about no object
    const questions = library.wordings[task][subject.disabled ? "" : subject.value] ?? [""];
    if (!own) words.value = questions[variant % questions.length];
  }

  function showSubjects() {
    const here = [...new Set(now().objects.map((o) => o.name))];
    const rest = question.task === "is_there" ? Object.keys(library.images).filter((name) => !here.includes(name)) : [];
    const group = (label, names) => (names.length ? [make("optgroup", { label }, ...options(names))] : []);
    const before = subject.value;
    subject.replaceChildren(...group("In the scene", here), ...group("Not in the scene", rest));
    if (!subject.options.length) subject.append(make("option", { value: "" }, "nothing yet"));
    subject.value = before;
    if (subject.selectedIndex < 0) subject.selectedIndex = 0;
    compose();
  }

  function showReply() {
    const reply = model.get("reply");
    const done = reply.status === "done";
    if (Number(live.dataset.run) !== reply.run) {
      Object.assign(live.dataset, { run: reply.run, pieces: 0 });
      live.replaceChildren();
    }
    root.dataset.status = reply.status;
    able("go", !thinking());
    $("go").textContent = thinking() ? "Thinking…" : "Ask";
    $("asked").textContent = reply.question ? `“${reply.question}”` : "The answer will stream in here.";
    if (thinking() && !live.childNodes.length) live.append(make("span", { class: "lc-thinking" }, "Thinking…"));
    if (reply.status === "failed") live.replaceChildren(make("span", { class: "lc-error" }, `No answer. ${reply.error}`));
    if (done && live.textContent !== reply.text) live.replaceChildren(reply.text);
    const mark = { Right: "✓ ", Wrong: "✗ " }[reply.verdict] ?? "";
    $("verdict").replaceChildren(...(done ? [make("strong", { "data-verdict": reply.verdict }, mark + reply.verdict), ` ${reply.because}`] : []));
    const fact = ([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value));
    $("numbers").replaceChildren(...(done ? reply.facts.map(fact) : []));
    $("stale").textContent = done && reply.revision !== now().revision ? "The scene has changed since: ask again." : "";
  }

  function showPiece({ run, index, text }) {
    if (run !== Number(live.dataset.run) || index !== Number(live.dataset.pieces)) return; // a view opened late gets the whole text at the end
    if (index === 0) live.replaceChildren();
    live.append(make("span", {}, text));
    live.dataset.pieces = index + 1;
  }

  // ---- what arrives from Python

  function showTools() {
    const { width, height, background, undo, redo, code, notice, objects: { length } } = now();
    const { sizes, backgrounds, limits } = library;
    $("notice").textContent = notice;
    able("undo", undo);
    able("redo", redo);
    $("code").value = code;
    able("clear", length);
    const full = length >= limits.most;
    $("count").textContent = full ? limits.full : `${length} of ${limits.most} objects stand in the scene.`;
    $("count").classList.toggle("lc-full", full);
    for (const node of grid.children) node.setAttribute("aria-disabled", String(full));
    for (const [name, listed, value] of [["size", Object.keys(sizes), `${width} × ${height}`], ["background", backgrounds, background]]) {
      $(name).replaceChildren(...options([...new Set([...listed, value])])); // a scene made in Python may have one that is not listed
      $(name).value = value;
    }
  }

  function showStage() {
    if (drag && (drag.dropped || !find(drag.id))) drag = null;
    if (library) showTools();
    if (library) showSubjects();
    showScene();
    showReply();
  }

  async function stock(content) {
    const images = {};
    for (const [name, src] of Object.entries(content.sprites)) images[name] = make("img", { src, alt: "", draggable: "false" });
    await Promise.all(Object.values(images).map((image) => image.decode()));
    library = { ...content, images };
    grid.replaceChildren(...Object.entries(images).map(([name, image]) => {
      const attributes = { class: "lc-sprite", "data-name": name, title: `Add: ${name}`, click: () => tell("add", { name }) };
      return make("button", attributes, image, make("span", {}, name));
    }));
    chips.replaceChildren(...Object.entries(content.labels).map(([task, label]) => {
      const click = () => { question = { task, variant: 0, own: false }; showSubjects(); };
      return make("button", { type: "button", class: "lc-chip", "data-task": task, click }, label);
    }));
    sift();
    showStage();
    root.dataset.model = content.model; // says which widget of the kernel this is; and that all is in place
  }

  function onMessage(content) {
    if (content.kind === "library" && !library) stock(content);
    if (content.kind === "piece") showPiece(content);
  }

  const heard = { "msg:custom": onMessage, "change:stage": showStage, "change:reply": showReply };
  for (const [name, handler] of Object.entries(heard)) model.on(name, handler);
  el.replaceChildren(root);
  showStage();
  tell("hello");
  const alarm = setTimeout(() => {
    if (!library) $("notice").textContent = "The kernel does not answer. Run this cell to start the composer.";
  }, 10000);
  return () => {
    clearTimeout(alarm);
    for (const [name, handler] of Object.entries(heard)) model.off(name, handler);
  };
}

export default { render };
