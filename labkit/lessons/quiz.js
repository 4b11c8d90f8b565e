// A quiz: one native radio group per question, so that Tab, arrows and Space work by themselves.
// The browser answers at once; the kernel hears of it through `chosen` and keeps the progress.

function element(name, attributes = {}, html = "") {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.innerHTML = html;
  return made;
}

let count = 0;

function drawQuestion(model, question, index, group) {
  const box = element("fieldset", { style: "border: 1px solid #8a8a8a; border-radius: 6px; margin: 8px 0; padding: 4px 14px 10px" });
  box.append(element("legend", { style: "padding: 0 6px" }, `Question ${index + 1} of ${model.get("content").questions.length}`));
  box.append(element("p", { style: "margin: 2px 0 8px" }, question.text));
  const feedback = element("div", { "aria-live": "polite" });
  const check = () => {
    const picked = inputs.findIndex((input) => input.checked);
    if (picked < 0) {
      feedback.innerHTML = "<p>Choose an answer first.</p>";
      return;
    }
    const option = question.options[picked];
    feedback.innerHTML = `<p><strong>${option.right ? "✔ Right." : "✘ Not this one."}</strong> ${option.why}</p>`;
    if (option.right) {
      const others = question.options.filter((other) => other !== option).map((other) => `<p><em>${other.text}</em><br>${other.why}</p>`);
      feedback.append(element("details", {}, `<summary>Why not the others?</summary>${others.join("")}`));
    }
    model.set("chosen", model.get("chosen").map((before, i) => (i === index ? picked : before)));
    model.save_changes();
  };
  const inputs = question.options.map((option, i) => {
    const label = element("label", { style: "display: flex; gap: 8px; align-items: baseline; margin: 4px 0; cursor: pointer" });
    const input = element("input", { type: "radio", name: group, value: i });
    input.addEventListener("keydown", (event) => event.key === "Enter" && check());
    label.append(input, element("span", {}, option.text));
    box.append(label);
    return input;
  });
  const button = element("button", { type: "button", style: "margin: 6px 0; padding: 3px 12px; cursor: pointer" }, "Check");
  button.addEventListener("click", check);
  box.append(button, feedback);
  return box;
}

function render({ model, el }) {
  const { title, questions } = model.get("content");
  const root = element("section", { style: "max-width: 46em" }, `<p><strong>${title}</strong></p>`);
  // JupyterLab listens further out and would take the arrow keys to move between cells.
  root.addEventListener("keydown", (event) => {
    if (!event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation(); // saving and the like stay JupyterLab's
  });
  const view = ++count; // two views of one quiz must not share radio groups
  const message = element("p", { role: "status" });
  root.append(...questions.map((question, i) => drawQuestion(model, question, i, `quiz-${view}-${i}`)), message);
  const tell = () => {
    message.textContent = model.get("message") || `${model.get("solved").filter(Boolean).length} of ${questions.length} answered right.`;
  };
  model.on("change:message", tell);
  model.on("change:solved", tell);
  tell();
  el.append(root);
}

export default { render };
