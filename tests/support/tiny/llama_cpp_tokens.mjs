// What llama.cpp makes of texts, by node-llama-cpp: reads {files: {name: path}, texts} and writes {llama_cpp, ids, endings}.
// node llama_cpp_tokens.mjs < asked.json > told.json, in a folder where node-llama-cpp is installed.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const found = createRequire(process.cwd() + "/").resolve("node-llama-cpp");
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(found));
const { files, texts } = JSON.parse(readFileSync(0, "utf8"));
const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error });
const ids = {};
const endings = {};
for (const [name, modelPath] of Object.entries(files)) {
  const model = await llama.loadModel({ modelPath, vocabOnly: true });
  ids[name] = texts.map((text) => model.tokenize(text, false, "trimLeadingSpace"));
  const tokens = model.fileInfo.metadata.tokenizer.ggml.tokens;
  endings[name] = tokens.flatMap((_, id) => (model.isEogToken(id) ? [id] : []));
  await model.dispose();
}
process.stdout.write(JSON.stringify({ llama_cpp: llama.llamaCppRelease.release, ids, endings }));
