// The elements of the scene composer's page, without any behaviour. Stands in front of composer.js.

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

let labels = 0;

function labelled(text, control, extra = "") {
  control.id = `labkit-composer-${++labels}`;
  return make("div", { class: `lc-field ${extra}` }, make("label", { for: control.id }, text), control);
}

function buildPage() {
  const button = (text, title, more = {}) => make("button", { type: "button", class: "lc-button", title, ...more }, text);
  const page = {
    canvas: make("canvas", { class: "lc-canvas", "aria-hidden": "true" }),
    objects: make("div", { class: "lc-objects" }),
    empty: make("p", { class: "lc-empty" }, "Choose an object to begin."),
    size: make("select"),
    background: make("select"),
    smaller: button("−", "Make the chosen object smaller (−)", { "aria-label": "Smaller" }),
    larger: button("+", "Make the chosen object larger (+)", { "aria-label": "Larger" }),
    removal: button("Remove", "Remove the chosen object (Delete)"),
    undo: button("Undo", "Take the last change back (Ctrl+Z)"),
    wipe: button("Clear", "Remove all objects"),
    notice: make("p", { class: "lc-notice", role: "status" }),
    search: make("input", { type: "search", placeholder: "cat, pizza, …", autocomplete: "off", spellcheck: "false" }),
    grid: make("div", { class: "lc-grid", role: "group", "aria-label": "Objects to add" }),
    count: make("p", { class: "lc-count" }),
    chips: make("div", { class: "lc-chips", role: "group", "aria-label": "Kind of question" }),
    subject: make("select"),
    other: button("Other words", "Ask the same in other words"),
    words: make("input", { type: "text", maxlength: 400, autocomplete: "off", placeholder: "Choose above, or type one" }),
    go: make("button", { type: "submit", class: "lc-button lc-go" }, "Ask"),
    asked: make("p", { class: "lc-asked" }),
    live: make("div", { class: "lc-live", "aria-live": "polite", "aria-atomic": "false" }),
    verdict: make("p", { class: "lc-verdict" }),
    numbers: make("dl", { class: "lc-numbers" }),
    stale: make("p", { class: "lc-stale" }),
  };
  page.stage = make("div", { class: "lc-stage", role: "group" }, page.canvas, page.objects, page.empty);
  page.form = make(
    "form",
    { class: "lc-ask", "aria-label": "Ask the model" },
    page.chips,
    make("div", { class: "lc-row" }, labelled("About", page.subject), page.other),
    make("div", { class: "lc-row lc-words" }, labelled("Question", page.words, "lc-wide"), page.go),
  );
  const left = make(
    "section",
    { class: "lc-left", "aria-label": "Scene" },
    make("div", { class: "lc-row" }, labelled("Picture", page.size), labelled("Background", page.background)),
    make("div", { class: "lc-well" }, page.stage),
    make(
      "div",
      { class: "lc-row", role: "group", "aria-label": "Scene tools" },
      page.smaller,
      page.larger,
      page.removal,
      make("span", { class: "lc-spring" }),
      page.undo,
      page.wipe,
    ),
    page.notice,
    make(
      "p",
      { class: "lc-help" },
      "Drag an object, or reach it with Tab: arrow keys move it (Shift: bigger steps), + and − change its size, Delete removes it, Ctrl+Z undoes.",
    ),
  );
  const right = make(
    "div",
    { class: "lc-right" },
    make("section", { class: "lc-palette", "aria-label": "Objects" }, labelled("Add an object", page.search), page.grid, page.count),
    page.form,
  );
  const answer = make("section", { class: "lc-answer", "aria-label": "Answer" }, page.asked, page.live, page.verdict, page.numbers, page.stale);
  const columns = make("div", { class: "lc-columns" }, left, right, answer);
  page.root = make("div", { class: "labkit-composer", role: "group", "aria-label": "Scene composer" }, columns);
  return page;
}
