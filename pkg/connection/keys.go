package connection

import "github.com/rollcall-scim/rollcall/pkg/scim"

// form is what the text of a key must look like, beyond its type.
type form int

const (
	formAny form = iota
	formDN
	formFilter
	formListen
	formLDAPURL
	formTargetURL
	formNATSURL
	formHTTPURL
	formAttribute   // an LDAP attribute
	formUserBool    // a CEL expression over a user, never absent
	formGroupBool   // a CEL expression over a group, never absent
	formUserValue   // a CEL expression over a user
	formGroupValue  // a CEL expression over a group
	formPath        // a SCIM attribute path
	formName        // a name of a connection
	formCredentials // a secret in a file
)

// expression reports whether the form is CEL, which may be written without
// quotes even when it looks like a number or a bool.
func (f form) expression() bool {
	return f == formUserBool || f == formGroupBool || f == formUserValue || f == formGroupValue
}

// key describes one key of the file. It is the source of the checks, of the JSON
// Schema and of the reference in the documentation.
type key struct {
	path     string // <name> stands for any name, <path> for any SCIM path
	meaning  string
	required bool
	enum     []string
	min, max float64 // for numbers and, in seconds, durations; no limit when both are 0
	zero     bool    // 0 is allowed besides the range
	form     form
}

// hour in seconds, the unit of limits on durations.
const (
	minute  = 60
	hour    = 60 * minute
	century = 100 * 365 * 24 * hour
)

// over is where a connection changes its target's profile.
const over = "connections.<name>.target.overrides."

