// OpenAI's SDK for Node.

import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { ANSWER, KEY, MODEL, QUESTION, WEATHER, baseURL, run } from "./checks.mjs";

const client = new OpenAI({ baseURL, apiKey: KEY, maxRetries: 0 });
const asked = { model: MODEL, messages: [{ role: "user", content: QUESTION }], temperature: 0, max_tokens: 20 };
const parameters = {
  type: "object",
  properties: { city: { type: "string", enum: ["Paris", "Tokyo"] } },
  required: ["city"],
};
const called = {
  ...asked,
  messages: [{ role: "user", content: WEATHER }],
  tools: [{ type: "function", function: { name: "get_weather", parameters } }],
  tool_choice: "required",
  parallel_tool_calls: false,
  max_tokens: 60,
};

async function chat() {
  const completion = await client.chat.completions.create(asked);
  assert.equal(completion.choices[0].message.content, ANSWER);
}

async function streaming() {
  let text = "";
  for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) {
    text += chunk.choices[0].delta.content ?? "";
  }
  assert.equal(text, ANSWER);
}

async function requiredTool() {
  const completion = await client.chat.completions.create(called);
  const [call] = completion.choices[0].message.tool_calls;
  assert.equal(call.function.name, "get_weather");
  assert.ok(["Paris", "Tokyo"].includes(JSON.parse(call.function.arguments).city));
}

async function streamedTool() {
  const completion = await client.chat.completions.stream(called).finalChatCompletion();
  const [call] = completion.choices[0].message.tool_calls;
  assert.ok(["Paris", "Tokyo"].includes(JSON.parse(call.function.arguments).city));
}

async function parsedModel() {
  const capital = z.object({ city: z.enum(["Paris", "Rome"]), large: z.boolean() });
  const completion = await client.chat.completions.parse({
    ...asked,
    max_tokens: 40,
    response_format: zodResponseFormat(capital, "capital"),
  });
  capital.parse(completion.choices[0].message.parsed);
}

async function responses() {
  const answer = await client.responses.create({
    model: MODEL,
    input: QUESTION,
    temperature: 0,
    max_output_tokens: 20,
  });
  assert.equal(answer.output_text, ANSWER);
}

async function streamedResponses() {
  let text = "";
  const stream = client.responses.stream({ model: MODEL, input: QUESTION, temperature: 0, max_output_tokens: 20 });
  for await (const event of stream) if (event.type === "response.output_text.delta") text += event.delta;
  assert.equal(text, ANSWER);
}

async function embeddings() {
  const { data } = await client.embeddings.create({ model: MODEL, input: [QUESTION, WEATHER] });
  const plain = await client.embeddings.create({ model: MODEL, input: WEATHER, encoding_format: "float" });
  data[1].embedding.forEach((value, at) => assert.ok(Math.abs(value - plain.data[0].embedding[at]) < 1e-4));
}

await run(chat, streaming, requiredTool, streamedTool, parsedModel, responses, streamedResponses, embeddings);
