// What the clients' scripts share: the questions they ask, and `run`, which a script ends with.

export const QUESTION = "What is the capital of France?";
export const ANSWER = "The capital of France is Paris.";
export const WEATHER = "What is the weather in Paris?";
export const MODEL = "any-name-will-do";
export const KEY = "not-needed";
export const baseURL = process.argv[2];

/** Call each check, and print the names of all as JSON. */
export async function run(...checks) {
  for (const check of checks) await check();
  const words = (name) => name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
  console.log(JSON.stringify(checks.map((check) => words(check.name))));
}
