// Reads {resource, operations} line by line and answers each with {resource} or {error}.
import { createInterface } from "node:readline";
import { scimPatch } from "scim-patch";

for await (const line of createInterface({ input: process.stdin })) {
  const { resource, operations } = JSON.parse(line);
  let answer;
  try {
    answer = { resource: scimPatch(resource, operations) };
  } catch (error) {
    answer = { error: String(error.message ?? error) };
  }
  console.log(JSON.stringify(answer));
}
