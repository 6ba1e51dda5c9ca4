// A SCIM 2.0 server built on scimmy and scimmy-routers, in memory, loopback only.
// Prints its base URL when it is ready. Environment: TOKEN.
import { randomUUID } from "node:crypto";
import express from "express";
import SCIMMY from "scimmy";
import SCIMMYRouters from "scimmy-routers";

const { Error: Refusal } = SCIMMY.Types;
const copy = (value) => JSON.parse(JSON.stringify(value));

/** Store keeps the resources of one kind, with a unique name where the kind has one. */
class Store {
  #byId = new Map();
  constructor(name, unique) { this.name = name; this.unique = unique; }
  get(id) {
    const found = this.#byId.get(id);
    if (!found) throw new Refusal(404, null, `Resource ${id} not found`);
    return found;
  }
  all() { return [...this.#byId.values()]; }
  save(id, data) {
    const wanted = String(data[this.name] ?? "").toLowerCase();
    const taken = this.unique && this.all().some((r) => r.id !== id && String(r[this.name]).toLowerCase() === wanted);
    if (taken) throw new Refusal(409, "uniqueness", `${this.name} is in use`);
    const now = new Date().toISOString();
    const created = id ? this.get(id).meta.created : now;
    const saved = { ...copy(data), id: id ?? randomUUID(), meta: { created, lastModified: now } };
    this.#byId.set(saved.id, saved);
    return saved;
  }
  remove(id) { this.get(id); this.#byId.delete(id); }
}

const users = new Store("userName", true);
const groups = new Store("displayName", false);
SCIMMY.Resources.User.extend(SCIMMY.Schemas.EnterpriseUser, false);

const declare = (resource, store, removed = () => {}) => SCIMMY.Resources.declare(resource)
  .ingress((request, data) => store.save(request.id, data))
  .egress((request) => {
    if (request.id) return store.get(request.id);
    return request.filter ? request.filter.match(store.all()) : store.all();
  })
  .degress((request) => { store.remove(request.id); removed(request.id); });

// A deleted user is a member no longer.
declare(SCIMMY.Resources.User, users, (id) => {
  for (const group of groups.all()) group.members = (group.members ?? []).filter((m) => m.value !== id);
});
declare(SCIMMY.Resources.Group, groups);

const app = express();
app.use("/scim/v2", new SCIMMYRouters({
  type: "bearer",
  handler: (request) => {
    if (request.header("Authorization") !== `Bearer ${process.env.TOKEN}`) throw new Error("wrong token");
    return "rollcall";
  },
}));
const server = app.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/scim/v2`));
