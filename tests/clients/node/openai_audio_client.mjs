// OpenAI's SDK for Node, with models that speak and hear: what is spoken to a file is heard from it.

import assert from "node:assert/strict";
import { createReadStream, mkdtempSync, rmSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { ANSWER, KEY, baseURL, run } from "./checks.mjs";

const client = new OpenAI({ baseURL, apiKey: KEY, maxRetries: 0 });
const folder = mkdtempSync(join(tmpdir(), "spoken-"));
const path = join(folder, "answer.mp3");
const recording = () => ({ model: "whisper-1", file: createReadStream(path) });

async function speechToFile() {
  const sound = await client.audio.speech.create({ model: "tts-1", voice: "alloy", input: ANSWER });
  assert.equal(sound.headers.get("content-type"), "audio/mpeg");
  await writeFile(path, Buffer.from(await sound.arrayBuffer()));
}

async function transcriptionOfFileStream() {
  const heard = await client.audio.transcriptions.create(recording());
  assert.equal(heard.text, ANSWER);
  assert.equal(heard.usage.type, "duration");
}

async function streamedTranscription() {
  let text = "";
  let done;
  for await (const event of await client.audio.transcriptions.create({ ...recording(), stream: true })) {
    if (event.type === "transcript.text.delta") text += event.delta;
    else done = event;
  }
  assert.equal(done.type, "transcript.text.done");
  assert.equal(done.text, text);
  assert.equal(text, ANSWER);
}

async function timesOfWords() {
  const heard = await client.audio.transcriptions.create({
    ...recording(),
    response_format: "verbose_json",
    timestamp_granularities: ["word", "segment"],
  });
  assert.equal(heard.words.map(({ word }) => word).join(" "), ANSWER);
  heard.words.forEach(({ start, end }) => assert.ok(0 <= start && start <= end && end <= heard.duration + 0.5));
  assert.equal(heard.segments[0].text.trim(), ANSWER);
}

async function subtitles() {
  const heard = await client.audio.transcriptions.create({ ...recording(), response_format: "srt" });
  assert.match(heard, /^1\n00:00:0\d,\d{3} --> 00:00:0\d,\d{3}\nThe capital/);
}

try {
  await run(speechToFile, transcriptionOfFileStream, streamedTranscription, timesOfWords, subtitles);
} finally {
  rmSync(folder, { recursive: true });
}