// keys returns the description of every key, in the order of the file.
func keys() []key {
	return []key{
		{path: "nats", meaning: "The message bus."},
		{path: "nats.url", meaning: "Addresses of the NATS servers, separated by commas. Empty: the embedded server, in `rollcall run` only.", form: formNATSURL},
		{path: "nats.credentials", meaning: "`${file:/path}` of the .creds file, or of a file with an nkey seed.", form: formCredentials},
		{path: "nats.data_dir", meaning: "Directory of the embedded server's data and of the address by which commands find it."},
		{path: "nats.replicas", meaning: "Replicas of streams and buckets: 1, or 3 or 5 in a cluster.", enum: []string{"1", "3", "5"}},

		{path: "sources", meaning: "Parts of LDAP directories, by name.", required: true},
		{path: "sources.<name>", meaning: "One part of a directory. The name has 1 to 32 of a-z, 0-9 and hyphen."},
		{path: "sources.<name>.ldap", meaning: "How to reach the directory.", required: true},
		{path: "sources.<name>.ldap.urls", meaning: "ldaps:// or ldap:// addresses, tried in order.", required: true, form: formLDAPURL},
		{path: "sources.<name>.ldap.start_tls", meaning: "Switch ldap:// connections to TLS before anything else is sent."},
		{path: "sources.<name>.ldap.ca_file", meaning: "PEM file of the authorities to trust instead of the system's."},
		{path: "sources.<name>.ldap.client_certificate", meaning: "PEM file of the client certificate."},
		{path: "sources.<name>.ldap.client_key", meaning: "PEM file of the client certificate's key."},
		{path: "sources.<name>.ldap.bind_dn", meaning: "Who to bind as. Empty: anonymous, or by the client certificate.", form: formDN},
		{path: "sources.<name>.ldap.bind_password", meaning: "`${file:/path}` or `${env:NAME}` of the password."},
		{path: "sources.<name>.ldap.insecure", meaning: "Allow a bind without TLS to another host."},
		{path: "sources.<name>.ldap.connect_timeout", meaning: "How long a connection and its bind may take.", min: 0.1, max: hour},
		{path: "sources.<name>.ldap.read_timeout", meaning: "How long the server may stay silent during a search.", min: 1, max: 24 * hour},
		{path: "sources.<name>.ldap.page_size", meaning: "Entries of one page of a search.", min: 1, max: 100_000},
		{path: "sources.<name>.preset", meaning: "Kind of directory: brings the values below and the default mapping.", enum: presetNames()},
		{path: "sources.<name>.id", meaning: "Where an entry's identity stands; it survives renames."},
		{path: "sources.<name>.id.attribute", meaning: "Attribute that holds the directory's GUID.", form: formAttribute},
		{path: "sources.<name>.id.encoding", meaning: "How the GUID is written.", enum: []string{EncodingText, EncodingBytes, EncodingMicrosoft}},
		{path: "sources.<name>.detection", meaning: "How changes are found."},
		{path: "sources.<name>.detection.mode", meaning: "`auto` asks the server what it can do and logs its choice. docs/operations.md says what each mode needs.", enum: []string{ModeAuto, ModeSnapshot, ModeSyncrepl, ModeDirSync, ModeUSN, ModeTimestamp}},
		{path: "sources.<name>.detection.interval", meaning: "Time between two reads of everything (`snapshot`) or of what changed (`dirsync`, `usn`, `timestamp`).", min: 1, max: 24 * hour},
		{path: "sources.<name>.detection.sweep_interval", meaning: "Time between two full reads, in every mode.", min: minute, max: 30 * 24 * hour},
		{path: "sources.<name>.users", meaning: "Which entries are users, and which of them are in scope."},
		{path: "sources.<name>.users.base_dns", meaning: "Where users are.", required: true, form: formDN},
		{path: "sources.<name>.users.filter", meaning: "LDAP filter that a user matches; see below what it can ask.", form: formFilter},
		{path: "sources.<name>.users.scope_groups", meaning: "DNs of groups whose members are in scope. Empty: every user.", form: formDN},
		{path: "sources.<name>.users.nested", meaning: "Members of member groups count, too."},
		{path: "sources.<name>.users.exclude", meaning: "DNs that are left out, with everything below them, even a base.", form: formDN},
		{path: "sources.<name>.users.member_of", meaning: "Attribute that holds membership on the user's side, where the group does not.", form: formAttribute},
		{path: "sources.<name>.users.primary_group", meaning: "Attribute that holds the end of the `objectSid` of a user's primary group, of which the user is a member though neither names the other. Empty: none, as in every preset but `active-directory`, which has `primaryGroupID`.", form: formAttribute},
		{path: "sources.<name>.users.enabled", meaning: "Expression: whether a user is enabled. It cannot be absent.", form: formUserBool},
		{path: "sources.<name>.groups", meaning: "Which entries are groups, and which of them are in scope."},
		{path: "sources.<name>.groups.base_dns", meaning: "Where groups are. Needed by connections that have `groups`.", form: formDN},
		{path: "sources.<name>.groups.filter", meaning: "LDAP filter that a group matches; see below what it can ask.", form: formFilter},
		{path: "sources.<name>.groups.scope_groups", meaning: "DNs of groups whose member groups are in scope. Empty: every group.", form: formDN},
		{path: "sources.<name>.groups.exclude", meaning: "DNs that are left out, with everything below them.", form: formDN},
		{path: "sources.<name>.groups.members", meaning: "Attribute that holds the members.", form: formAttribute},
		{path: "sources.<name>.groups.member_values", meaning: "What the values of that attribute are.", enum: []string{MemberDN, MemberID, MemberUID}},
		{path: "sources.<name>.groups.nested", meaning: "Groups in groups: kept as members, replaced by their users, or left out.", enum: []string{NestedPreserve, NestedFlatten, NestedIgnore}},
		{path: "sources.<name>.guard", meaning: "What may leave the source without a person's approval."},
		{path: "sources.<name>.guard.max_removals", meaning: "More removals than this, in one pass or in the window, are held.", max: 1e9},
		{path: "sources.<name>.guard.max_removal_percent", meaning: "More removals than 5 and this percentage are held.", max: 100},
		{path: "sources.<name>.guard.window", meaning: "The window over which removals are counted.", min: minute, max: 365 * 24 * hour},

		{path: "connections", meaning: "Targets that are kept equal to a source, by name.", required: true},
		{path: "connections.<name>", meaning: "One target. The name has 1 to 32 of a-z, 0-9 and hyphen; links and history belong to it."},
		{path: "connections.<name>.source", meaning: "Name of the source. It cannot change while there are links.", required: true},
		{path: "connections.<name>.renamed_from", meaning: "Earlier name of this connection, whose links it takes over when the services start.", form: formName},
		{path: "connections.<name>.target", meaning: "The SCIM 2.0 service.", required: true},
		{path: "connections.<name>.target.url", meaning: "Base address, before /Users. One connection for each. It cannot change while a link names a resource there.", required: true, form: formTargetURL},
		{path: "connections.<name>.target.profile", meaning: "The target's ways; see targets.md.", enum: scim.ProfileNames()},
		{path: "connections.<name>.target.overrides", meaning: "What this target does otherwise than its profile says."},
		{path: over + "patch", meaning: "PATCH of a user works; otherwise changes are sent by PUT."},
		{path: over + "patch_only", meaning: "Attributes of a user that PATCH can change; the others are sent by PUT. Empty: all.", form: formPath},
		{path: over + "put", meaning: "PUT of a user works. Without it, what PATCH cannot change is sent at the creation alone."},
		{path: over + "extension_patch", meaning: "How PATCH names an attribute of an extension: by its URN path, in an object under the URN that holds all that is mapped of it, or not at all, so that PUT is used.", enum: []string{scim.ExtensionByPath, scim.ExtensionNested, scim.ExtensionByPut}},
		{path: over + "bool_as_string", meaning: "Send `active` as \"True\" and \"False\"."},
		{path: over + "group_patch", meaning: "PATCH of a group works; otherwise changes are sent by PUT."},
		{path: over + "group_put", meaning: "PUT of a group works, and keeps the members in its body."},
		{path: over + "max_members", meaning: "Member changes in one PATCH.", min: 1, max: 100_000},
		{path: over + "max_members_on_create", meaning: "Members in the body of a POST or PUT. 0: as many as in a PATCH.", max: 100_000},
		{path: over + "members_on_create", meaning: "POST of a group keeps the members in its body; otherwise they are added afterwards."},
		{path: over + "members_readable", meaning: "Whether a read of a group returns its members: always, only where they are asked for by name, or never.", enum: []string{scim.ReadableYes, scim.ReadableOnRequest, scim.ReadableNo}},
		{path: over + "member_remove_vouched", meaning: "It is known that the removal of one member leaves the others, so that it need not be tried on a throwaway group first."},
		{path: over + "omit_members_on_write", meaning: "Ask for answers without members when a group is written. Some targets lose the other members by it: try it first."},
		{path: over + "unique", meaning: "Attribute of a user of which the target refuses a second one, so that a user is created without a look-up first; `none` where there is none.", form: formPath},
		{path: over + "case_sensitive", meaning: "The target compares userName exactly: a look-up tries it in lower case, too, and comes before a creation."},
		{path: over + "filter", meaning: "A listing can be filtered. Otherwise a look-up reads the whole listing."},
		{path: over + "lookup", meaning: "SCIM path to the path by which a filter names it, where they differ: `emails.value: emails`."},
		{path: over + "lookup.<path>", meaning: "The path in the filter.", form: formPath},
		{path: over + "external_id", meaning: "The target keeps externalId as it was sent."},
		{path: over + "attributes", meaning: "Attributes that the target has besides those of RFC 7643: a mapping of them is no misspelling.", form: formPath},
		{path: over + "drop", meaning: "Attributes that are never sent.", form: formPath},
		{path: over + "immutable", meaning: "Attributes that are sent at the creation alone.", form: formPath},
		{path: over + "proof", meaning: "What shows that a PATCH, PUT or DELETE was done: the answer, which is 204, the resource, or for DELETE nothing; or the status alone, for a target that answers with something else and is known never to answer 2xx to what it refused.", enum: []string{scim.ProofByAnswer, scim.ProofByStatus}},
		{path: over + "delete", meaning: "What DELETE of a user does.", enum: []string{scim.DeleteDeletes, scim.DeleteDisables}},
		{path: over + "page_size", meaning: "Resources on one page of a listing.", min: 1, max: 10_000},
		{path: over + "cursor", meaning: "List by cursor (RFC 9865) instead of by index."},
		{path: over + "rates", meaning: "Limits on kinds of calls over all replicas, besides `target.rate`."},
		{path: over + "rates.user-create", meaning: "Limit on creations of users."},
		{path: over + "rates.user-create.requests_per_second", meaning: "Calls in a second. 0: no limit.", max: 100_000},
		{path: over + "rates.user-create.burst", meaning: "Calls that may be made at once after a pause.", max: 100_000},
		{path: over + "rates.user-write", meaning: "Limit on changes of users."},
		{path: over + "rates.user-write.requests_per_second", meaning: "Calls in a second. 0: no limit.", max: 100_000},
		{path: over + "rates.user-write.burst", meaning: "Calls that may be made at once after a pause.", max: 100_000},
		{path: over + "rates.user-delete", meaning: "Limit on deletions of users."},
		{path: over + "rates.user-delete.requests_per_second", meaning: "Calls in a second. 0: no limit.", max: 100_000},
		{path: over + "rates.user-delete.burst", meaning: "Calls that may be made at once after a pause.", max: 100_000},
		{path: over + "rates.group-patch", meaning: "Limit on writes of groups."},
		{path: over + "rates.group-patch.requests_per_second", meaning: "Calls in a second. 0: no limit.", max: 100_000},
		{path: over + "rates.group-patch.burst", meaning: "Calls that may be made at once after a pause.", max: 100_000},
		{path: over + "rates.read", meaning: "Limit on reads."},
		{path: over + "rates.read.requests_per_second", meaning: "Calls in a second. 0: no limit.", max: 100_000},
		{path: over + "rates.read.burst", meaning: "Calls that may be made at once after a pause.", max: 100_000},
		{path: over + "retry_403", meaning: "A 403 means too many calls, also without Retry-After."},
		{path: over + "user_agent", meaning: "User-Agent of the calls. Empty: Rollcall's own."},
		{path: over + "max_body_bytes", meaning: "Largest body of a request. 0: no limit.", max: 1e9},
		{path: "connections.<name>.target.users_path", meaning: "Path of the users below the address. Empty: /Users."},
		{path: "connections.<name>.target.groups_path", meaning: "Path of the groups below the address. Empty: /Groups."},
		{path: "connections.<name>.target.auth", meaning: "How Rollcall authenticates; one of the keys below, none of them is `none`."},
		{path: "connections.<name>.target.auth.none", meaning: "No authentication: `none: {}`."},
		{path: "connections.<name>.target.auth.basic", meaning: "HTTP Basic."},
		{path: "connections.<name>.target.auth.basic.username", meaning: "User name."},
		{path: "connections.<name>.target.auth.basic.password", meaning: "`${file:/path}` or `${env:NAME}` of the password."},
		{path: "connections.<name>.target.auth.bearer", meaning: "A bearer token that does not change by itself."},
		{path: "connections.<name>.target.auth.bearer.token", meaning: "`${file:/path}` or `${env:NAME}` of the token."},
		{path: "connections.<name>.target.auth.bearer.scheme", meaning: "The word before the token. Empty: Bearer."},
		{path: "connections.<name>.target.auth.oauth2_client_credentials", meaning: "OAuth 2.0 client credentials (RFC 6749 section 4.4). The token is kept until it ends, and asked for anew when the target refuses it."},
		{path: "connections.<name>.target.auth.oauth2_client_credentials.token_url", meaning: "Address of the token endpoint.", form: formHTTPURL},
		{path: "connections.<name>.target.auth.oauth2_client_credentials.client_id", meaning: "Id of the client."},
		{path: "connections.<name>.target.auth.oauth2_client_credentials.client_secret", meaning: "`${file:/path}` or `${env:NAME}` of the client's secret."},
		{path: "connections.<name>.target.auth.oauth2_client_credentials.scopes", meaning: "Scopes to ask for."},
		{path: "connections.<name>.target.auth.oauth2_client_credentials.audience", meaning: "Audience to ask for, where the authorization server wants one."},
		{path: "connections.<name>.target.auth.oauth2_client_credentials.style", meaning: "Where the client's id and secret are sent: in the `header`, or in the `body`. Empty: header.", enum: []string{"header", "body"}},
		{path: "connections.<name>.target.auth.header", meaning: "A secret in a header of its own."},
		{path: "connections.<name>.target.auth.header.name", meaning: "Name of the header, such as X-Api-Key."},
		{path: "connections.<name>.target.auth.header.value", meaning: "`${file:/path}` or `${env:NAME}` of the value."},
		{path: "connections.<name>.target.auth.mtls", meaning: "A client certificate, alone or beside another way. The files are read again when they change."},
		{path: "connections.<name>.target.auth.mtls.certificate", meaning: "PEM file of the certificate, with those between it and the authority."},
		{path: "connections.<name>.target.auth.mtls.key", meaning: "PEM file of its key."},
		{path: "connections.<name>.target.rate", meaning: "Limit on the calls, over all replicas. Without this key: the profile's, or 10 calls in a second."},
		{path: "connections.<name>.target.rate.requests_per_second", meaning: "Calls in a second. 0: no limit.", max: 100_000},
		{path: "connections.<name>.target.rate.burst", meaning: "Calls that may be made at once after a pause.", min: 1, max: 100_000},
		{path: "connections.<name>.target.concurrency", meaning: "Calls in flight, over all replicas.", min: 1, max: 1000},
		{path: "connections.<name>.target.insecure", meaning: "Allow http:// to another host."},
		{path: "connections.<name>.target.ca_file", meaning: "PEM file of the authorities to trust instead of the system's. It is read again when it changes."},
		{path: "connections.<name>.target.proxy", meaning: "Proxy for the calls, such as http://proxy.example.com:3128. Empty: as HTTPS_PROXY and NO_PROXY say.", form: formHTTPURL},
		{path: "connections.<name>.scope", meaning: "Expression: which of the source's users are in this connection. It cannot be absent. Empty: all.", form: formUserBool},
		{path: "connections.<name>.users", meaning: "What is done with users."},
		{path: "connections.<name>.users.match", meaning: "SCIM attributes by which an existing user is found, in order.", form: formPath},
		{path: "connections.<name>.users.create", meaning: "Create users."},
		{path: "connections.<name>.users.update", meaning: "Update users."},
		{path: "connections.<name>.users.remove", meaning: "What happens to a user that is deleted or out of scope.", enum: []string{RemoveDisable, RemoveDelete, RemoveKeep}},
		{path: "connections.<name>.users.disabled", meaning: "What happens to a user that is disabled in the directory: disable it, or handle it as `users.remove` says for a user that is deleted or out of scope.", enum: []string{DisabledDisable, DisabledRemove}},
		{path: "connections.<name>.users.reactivate", meaning: "Which inactive accounts become active when their user is enabled in the directory: all of them (`always`), or only those that Rollcall itself disabled (`ours`).", enum: []string{ReactivateAlways, ReactivateOurs}},
		{path: "connections.<name>.users.vanished", meaning: "What happens when the target no longer has a user that it had: create it again, or leave it until a person says `rollcall parked retry`.", enum: []string{VanishedCreate, VanishedLeave}},
		{path: "connections.<name>.users.delete_after", meaning: "With `remove: disable`: delete a user that is gone or out of scope this long after it was disabled. A user that returns in time stays. A user that is only disabled in the directory is deleted by it only with `disabled: remove`. Empty: never.", min: minute, max: century, zero: true},
		{path: "connections.<name>.users.provision_disabled", meaning: "Create users that are disabled, as disabled ones. Without it they are only matched with an account that they have, which is disabled."},
		{path: "connections.<name>.users.attributes", meaning: "The mapping: SCIM path to expression. Empty: the preset's."},
		{path: "connections.<name>.users.attributes.<path>", meaning: "An expression, or an object with the keys below."},
		{path: "connections.<name>.users.attributes.<path>.value", meaning: "Expression: the value. Absent clears the attribute; externalId is the entry id then.", required: true, form: formUserValue},
		{path: "connections.<name>.users.attributes.<path>.on", meaning: "When it is sent: always, or only when the user is created.", enum: []string{OnAlways, OnCreate}},
		{path: "connections.<name>.users.attributes.<path>.mask", meaning: "Never show the value in logs and outcomes."},
		{path: "connections.<name>.users.attributes.<path>.default", meaning: "Text that is sent where the expression is absent."},
		{path: "connections.<name>.groups", meaning: "What is done with groups. Without this key: users only."},
		{path: "connections.<name>.groups.scope", meaning: "Expression: which of the source's groups are in this connection. It cannot be absent. Empty: all.", form: formGroupBool},
		{path: "connections.<name>.groups.create", meaning: "Create groups."},
		{path: "connections.<name>.groups.update", meaning: "Update groups and their members."},
		{path: "connections.<name>.groups.remove", meaning: "What happens to a group that is deleted or out of scope.", enum: []string{RemoveDelete, RemoveKeep}},
		{path: "connections.<name>.groups.vanished", meaning: "The same for a group.", enum: []string{VanishedCreate, VanishedLeave}},
		{path: "connections.<name>.groups.name", meaning: "Expression: the displayName.", form: formGroupValue},
		{path: "connections.<name>.groups.match", meaning: "SCIM attributes by which an existing group is found, in order.", form: formPath},
		{path: "connections.<name>.groups.attributes", meaning: "Further attributes: SCIM path to expression."},
		{path: "connections.<name>.groups.attributes.<path>", meaning: "An expression, or an object with the keys below."},
		{path: "connections.<name>.groups.attributes.<path>.value", meaning: "Expression: the value. Absent clears the attribute; externalId is the entry id then.", required: true, form: formGroupValue},
		{path: "connections.<name>.groups.attributes.<path>.on", meaning: "When it is sent: always, or only when the group is created.", enum: []string{OnAlways, OnCreate}},
		{path: "connections.<name>.groups.attributes.<path>.mask", meaning: "Never show the value in logs and outcomes."},
		{path: "connections.<name>.groups.attributes.<path>.default", meaning: "Text that is sent where the expression is absent."},
		{path: "connections.<name>.guard", meaning: "What may be removed on the target without a person's approval; see `rollcall held`."},
		{path: "connections.<name>.guard.max_removals", meaning: "More removals than this, in one pass or in the window, are held.", max: 1e9},
		{path: "connections.<name>.guard.max_removal_percent", meaning: "More removals than 5 and this percentage are held.", max: 100},
		{path: "connections.<name>.guard.window", meaning: "The window over which removals are counted.", min: minute, max: 365 * 24 * hour},
		{path: "connections.<name>.guard.first_run", meaning: "What happens to the removals and activations of a first run, and of what a new configuration adopts: `hold` keeps them for an approval (`rollcall held`), `flow` carries them out at once.", enum: []string{FirstRunHold, FirstRunFlow}},
		{path: "connections.<name>.dry_run", meaning: "Compute, count and record every action, and send none."},
		{path: "connections.<name>.drift", meaning: "Comparing the target with what was last applied; see operations.md."},
		{path: "connections.<name>.drift.interval", meaning: "Time between two comparisons. 0: only on demand.", min: minute, max: 365 * 24 * hour, zero: true},
		{path: "connections.<name>.drift.repair", meaning: "Repair what differs, instead of only reporting it."},

		{path: "workers", meaning: "The work of one replica."},
		{path: "workers.concurrency", meaning: "Entries in work at once, over all connections.", min: 1, max: 10_000},
		{path: "console", meaning: "The web console: where everything stands, as a page and as JSON. The service `console` serves it, and `rollcall run`."},
		{path: "console.listen", meaning: "Address of the web console, over HTTP. Empty: none.", form: formListen},
		{path: "console.auth", meaning: "How people authenticate to the console."},
		{path: "console.auth.token", meaning: "`${file:/path}` or `${env:NAME}` of the token. At least 16 characters. Needed when the console listens beyond loopback; without it only this machine may ask."},
		{path: "telemetry", meaning: "Traces, metrics and logs."},
		{path: "telemetry.otlp_endpoint", meaning: "Address of an OTLP collector over HTTP. Empty: none.", form: formHTTPURL},
		{path: "telemetry.sample_ratio", meaning: "Share of the traces that are kept.", max: 1},
		{path: "telemetry.metrics_listen", meaning: "Address of the Prometheus endpoint. Empty: none.", form: formListen},
		{path: "telemetry.log", meaning: "The log, on standard error."},
		{path: "telemetry.log.level", meaning: "The least important messages that are written.", enum: []string{"debug", "info", "warn", "error"}},
		{path: "telemetry.log.format", meaning: "`auto` is text on a terminal, JSON elsewhere.", enum: []string{"auto", "text", "json"}},
	}
}

// keyTable indexes the descriptions by path.
type keyTable map[string]key

func newKeyTable() keyTable {
	t := keyTable{}
	for _, k := range keys() {
		t[k.path] = k
	}
	return t
}
