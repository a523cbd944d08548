"use strict";

const form = document.getElementById("ask");
const said = document.getElementById("said");

/** Show the document; where it needs a key, ask for that first. */
async function show(key) {
  const headers = key ? { "x-api-key": key } : {};
  const answer = await fetch("/openapi.json", { headers });
  form.hidden = answer.ok;
  if (!answer.ok) {
    said.textContent = answer.status === 401 && !key ? "" : (await answer.json()).detail;
    return;
  }
  const ui = SwaggerUIBundle({
    dom_id: "#ui",
    spec: await answer.json(),
    deepLinking: true,
    docExpansion: "list",
    validatorUrl: null,
    onComplete: () => key && ui.preauthorizeApiKey("key", key),
  });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  show(document.getElementById("key").value);
});
show("");
