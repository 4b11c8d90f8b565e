// The browser's half of widget.py: it holds queries and keys, computes the row that is asked for, and draws it.

const PAGE = `
<div class="le-tools">
  <label class="le-layer">Layer <select></select></label> <label class="le-head">Head <select></select></label>
  <label class="le-opacity">Map over picture <input type="range" min="0" max="100" value="70"></label>
  <button type="button" class="le-picture">Save as a picture</button> <button type="button" class="le-page">Save as a page</button>
</div>
<div class="le-words" role="listbox" aria-label="Words"></div>
<div class="le-panels"></div>
<p class="le-readout" role="status"></p>
<p class="le-help"></p>`;
// Eleven colours of matplotlib's viridis and of its PuOr, between which the map is interpolated.
const VIRIDIS = ["440154", "482475", "414487", "355f8d", "2a788e", "21918c", "22a884", "44bf70", "7ad151", "bddf26", "fde725"].map(rgb);
const PUOR = ["7f3b08", "b35806", "e08214", "fdb863", "fee0b6", "f7f7f7", "d8daeb", "b2abd2", "8073ac", "542788", "2d004b"].map(rgb);
const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
const WIDEST = [0, 340, 340, 260]; // of a panel, in CSS pixels, by how many there are

function rgb(hex) {
  return [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

function colour(table, share) {
  const place = Math.max(0, Math.min(share, 1)) * (table.length - 1);
  const low = Math.min(Math.floor(place), table.length - 2);
  return table[low].map((c, i) => Math.round(c + (table[low + 1][i] - c) * (place - low)));
}

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function download(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

function mapOf(kind, pair, head, query, cells, queries) {
  const { q, k, width } = pair;
  const from = (head * queries + query) * width;
  if (kind === "given") return q.slice(from, from + width);
  const out = new Float32Array(cells);
  let norm = 0;
  for (let i = 0; i < width; i++) norm += q[from + i] ** 2;
  for (let key = 0; key < cells; key++) {
    const to = (head * cells + key) * width;
    let dot = 0, length = 0;
    for (let i = 0; i < width; i++) { dot += q[from + i] * k[to + i]; length += k[to + i] ** 2; }
    out[key] = kind === "softmax" ? dot / Math.sqrt(width) : dot / Math.max(Math.sqrt(norm * length), 1e-12);
  }
  if (kind !== "softmax") return out;
  const most = out.reduce((a, b) => Math.max(a, b), -Infinity);
  let sum = 0;
  for (let key = 0; key < cells; key++) sum += out[key] = Math.exp(out[key] - most);
  return out.map((value) => value / sum);
}

function number(value, kind) {
  return kind === "cosine" ? value.toFixed(2) : `${(100 * value).toPrecision(Math.abs(value) < 0.0995 ? 2 : 3)} %`;
}

function render({ model, el }) {
  const root = make("div", { class: "labkit-explorer", "data-model": model.model_id ?? "" });
  root.innerHTML = PAGE;
  el.append(root);
  const find = (selector) => root.querySelector(selector);
  const [layers, heads, opacity] = ["le-layer select", "le-head select", "le-opacity input"].map((name) => find(`.${name}`));
  const picture = new Image();
  let spec, held = new Map(), boxes = [], hovered = null, asked = new Set(), began = 0;

  const get = (name) => model.get(name);
  const cells = () => spec.grid[0] * spec.grid[1];
  const queries = () => (spec.words ? spec.words.length : cells());
  const query = () => Math.min(hovered ?? get("query"), queries() - 1);
  const named = (cell) => `row ${Math.floor(cell / spec.grid[1])}, column ${cell % spec.grid[1]}`;

  function set(name, value) {
    began = performance.now();
    model.set(name, value);
    model.save_changes();
    draw();
  }

  function setUp() {
    const fresh = model.get("spec");
    const same = spec && fresh.panels.length === spec.panels.length;
    spec = fresh;
    held = new Map();
    asked = new Set();
    const options = (count, name) => Array.from({ length: count }, (_, i) => make("option", { value: i }, `${name}${i}`));
    layers.replaceChildren(...spec.layers.map((name, i) => make("option", { value: i }, name)));
    heads.replaceChildren(...options(spec.heads, "H"));
    find(".le-layer").hidden = spec.layers.length < 2;
    find(".le-head").hidden = spec.heads < 2;
    if (!same) setUpPanels();
    const words = (spec.words ?? []).map((word, i) => {
      const button = make("button", { type: "button", role: "option", "data-query": i }, word.trim() || "␣");
      button.addEventListener("pointerenter", () => { hovered = i; draw(); });
      button.addEventListener("pointerleave", () => { hovered = null; draw(); });
      button.addEventListener("click", () => set("query", i));
      return button;
    });
    find(".le-words").replaceChildren(...words);
    find(".le-words").hidden = !spec.words;
    const way = spec.words ? "Point at a word, or reach the words with Tab and use the arrow keys." :
      "Point at a patch; click to keep it. With the keyboard: Tab to a picture, arrow keys move, [ and ] change the head.";
    find(".le-help").textContent = way;
    find(".le-page").hidden = spec.saved ?? false;
    picture.src = spec.image;
  }

  function setUpPanels() {
    const titles = spec.panels.map((panel) => panel.name).concat(spec.difference ? ["difference, last − first"] : []);
    boxes = titles.map((title, i) => {
      const canvas = make("canvas", { role: "img", tabindex: i ? -1 : 0 });
      const bar = make("canvas", { class: "le-bar", width: 200, height: 8, "aria-hidden": "true" });
      const [low, high] = [make("span"), make("span")];
      const figure = make("figure", {}, make("figcaption", {}, title), canvas, make("div", { class: "le-scale" }, low, bar, high));
      canvas.addEventListener("pointermove", (event) => { if (!spec.words) { hovered = cellAt(canvas, event); draw(); } });
      canvas.addEventListener("pointerleave", () => { hovered = null; draw(); });
      canvas.addEventListener("click", (event) => { if (!spec.words) set("query", cellAt(canvas, event)); });
      canvas.addEventListener("keydown", onKey);
      return { figure, canvas, bar, low, high };
    });
    find(".le-panels").replaceChildren(...boxes.map((box) => box.figure));
  }

  function cellAt(canvas, event) {
    const box = canvas.getBoundingClientRect(), [rows, cols] = spec.grid;
    const clamp = (share, count) => Math.max(0, Math.min(Math.floor(share * count), count - 1));
    return clamp((event.clientY - box.top) / box.height, rows) * cols + clamp((event.clientX - box.left) / box.width, cols);
  }

  function onKey(event) {
    hovered = null; // the mouse may still lie where it was
    const step = { "[": -1, "]": 1 }[event.key];
    if (step && spec.heads * spec.layers.length > 1) {
      const all = spec.heads * spec.layers.length, next = (get("layer") * spec.heads + get("head") + step + all) % all;
      model.set("layer", Math.floor(next / spec.heads));
      set("head", next % spec.heads);
    } else if (ARROWS[event.key] && !spec.words) {
      const [dr, dc] = ARROWS[event.key], [rows, cols] = spec.grid, at = get("query");
      const row = Math.floor(at / cols) + dr, col = (at % cols) + dc;
      if (row >= 0 && row < rows && col >= 0 && col < cols) set("query", row * cols + col);
    } else return;
    event.preventDefault();
  }

  function draw() {
    if (!spec || !picture.complete || !picture.naturalWidth) return;
    const [layer, head] = [get("layer"), get("head")];
    layers.value = layer;
    heads.value = head;
    const pairs = held.get(layer);
    for (const button of find(".le-words").children) {
      const chosen = Number(button.dataset.query) === get("query");
      button.setAttribute("aria-selected", chosen);
      button.tabIndex = chosen ? 0 : -1;
    }
    if (!pairs) {
      find(".le-readout").textContent = `Loading layer ${layer} …`;
      if (!asked.has(layer)) model.send({ do: "layers", layers: [layer] });
      asked.add(layer);
      return;
    }
    const maps = pairs.map((pair, i) => mapOf(spec.panels[i].kind, pair, head, query(), cells(), queries()));
    const kinds = spec.panels.map((panel) => panel.kind);
    if (spec.difference) {
      maps.push(maps.at(-1).map((value, i) => value - maps[0][i]));
      kinds.push("difference");
    }
    maps.forEach((map, i) => paint(boxes[i], map, kinds[i]));
    say(maps, kinds);
    root.dataset.drawn = `${layer},${head},${query()}`;
    if (began) root.dataset.delay = (performance.now() - began).toFixed(1);
    began = 0;
  }

  function paint(box, map, kind) {
    const { canvas } = box, [rows, cols] = spec.grid, scale = Math.min(WIDEST[Math.min(boxes.length, 3)] / spec.size[0], 3);
    const [width, height] = spec.size.map((side) => Math.round(side * scale));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const most = map.reduce((a, b) => Math.max(a, b), -Infinity), least = map.reduce((a, b) => Math.min(a, b), Infinity);
    const reach = Math.max(most, -least, 1e-9); // no difference at all is the middle of the scale
    const [low, high] = kind === "difference" ? [-reach, reach] : kind === "cosine" ? [least, most] : [0, most];
    const table = kind === "difference" ? PUOR : VIRIDIS;
    const small = make("canvas", { width: cols, height: rows }), pen = small.getContext("2d"), data = pen.createImageData(cols, rows);
    map.forEach((value, i) => data.data.set([...colour(table, (value - low) / (high - low || 1)), 255], 4 * i));
    pen.putImageData(data, 0, 0);
    const over = canvas.getContext("2d");
    over.globalAlpha = 1;
    over.imageSmoothingEnabled = spec.size[0] > 300;
    over.drawImage(picture, 0, 0, width, height);
    over.globalAlpha = opacity.value / 100;
    over.imageSmoothingEnabled = false;
    over.drawImage(small, 0, 0, width, height);
    over.globalAlpha = 1;
    if (!spec.words) {
      const [w, h] = [width / cols, height / rows], [x, y] = [(query() % cols) * w, Math.floor(query() / cols) * h];
      for (const [line, style] of [[4, "#000"], [2, "#fff"]]) {
        Object.assign(over, { lineWidth: line, strokeStyle: style });
        over.strokeRect(x + 1, y + 1, w - 2, h - 2);
      }
    }
    const strip = box.bar.getContext("2d");
    for (let x = 0; x < box.bar.width; x++) {
      strip.fillStyle = `rgb(${colour(table, x / (box.bar.width - 1))})`;
      strip.fillRect(x, 0, 1, box.bar.height);
    }
    box.low.textContent = number(low, kind);
    box.high.textContent = number(high, kind);
    canvas.dataset.values = JSON.stringify([...map].map((value) => Number(value.toFixed(5))));
  }

  function say(maps, kinds) {
    const who = spec.words ? `“${spec.words[query()].trim()}”` : `Patch ${named(query())}`;
    const sentences = maps.map((map, i) => {
      const size = kinds[i] === "difference" ? map.map(Math.abs) : map;
      let top = 0;
      size.forEach((value, at) => { if (value > size[top] && !(kinds[i] === "cosine" && at === query())) top = at; });
      if (kinds[i] === "cosine" && top === query()) top = size.findIndex((_, at) => at !== query());
      const name = maps.length > 1 ? `${boxes[i].figure.firstChild.textContent}: ` : "";
      const verb = { cosine: "is most like", difference: "differs most at" }[kinds[i]] ?? "looks most at";
      if (kinds[i] === "difference" && !size[top]) return `${name}differs nowhere`;
      return `${name}${verb} ${named(top)}: ${number(map[top], kinds[i])}`;
    });
    const place = spec.layers.length * spec.heads > 1 ? `, ${spec.layers.length > 1 ? spec.layers[get("layer")] : ""}${spec.heads > 1 ? `H${get("head")}` : ""}` : "";
    find(".le-readout").textContent = `${who}${place} ${sentences.join("; ")}.`;
    boxes.forEach((box, i) => box.canvas.setAttribute("aria-label", `${who}${place} ${sentences[i]}`));
  }

  // The maps as they stand, each with its name and its scale, and below what is said of them.
  function savePicture() {
    const [gap, line] = [16, 20], tall = Math.max(...boxes.map(({ canvas }) => canvas.height));
    const lefts = boxes.map((_, i) => boxes.slice(0, i).reduce((sum, { canvas }) => sum + canvas.width + gap, gap));
    const width = Math.max(lefts.at(-1) + boxes.at(-1).canvas.width + gap, 480), sheet = make("canvas"), pen = sheet.getContext("2d");
    const font = "13px system-ui, sans-serif", lines = [""];
    pen.font = font;
    for (const word of find(".le-readout").textContent.split(" ")) {
      const longer = `${lines.at(-1)} ${word}`.trim();
      if (pen.measureText(longer).width < width - 2 * gap) lines[lines.length - 1] = longer;
      else lines.push(word);
    }
    Object.assign(sheet, { width, height: tall + (lines.length + 3) * line + gap });
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, sheet.width, sheet.height);
    Object.assign(pen, { fillStyle: "#212121", font });
    boxes.forEach(({ figure, canvas, bar, low, high }, i) => {
      pen.fillText(figure.firstChild.textContent, lefts[i], line, canvas.width);
      pen.drawImage(canvas, lefts[i], line + 6);
      pen.drawImage(bar, lefts[i], tall + line + 12, canvas.width, bar.height);
      pen.fillText(low.textContent, lefts[i], tall + 2.5 * line + 4);
      pen.fillText(high.textContent, lefts[i] + canvas.width - pen.measureText(high.textContent).width, tall + 2.5 * line + 4);
    });
    lines.forEach((text, i) => pen.fillText(text, gap, tall + (i + 3.6) * line));
    sheet.toBlob((blob) => download(blob, "explorer.png"));
  }

  function take(message, buffers) {
    if (message.kind === "page") download(new Blob(buffers, { type: "text/html" }), "explorer.html");
    if (message.kind !== "layer" || message.run !== spec?.run) return;
    const floats = buffers.map((view) => new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength)));
    held.set(message.layer, spec.panels.map((_, i) => {
      const [q, k] = floats.slice(2 * i, 2 * i + 2);
      return { q, k, width: q.length / (spec.heads * queries()) };
    }));
    draw();
  }

  find(".le-words").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!step) return onKey(event);
    event.preventDefault();
    hovered = null;
    set("query", Math.max(0, Math.min(get("query") + step, queries() - 1)));
    find(`[data-query="${get("query")}"]`).focus();
  });
  layers.addEventListener("change", () => set("layer", Number(layers.value)));
  heads.addEventListener("change", () => set("head", Number(heads.value)));
  opacity.addEventListener("input", draw);
  find(".le-picture").addEventListener("click", savePicture);
  find(".le-page").addEventListener("click", () => model.send({ do: "save" }));
  picture.addEventListener("load", draw);
  const start = () => { setUp(); draw(); };
  model.on("change:spec", start);
  model.on("change:query change:layer change:head", draw);
  model.on("msg:custom", take);
  start();
  model.send({ do: "hello" });
  return () => {
    model.off("change:spec", start);
    model.off("change:query change:layer change:head", draw);
    model.off("msg:custom", take);
  };
}

export default { render };
