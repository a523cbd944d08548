// What llama.cpp thinks of texts, by node-llama-cpp: reads {model, texts: [{name, text, windows}], window, every} and
// writes, for each window of each text, its ids, some places in it, and the natural logarithm of the probability of the
// ids at those places after all before them.
// node gguf_perplexity.mjs < asked.json > told.json, in a folder where node-llama-cpp is installed.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const CHUNK = 64; // each answer has the whole vocabulary

const found = createRequire(process.cwd() + "/").resolve("node-llama-cpp");
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(found));
const { model: modelPath, texts, window, every } = JSON.parse(readFileSync(0, "utf8"));
const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath });
const context = await model.createContext({ contextSize: window, sequences: 1 });
const sequence = context.getSequence();
const windows = [];
for (const { name, text, windows: count } of texts) {
  const all = model.tokenize(text, false, "trimLeadingSpace");
  for (let start = 0; start < count * window; start += window) {
    const ids = all.slice(start, start + window);
    const places = [];
    const logprobs = [];
    await sequence.clearHistory();
    for (let at = 0; at < ids.length - 1; at += CHUNK) {
      const part = ids.slice(at, Math.min(at + CHUNK, ids.length - 1));
      const asked = part.map((id, n) => ((at + n + 1) % every ? id : [id, { generateNext: { probabilities: true } }]));
      const told = await sequence.controlledEvaluate(asked);
      told.forEach((one, n) => {
        if (one) {
          places.push(at + n + 1);
          logprobs.push(Math.log(one.next.probabilities.get(ids[at + n + 1])));
        }
      });
    }
    windows.push({ name, ids, places, logprobs });
  }
}
process.stdout.write(JSON.stringify({ llama_cpp: llama.llamaCppRelease.release, windows }));
await llama.dispose();
