// Vercel's AI SDK, with its provider for OpenAI-compatible servers.

import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany as makeEmbeddings, generateObject as makeObject, generateText as makeText, streamText as makeStream, tool } from "ai";
import { z } from "zod";
import { ANSWER, KEY, MODEL, QUESTION, WEATHER, baseURL, run } from "./checks.mjs";

const local = createOpenAICompatible({
  name: "local",
  baseURL,
  apiKey: KEY,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const asked = { model: local(MODEL), prompt: QUESTION, temperature: 0, maxOutputTokens: 20, maxRetries: 0 };
const getWeather = tool({
  description: "Tell the weather in a city.",
  inputSchema: z.object({ city: z.enum(["Paris", "Tokyo"]) }),
  execute: async ({ city }) => `It rains in ${city}.`,
});
const called = {
  ...asked,
  prompt: WEATHER,
  tools: { getWeather },
  toolChoice: "required",
  maxOutputTokens: 60,
  // What the SDK does not know of goes through under the provider's name.
  providerOptions: { local: { parallel_tool_calls: false } },
};

async function generateText() {
  assert.equal((await makeText(asked)).text, ANSWER);
}

async function streamText() {
  const stream = makeStream({ ...asked, onError: ({ error }) => { throw error; } });
  let text = "";
  for await (const piece of stream.textStream) text += piece;
  assert.equal(text, ANSWER);
  assert.equal((await stream.usage).outputTokens, 8);
}

async function generateObject() {
  const schema = z.object({ city: z.enum(["Paris", "Rome"]), large: z.boolean() });
  const { object } = await makeObject({ ...asked, schema, maxOutputTokens: 40 });
  schema.parse(object);
}

async function requiredTool() {
  const { toolResults } = await makeText(called);
  assert.match(toolResults[0].output, /^It rains in (Paris|Tokyo)\.$/);
}

async function streamedTool() {
  const stream = makeStream(called);
  await stream.consumeStream();
  const [result] = await stream.toolResults;
  assert.match(result.output, /^It rains in (Paris|Tokyo)\.$/);
}

async function embedMany() {
  const model = local.textEmbeddingModel(MODEL);
  const { embeddings, usage } = await makeEmbeddings({ model, values: [QUESTION, WEATHER] });
  assert.equal(embeddings[0].length, embeddings[1].length);
  assert.equal(usage.tokens, 14);
}

await run(generateText, streamText, generateObject, requiredTool, streamedTool, embedMany);
