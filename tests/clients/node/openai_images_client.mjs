// OpenAI's SDK for Node, with a model that draws.

import assert from "node:assert/strict";
import OpenAI, { toFile } from "openai";
import { KEY, baseURL, run } from "./checks.mjs";

const client = new OpenAI({ baseURL, apiKey: KEY, maxRetries: 0 });
const asked = { model: "gpt-image-1", prompt: "a red circle at the top left" };
const PNG = Buffer.from("89504e470d0a1a0a", "hex");
const read = (base64) => Buffer.from(base64, "base64");
const isPng = (file) => assert.deepEqual(file.subarray(0, PNG.length), PNG);

async function inBase64() {
  const { data, usage } = await client.images.generate({ ...asked, n: 2, response_format: "b64_json" });
  assert.equal(data.length, 2);
  data.forEach(({ b64_json, url }) => {
    isPng(read(b64_json));
    assert.equal(url, undefined);
  });
  assert.equal(usage.output_tokens, 32);
}

async function byUrl() {
  const { data } = await client.images.generate({ ...asked, response_format: "url" });
  const answer = await fetch(data[0].url);
  assert.equal(answer.headers.get("content-type"), "image/png");
  isPng(Buffer.from(await answer.arrayBuffer()));
}

async function streamedPictures() {
  const types = [];
  for await (const event of await client.images.generate({ ...asked, stream: true, partial_images: 2 })) {
    types.push(event.type);
    isPng(read(event.b64_json));
  }
  const partial = "image_generation.partial_image";
  assert.deepEqual(types, [partial, partial, "image_generation.completed"]);
}

async function edit() {
  const { data } = await client.images.generate(asked);
  const image = await toFile(read(data[0].b64_json), "circle.png", { type: "image/png" });
  const changed = await client.images.edit({ ...asked, image, prompt: "a blue square on the right" });
  assert.equal(changed.size, "64x64");
  isPng(read(changed.data[0].b64_json));
}

await run(inBase64, byUrl, streamedPictures, edit);
