// The browser's half of labkit/composer.py: it shows the state that Python holds and sends commands.
// It decides nothing about the scene; while a drag lasts it draws a preview of its own.
// composer_page.js, which stands in front of this file, makes the page's elements.

const BIG_STEP = 8;
const PATIENCE_MS = 10000;

const between = (value, low, high) => Math.max(low, Math.min(value, high));

function render({ model, el }) {
  let library = null; // names, wordings, limits and sprites; sent once, on hello
  let exact = null; // the picture as the model gets it, and its empty ground
  let drag = null; // { id, x, y, side, … }: where the pointer holds an object now
  let selected = null;
  let gesture = 0;
  let task = "left_of";
  let variant = 0;
  let ownWords = false;
  let pieces = { run: -1, texts: [] };

  const stageNow = () => model.get("stage");
  const tell = (command, content = {}) => model.send({ do: command, ...content });
  const thinking = () => model.get("reply").status === "thinking";

  const page = buildPage();
  const { root, stage, canvas, objects, empty, notice, search, grid, count, chips, subject, words, go, live } = page;
  const press = (node, action) => node.addEventListener("click", action);
  press(page.smaller, () => grow(-2));
  press(page.larger, () => grow(2));
  press(page.removal, () => selected !== null && tell("remove", { number: selected }));
  press(page.undo, () => tell("undo"));
  press(page.wipe, () => tell("clear"));
  press(page.other, () => {
    variant += 1;
    ownWords = false;
    compose();
  });
  page.size.addEventListener("change", () => tell("resize", JSON.parse(page.size.value)));
  page.background.addEventListener("change", () => tell("paint", { background: page.background.value }));
  subject.addEventListener("change", () => {
    ownWords = false;
    compose();
  });
  page.form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!thinking()) tell("ask", { question: words.value });
  });

  // ---- the scene

  function grow(by, id = selected) {
    if (id !== null) tell("grow", { number: id, by, gesture });
  }

  function select(id) {
    selected = id;
    for (const node of objects.children) node.classList.toggle("lc-selected", Number(node.dataset.id) === id);
    const chosen = stageNow().objects.find((o) => o.id === id);
    for (const control of [page.smaller, page.larger, page.removal]) control.setAttribute("aria-disabled", String(!chosen));
    if (chosen && !ownWords) {
      subject.value = chosen.name;
      compose();
    }
  }

  const placed = (o) => (drag && drag.id === o.id ? { ...o, x: drag.x, y: drag.y, side: drag.side } : o);

  function draw() {
    const now = stageNow();
    if (canvas.width !== now.width || canvas.height !== now.height) Object.assign(canvas, { width: now.width, height: now.height });
    const context = canvas.getContext("2d");
    const fits = exact && exact.width === now.width && exact.height === now.height;
    if (fits && exact.revision === now.revision && !drag) {
      context.putImageData(exact.picture, 0, 0);
      canvas.dataset.revision = now.revision; // from here on the canvas is the model's picture, pixel by pixel
      return;
    }
    delete canvas.dataset.revision;
    if (!fits || !library) return;
    context.putImageData(exact.ground, 0, 0);
    context.imageSmoothingQuality = "high";
    for (const { name, x, y, side } of now.objects.map(placed)) context.drawImage(library.sprites[name], x, y, side, side);
  }

  function lay(node, o, now) {
    const percent = (value, whole) => `${(100 * value) / whole}%`;
    Object.assign(node.style, { left: percent(o.x, now.width), top: percent(o.y, now.height), width: percent(o.side, now.width), height: percent(o.side, now.height) });
    node.setAttribute("aria-label", `${o.name}, column ${o.x}, row ${o.y}, ${o.side} pixels wide`);
  }

  function objectNode(o) {
    const node = make("button", { type: "button", class: "lc-object", "data-id": o.id, "aria-roledescription": "movable object" });
    node.append(make("span", { class: "lc-tag", "aria-hidden": "true" }, o.name));
    for (const corner of ["nw", "ne", "sw", "se"]) node.append(make("span", { class: `lc-handle lc-${corner}`, "data-corner": corner, "aria-hidden": "true" }));
    node.addEventListener("focus", () => select(o.id));
    node.addEventListener("pointerdown", (event) => grab(event, node, o.id));
    node.addEventListener("pointermove", pull);
    node.addEventListener("pointerup", () => drop(true));
    node.addEventListener("pointercancel", () => drop(false));
    return node;
  }

  function showScene() {
    const now = stageNow();
    stage.style.setProperty("--lc-width", now.width);
    stage.style.setProperty("--lc-height", now.height);
    stage.setAttribute("aria-label", `Scene, ${now.width} × ${now.height} pixels, ${now.objects.length} objects`);
    const nodes = new Map([...objects.children].map((node) => [Number(node.dataset.id), node]));
    const order = [...nodes.keys()];
    const held = objects.contains(document.activeElement) || document.activeElement === page.removal;
    const kept = now.objects.map((o) => nodes.get(o.id) ?? objectNode(o));
    for (const [id, node] of nodes) if (!now.objects.some((o) => o.id === id)) node.remove();
    kept.forEach((node, i) => {
      lay(node, placed(now.objects[i]), now);
      if (objects.children[i] !== node) objects.insertBefore(node, objects.children[i] ?? null); // moving a node costs it its focus
    });
    empty.hidden = now.objects.length > 0;
    if (selected !== null && !now.objects.some((o) => o.id === selected)) {
      const next = kept[between(order.indexOf(selected), 0, kept.length - 1)];
      selected = null;
      if (held) (next ?? search).focus(); // never let the keyboard fall out of the composer
    }
    select(selected);
    draw();
  }

  function grab(event, node, id) {
    if (event.button !== 0 || drag) return;
    node.focus();
    const o = stageNow().objects.find((candidate) => candidate.id === id);
    if (!o) return;
    node.setPointerCapture(event.pointerId);
    drag = { ...o, corner: event.target.dataset.corner, from: o, atX: event.clientX, atY: event.clientY };
    node.classList.add("lc-dragged");
  }

  function pull(event) {
    if (!drag || drag.dropped) return;
    const now = stageNow();
    const { smallest, largest } = library.limits;
    const scale = stage.clientWidth / now.width;
    const dx = Math.round((event.clientX - drag.atX) / scale);
    const dy = Math.round((event.clientY - drag.atY) / scale);
    const { from, corner } = drag;
    if (corner) {
      const west = corner.includes("w");
      const north = corner.startsWith("n");
      const room = Math.min(west ? from.x + from.side : now.width - from.x, north ? from.y + from.side : now.height - from.y);
      const wish = from.side + Math.max(west ? -dx : dx, north ? -dy : dy);
      const side = between(wish, smallest, Math.min(largest, room));
      Object.assign(drag, { side, x: west ? from.x + from.side - side : from.x, y: north ? from.y + from.side - side : from.y });
    } else {
      Object.assign(drag, { x: between(from.x + dx, 0, now.width - from.side), y: between(from.y + dy, 0, now.height - from.side) });
    }
    lay(objects.querySelector(`[data-id="${drag.id}"]`), drag, now);
    draw();
  }

  function drop(keep) {
    if (!drag || drag.dropped) return;
    const { id, x, y, side, from } = drag;
    objects.querySelector(`[data-id="${id}"]`)?.classList.remove("lc-dragged");
    if (keep && (x !== from.x || y !== from.y || side !== from.side)) {
      drag.dropped = true; // the preview stays until Python's answer
      tell("move", { number: id, x, y, side });
    } else {
      drag = null;
      showScene();
    }
  }

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  stage.addEventListener("keydown", (event) => {
    const id = Number(event.target.dataset?.id);
    if (event.key === "Escape" && drag) drop(false);
    if (!id || event.ctrlKey || event.metaKey || event.altKey) return;
    if (ARROWS[event.key]) {
      const step = event.shiftKey ? BIG_STEP : 1;
      tell("nudge", { number: id, dx: ARROWS[event.key][0] * step, dy: ARROWS[event.key][1] * step, gesture });
    } else if (event.key === "+" || event.key === "=") grow(2, id);
    else if (event.key === "-" || event.key === "−" || event.key === "_") grow(-2, id);
    else if (event.key === "Delete" || event.key === "Backspace") tell("remove", { number: id });
    else return;
    event.preventDefault();
  });
  stage.addEventListener("keyup", () => { gesture += 1; }); // a key held down is one step of undo

  root.addEventListener("keydown", (event) => {
    const command = event.ctrlKey || event.metaKey;
    const typing = event.target instanceof HTMLInputElement;
    if (command && event.key.toLowerCase() === "z" && !event.shiftKey && !typing) {
      event.preventDefault();
      event.stopPropagation();
      tell("undo");
    } else if (!command && !event.altKey && event.key !== "Escape") {
      event.stopPropagation(); // else JupyterLab takes letters, arrows and Delete for notebook commands
    }
  });

  // ---- the palette

  const inPalette = () => [...grid.children].filter((node) => !node.hidden);

  function add(name) {
    tell("add", { name });
  }

  function sift() {
    const wish = search.value.trim().toLowerCase();
    for (const node of grid.children) node.hidden = !node.dataset.name.includes(wish);
    const found = inPalette();
    grid.dataset.none = found.length ? "" : `No object is called “${search.value.trim()}”.`;
    for (const node of grid.children) node.tabIndex = node === found[0] ? 0 : -1;
  }

  search.addEventListener("input", sift);
  search.addEventListener("keydown", (event) => {
    const first = inPalette()[0];
    if (event.key === "Enter" && first && search.value.trim()) add(first.dataset.name);
    else if (event.key === "ArrowDown" && first) first.focus();
    else return;
    event.preventDefault();
  });
  grid.addEventListener("keydown", (event) => {
    const found = inPalette();
    const at = found.indexOf(event.target);
    const columns = found.filter((node) => node.offsetTop === found[0].offsetTop).length;
    const jumps = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns, ArrowDown: at + columns, Home: 0, End: found.length - 1 };
    const next = found[jumps[event.key]];
    if (!(event.key in jumps)) return;
    event.preventDefault();
    if (!next) return;
    for (const node of grid.children) node.tabIndex = node === next ? 0 : -1;
    next.focus();
  });

  // ---- the question

  function compose() {
    if (!library) return;
    const kind = library.tasks.find((t) => t.task === task);
    for (const node of chips.children) node.setAttribute("aria-pressed", String(!ownWords && node.dataset.task === task));
    subject.disabled = !kind.subject;
    if (ownWords) return;
    const found = library.wordings[task][kind.subject ? subject.value : ""];
    words.value = found ? found[variant % found.length] : "";
  }

  function showSubjects() {
    if (!library) return;
    const here = [...new Set(stageNow().objects.map((o) => o.name))];
    const rest = library.names.filter((name) => !here.includes(name));
    const before = subject.value;
    const options = (names) => names.map((name) => make("option", { value: name }, name));
    const groups = [make("optgroup", { label: "In the scene" }, ...options(here))];
    if (task === "is_there") groups.push(make("optgroup", { label: "Not in the scene" }, ...options(rest)));
    subject.replaceChildren(...(here.length || task === "is_there" ? groups : [make("option", { value: "" }, "nothing yet")]));
    subject.value = [...subject.options].some((option) => option.value === before) && before ? before : (subject.options[0]?.value ?? "");
    compose();
  }

  words.addEventListener("input", () => {
    ownWords = true;
    compose();
  });

  // ---- the answer

  function showReply() {
    const reply = model.get("reply");
    const busy = reply.status === "thinking";
    if (reply.run !== pieces.run) {
      pieces = { run: reply.run, texts: [] };
      live.replaceChildren();
    }
    root.dataset.status = reply.status;
    go.setAttribute("aria-disabled", String(busy));
    go.textContent = busy ? "Thinking…" : "Ask";
    page.asked.textContent = reply.question ? `“${reply.question}”` : "The answer will stream in here.";
    if (busy && !live.childNodes.length) live.append(make("span", { class: "lc-thinking" }, "Thinking…"));
    if (reply.status === "failed") live.replaceChildren(make("span", { class: "lc-error" }, `No answer. ${reply.error}`));
    if (reply.status === "done" && live.textContent !== reply.text) live.replaceChildren(reply.text);
    page.verdict.replaceChildren();
    page.numbers.replaceChildren();
    if (reply.status === "done") {
      const mark = { Right: "✓ ", Wrong: "✗ " }[reply.verdict] ?? "";
      page.verdict.append(make("strong", { "data-verdict": reply.verdict }, `${mark}${reply.verdict}`), ` ${reply.because}`);
      for (const [name, value] of reply.facts) page.numbers.append(make("div", {}, make("dt", {}, name), make("dd", {}, value)));
    }
    const old = reply.status === "done" && reply.revision !== stageNow().revision;
    page.stale.textContent = old ? "The scene has changed since: ask again." : "";
  }

  function showPiece({ run, index, text }) {
    if (run !== pieces.run || index !== pieces.texts.length) return; // a view opened late gets the whole text at the end
    if (index === 0) live.replaceChildren();
    pieces.texts.push(text);
    live.append(make("span", {}, text));
    live.dataset.pieces = pieces.texts.length;
  }

  // ---- what arrives from Python

  function showTools() {
    const now = stageNow();
    notice.textContent = now.notice;
    page.undo.setAttribute("aria-disabled", String(!now.undo));
    page.wipe.setAttribute("aria-disabled", String(!now.objects.length));
    if (!library) return;
    const full = now.objects.length >= library.limits.most;
    count.textContent = full ? library.limits.full : `${now.objects.length} of ${library.limits.most} objects stand in the scene.`;
    count.classList.toggle("lc-full", full);
    for (const node of grid.children) node.setAttribute("aria-disabled", String(full));
    choose(page.size, JSON.stringify({ height: now.height, width: now.width }), `${now.width} × ${now.height}`);
    choose(page.background, now.background, now.background);
  }

  function choose(control, value, text) {
    control.querySelector("[data-only-now]")?.remove();
    if (![...control.options].some((option) => option.value === value)) control.append(make("option", { value, "data-only-now": "" }, text));
    control.value = value; // a scene made in Python may have a size or ground that is not on the list
  }

  function showStage() {
    if (drag && (drag.dropped || !stageNow().objects.some((o) => o.id === drag.id))) drag = null;
    showTools();
    showSubjects();
    showScene();
    showReply();
  }

  async function stock(content, buffers) {
    const sprites = {};
    const urls = await Promise.all(content.names.map((_, i) => new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result);
      reader.onerror = reject;
      reader.readAsDataURL(new Blob([buffers[i]], { type: "image/png" }));
    })));
    await Promise.all(content.names.map((name, i) => {
      sprites[name] = new Image();
      sprites[name].src = urls[i];
      return sprites[name].decode();
    }));
    library = { ...content, sprites };
    grid.replaceChildren(...content.names.map((name, i) => make(
      "button",
      { type: "button", class: "lc-sprite", "data-name": name, title: `Add: ${name}`, onclick: () => add(name) },
      make("img", { src: urls[i], alt: "", draggable: "false" }),
      make("span", {}, name),
    )));
    chips.replaceChildren(...content.tasks.map(({ task: name, label }) => make(
      "button",
      { type: "button", class: "lc-chip", "data-task": name, onclick: () => { variant = 0; task = name; ownWords = false; showSubjects(); } },
      label,
    )));
    page.size.replaceChildren(...content.sizes.map(([height, width]) => make("option", { value: JSON.stringify({ height, width }) }, `${width} × ${height}`)));
    page.background.replaceChildren(...content.backgrounds.map((name) => make("option", { value: name }, name)));
    sift();
    showStage();
    root.dataset.model = content.model; // says which widget of the kernel this is; and that all is in place
  }

  function onMessage(content, buffers) {
    if (content.kind === "library") {
      if (!library) stock(content, buffers);
    } else if (content.kind === "picture") {
      const pixels = (view) => new ImageData(new Uint8ClampedArray(view.buffer, view.byteOffset, view.byteLength).slice(), content.width, content.height);
      exact = { ...content, picture: pixels(buffers[0]), ground: pixels(buffers[1]) };
      draw();
    } else if (content.kind === "piece") showPiece(content);
  }

  model.on("msg:custom", onMessage);
  model.on("change:stage", showStage);
  model.on("change:reply", showReply);
  el.replaceChildren(root);
  showStage();
  tell("hello");
  const alarm = setTimeout(() => {
    if (!library) notice.textContent = "The kernel does not answer. Run this cell to start the composer.";
  }, PATIENCE_MS);
  return () => {
    clearTimeout(alarm);
    model.off("msg:custom", onMessage);
    model.off("change:stage", showStage);
    model.off("change:reply", showReply);
  };
}

export default { render };
