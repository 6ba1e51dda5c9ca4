// better-auth's SCIM plug-in in memory, as its documentation has it. TOKEN is the
// bearer token; the URL is printed when it listens.
import http from "node:http";
import { scim } from "@better-auth/scim";
import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { toNodeHandler } from "better-auth/node";

const plugin = scim({ connections: [{ id: "rollcall", credentials: [{ type: "bearer", id: "rollcall", token: process.env.TOKEN }] }] });
const models = ["user", "session", "account", "verification", ...Object.entries(plugin.schema).map(([name, model]) => model.modelName ?? name)];
let handle;
const server = http.createServer((req, res) => handle(req, res));
server.listen(0, "127.0.0.1", () => {
  const base = `http://127.0.0.1:${server.address().port}`;
  const auth = betterAuth({
    database: memoryAdapter(Object.fromEntries(models.map((name) => [name, []]))),
    secret: "a secret of tests, of which nothing depends",
    baseURL: base,
    emailAndPassword: { enabled: true },
    rateLimit: { enabled: false },
    logger: { level: "error" },
    plugins: [plugin],
  });
  handle = toNodeHandler(auth);
  console.log(`${base}/api/auth/scim/v2`);
});
