// An explorer's page says how tall it is; its frame becomes as tall.
addEventListener("message", ({ data, source }) => {
  if (!data?.labkitHeight) return;
  for (const frame of document.querySelectorAll("iframe.explorer"))
    if (frame.contentWindow === source) frame.style.height = `${data.labkitHeight + 4}px`;
});
