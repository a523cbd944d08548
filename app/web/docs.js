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
  const spec = await answer.json();
  const ui = SwaggerUIBundle({
    dom_id: "#ui",
    spec,
    responseInterceptor: (made) => fillIn(made, spec, ui),
    deepLinking: true,
    docExpansion: "list",
    validatorUrl: null,
    onComplete: () => key && ui.preauthorizeApiKey("key", key),
  });
}

/** Give the id of what was made here to all that can be done with it, as if it had been typed there. */
function fillIn(made, spec, ui) {
  const id = made.ok && made.obj?.id;
  const makers = new URL(made.url, location.href).pathname;
  if (id && spec.paths[makers]?.post) {
    for (const [path, methods] of Object.entries(spec.paths)) {
      if (!path.startsWith(`${makers}/{id}`)) continue;
      for (const method of Object.keys(methods)) ui.specActions.changeParam([path, method], "id", "path", id, false);
    }
  }
  return made;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  show(document.getElementById("key").value);
});
show("");
