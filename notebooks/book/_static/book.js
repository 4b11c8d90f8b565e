// An explorer's page says how tall it is: its frame becomes as tall, and the page hears which theme the book has.
const frames = () => document.querySelectorAll("iframe.explorer");
const tell = (frame) => frame.contentWindow.postMessage({ labkitTheme: document.documentElement.dataset.theme }, "*");
addEventListener("message", ({ data, source }) => {
  if (!data?.labkitHeight) return;
  for (const frame of frames()) {
    if (frame.contentWindow !== source) continue;
    frame.style.height = `${data.labkitHeight + 4}px`;
    tell(frame);
  }
});
new MutationObserver(() => frames().forEach(tell)).observe(document.documentElement, { attributeFilter: ["data-theme"] });
