// A quiz: one native radio group per question, so that Tab, arrows and Space work by themselves.
// The browser answers at once; the kernel hears through `solved` which were ever right, and keeps the progress. All texts come as HTML.

function drawQuestion(model, { text, options }, index, group) {
  const box = document.createElement("fieldset");
  box.style.cssText = "border: 1px solid #8a8a8a; border-radius: 6px; margin: 8px 0; padding: 4px 14px 10px";
  const label = '<label style="display: flex; gap: 8px; align-items: baseline; margin: 4px 0; cursor: pointer">';
  const inputs = options.map((option, i) => `${label}<input type="radio" name="${group}" value="${i}"><span>${option.text}</span></label>`);
  box.innerHTML = `<legend style="padding: 0 6px">Question ${index + 1} of ${model.get("content").questions.length}</legend>
    <p style="margin: 2px 0 8px">${text}</p>${inputs.join("")}
    <button type="button" style="margin: 6px 0; padding: 3px 12px; cursor: pointer">Check</button><div aria-live="polite"></div>`;
  const feedback = box.lastElementChild;
  const check = () => {
    const picked = box.querySelector("input:checked");
    feedback.innerHTML = "<p>Choose an answer first.</p>";
    if (!picked) return;
    const { right, why } = options[picked.value];
    const others = options.filter((other) => !other.right).map((other) => `<p><em>${other.text}</em><br>${other.why}</p>`);
    feedback.innerHTML = `<p><strong>${right ? "✔ Right." : "✘ Not this one."}</strong> ${why}</p>`;
    if (right) feedback.innerHTML += `<details><summary>Why not the others?</summary>${others.join("")}</details>`;
    model.set("solved", model.get("solved").map((before, i) => before || (i === index && right)));
    model.save_changes();
  };
  box.querySelector("button").addEventListener("click", check);
  box.addEventListener("keydown", (event) => event.key === "Enter" && event.target.type === "radio" && check());
  return box;
}

function render({ model, el }) {
  const { title, questions } = model.get("content");
  el.innerHTML = `<section style="max-width: 46em"><p><strong>${title}</strong></p><p role="status"></p></section>`;
  const [root, message] = [el.firstElementChild, el.querySelector("[role=status]")];
  // JupyterLab listens further out and would take the arrow keys to move between cells; saving and the like stay its own.
  root.addEventListener("keydown", (event) => event.ctrlKey || event.metaKey || event.altKey || event.stopPropagation());
  const view = Math.random(); // two views of one quiz must not share radio groups
  message.before(...questions.map((question, i) => drawQuestion(model, question, i, `quiz-${view}-${i}`)));
  const tell = () => {
    message.textContent = model.get("message") || `${model.get("solved").filter(Boolean).length} of ${questions.length} answered right.`;
  };
  for (const name of ["message", "solved"]) model.on(`change:${name}`, tell);
  tell();
}

export default { render };
