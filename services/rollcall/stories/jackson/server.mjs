// The directory synchronization of SAML Jackson (Polis) in memory, as its
// documentation has it. TOKEN is the bearer token. Two URLs are printed when it
// listens: that of SCIM, and one below which the groups are listed with their members,
// which SCIM does not show there.
import http from "node:http";
import jackson from "@boxyhq/saml-jackson";

const quiet = { info() {}, warn() {}, error: console.error };
const { directorySyncController: sync } = await jackson.default({
  externalUrl: "http://127.0.0.1", samlAudience: "https://saml.example.com", samlPath: "/saml", scimPath: "/scim",
  db: { engine: "mem", pageLimit: 1000 }, noAnalytics: true, logger: quiet,
});
const { data: directory, error } = await sync.directories.create({ tenant: "example", product: "wiki", type: "generic-scim-v2" });
if (error) throw new Error(error.message);
const groups = sync.groups.setTenantAndProduct("example", "wiki");

// scim lets Jackson answer one request.
async function scim(req, url, body) {
  const [, , resourceType, resourceId] = url.pathname.split("/");
  const token = (req.headers.authorization ?? "").replace(/^Bearer /, "");
  return sync.requests.handle({
    method: req.method, body, directoryId: directory.id, resourceType, resourceId,
    apiSecret: token === process.env.TOKEN ? directory.scim.secret : token,
    query: {
      count: url.searchParams.has("count") ? Number(url.searchParams.get("count")) : undefined,
      startIndex: url.searchParams.has("startIndex") ? Number(url.searchParams.get("startIndex")) : undefined,
      filter: url.searchParams.get("filter") ?? undefined,
    },
  }, async () => {}); // nobody hears of the events
}

// state lists what is there, members included, but for the ids of deleted users, which
// Jackson keeps in its groups.
async function state(req, url, body) {
  const answer = await scim(req, url, body);
  const users = await sync.users.setTenantAndProduct("example", "wiki").getAll({ directoryId: directory.id });
  const there = new Set(users.data.map((user) => user.id));
  for (const group of url.pathname === "/state/Groups" ? answer.data.Resources : []) {
    const { data } = await groups.getGroupMembers({ groupId: group.id });
    group.members = data.filter((member) => there.has(member.user_id)).map((member) => ({ value: member.user_id }));
  }
  return answer;
}

const server = http.createServer(async (req, res) => {
  const url = new URL(req.url, "http://127.0.0.1");
  let text = "";
  for await (const part of req) text += part;
  const answer = await (url.pathname.startsWith("/state/") ? state : scim)(req, url, text ? JSON.parse(text) : undefined);
  res.writeHead(answer.status, { "Content-Type": "application/scim+json" });
  res.end(answer.status === 204 ? undefined : JSON.stringify(answer.data ?? {}));
});
server.listen(0, "127.0.0.1", () => {
  const base = `http://127.0.0.1:${server.address().port}`;
  console.log(`${base}/scim ${base}/state`);
});
