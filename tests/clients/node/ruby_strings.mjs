/** `node ruby_strings.mjs FILE`: what Ruby's own parser finds wrong with a file, and the strings that are in it. */

import { readFile } from "node:fs/promises";
import { loadPrism, Visitor } from "@ruby/prism";

class Strings extends Visitor {
  found = [];

  visitStringNode(node) {
    this.found.push(node.unescaped.value);
  }
}

const parse = await loadPrism();
const { value, errors, warnings } = parse(await readFile(process.argv[2], "utf-8"));
const strings = new Strings();
strings.visit(value);
const problems = [...errors, ...warnings].map((one) => one.message);
console.log(JSON.stringify({ problems, strings: strings.found }));
