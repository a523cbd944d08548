"use strict";

const form = document.getElementById("ask");
const said = document.getElementById("said");

/** Bodies that name what was made before, by its kind: the path, and the fields with an id in them. */
const NAMED_IN = {
  file: (made) => made.purpose === "batch" && ["/v1/batches", { input_file_id: made.id }],
  "upload.part": (made) => ["/v1/uploads/{id}/complete", { part_ids: [made.id] }],
};

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
  leaveEmpty(spec);
  const ui = SwaggerUIBundle({
    dom_id: "#ui",
    spec,
    requestInterceptor: (sent) => identify(sent, ui),
    responseInterceptor: (made) => fillIn(made, spec, ui),
    deepLinking: true,
    docExpansion: "list",
    validatorUrl: null,
    onComplete: () => key && ui.preauthorizeApiKey("key", key),
  });
}

/** Have forms begin as their examples are: a field that is not in one would be filled in with anything of its type. */
function leaveEmpty(spec) {
  for (const { post } of Object.values(spec.paths)) {
    const form = post?.requestBody?.content["multipart/form-data"];
    for (const part of form?.schema.allOf ?? []) {
      const { properties } = part.$ref ? spec.components.schemas[part.$ref.split("/").pop()] : part;
      for (const [name, field] of Object.entries(properties)) {
        if (field.format === "binary") continue;
        delete field.default;
        field.example = form.example[name] ?? (field.type === "array" ? [] : "");
      }
    }
  }
}

/** Write an id where a path has one, as if it had been typed there. */
function write(ui, path, method, id) {
  ui.specActions.changeParam([path, method], "id", "path", id, false);
}

/** Give what is sent an id by which it can be cancelled while it runs. */
function identify(sent, ui) {
  const cancel = "/v1/requests/{id}/cancel";
  if (sent.method === "POST" && !sent.url.includes("/v1/requests/")) {
    const id = `docs-${Date.now()}`;
    sent.headers["X-Request-Id"] = id;
    write(ui, cancel, "post", id);
  }
  return sent;
}

/** Give the id of what was made here to all that can be done with it. */
function fillIn(made, spec, ui) {
  const makers = new URL(made.url, location.href).pathname;
  if (!made.ok || !made.obj?.id) return made;
  if (spec.paths[makers]?.post) {
    for (const [path, methods] of Object.entries(spec.paths)) {
      if (!path.startsWith(`${makers}/{id}`)) continue;
      for (const method of Object.keys(methods)) write(ui, path, method, made.obj.id);
    }
  }
  const [path, fields] = NAMED_IN[made.obj.object]?.(made.obj) || [];
  if (path) {
    const { example } = spec.paths[path].post.requestBody.content["application/json"];
    const pathMethod = [path, "post"];
    ui.oas3Actions.setRequestBodyValue({ value: JSON.stringify({ ...example, ...fields }, null, 2), pathMethod });
    ui.oas3Actions.setRetainRequestBodyValueFlag({ value: true, pathMethod });
  }
  return made;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  show(document.getElementById("key").value);
});
show("");
