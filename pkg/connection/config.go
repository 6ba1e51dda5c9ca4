// Package connection holds the configuration of Rollcall: sources, targets and
// the connections between them. It loads one YAML file, fills in defaults and
// presets, resolves secrets and reports every fault at once with its line, its
// key and the cure. It does not connect to anything.
package connection

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// Values of Source.Preset.
const (
	PresetOpenLDAP        = "openldap"
	PresetActiveDirectory = "active-directory"
	Preset389DS           = "389ds"
	PresetPingDirectory   = "ping-directory"
	PresetGeneric         = "generic"
)

// Values of IDAttribute.Encoding.
const (
	EncodingText      = "text"      // hexadecimal digits and hyphens
	EncodingBytes     = "bytes"     // 16 bytes in network order
	EncodingMicrosoft = "microsoft" // 16 bytes, mixed order
)

// Values of Detection.Mode.
const (
	ModeAuto      = "auto"
	ModeSnapshot  = "snapshot"
	ModeSyncrepl  = "syncrepl"
	ModeDirSync   = "dirsync"
	ModeUSN       = "usn"
	ModeTimestamp = "timestamp"
)

// Values of GroupSource.MemberValues.
const (
	MemberDN  = "dn"
	MemberID  = "id"
	MemberUID = "uid"
)

// Values of GroupSource.Nested.
const (
	NestedPreserve = "preserve"
	NestedFlatten  = "flatten"
	NestedIgnore   = "ignore"
)

// Values of UserPolicy.Vanished and GroupPolicy.Vanished.
const (
	VanishedCreate = "create"
	VanishedLeave  = "leave"
)

// Values of UserPolicy.Remove and GroupPolicy.Remove.
const (
	RemoveDisable = "disable"
	RemoveDelete  = "delete"
	RemoveKeep    = "keep"
)

// Values of UserPolicy.Disabled.
const (
	DisabledDisable = "disable"
	DisabledRemove  = "remove"
)

// Values of UserPolicy.Reactivate.
const (
	ReactivateAlways = "always"
	ReactivateOurs   = "ours"
)

// Values of TargetGuard.FirstRun.
const (
	FirstRunHold = "hold"
	FirstRunFlow = "flow"
)

// Values of Attribute.On.
const (
	OnAlways = "always"
	OnCreate = "create"
)

// Config is the whole file rollcall.yaml; every service reads the same one.
type Config struct {
	NATS        NATS                   `yaml:"nats"`
	Sources     map[string]*Source     `yaml:"sources"`
	Connections map[string]*Connection `yaml:"connections"`
	Workers     Workers                `yaml:"workers"`
	Console     Console                `yaml:"console"`
	Telemetry   Telemetry              `yaml:"telemetry"`

	origin origin // where the values stand in the file
}

// origin remembers the file that a Config was read from, for faults that are
// found later.
type origin struct {
	file  string
	lines map[string]int // by key
}

// line returns where key stands in the file, or the nearest key above it.
func (o origin) line(key string) int {
	for key != "" {
		if line, ok := o.lines[key]; ok {
			return line
		}
		key = key[:max(strings.LastIndexAny(key, ".["), 0)]
	}
	return o.lines[""]
}

// NATS says where the message bus is. An empty URL means the embedded server,
// which only `rollcall run` starts.
type NATS struct {
	URL         string `yaml:"url"`
	Credentials Secret `yaml:"credentials"` // ${file:...} of a .creds file
	DataDir     string `yaml:"data_dir"`
	Replicas    int    `yaml:"replicas"` // of streams and buckets: 1, or 3 and 5 in a cluster
}

// Source is a part of an LDAP directory.
type Source struct {
	Name      string      `yaml:"-"`
	LDAP      LDAP        `yaml:"ldap"`
	Preset    string      `yaml:"preset"`
	ID        IDAttribute `yaml:"id"`
	Detection Detection   `yaml:"detection"`
	Users     UserSource  `yaml:"users"`
	Groups    GroupSource `yaml:"groups"`
	Guard     Guard       `yaml:"guard"`
}

// LDAP is how to reach the directory.
type LDAP struct {
	URLs              []string      `yaml:"urls"` // ldap:// or ldaps://, tried in order
	StartTLS          bool          `yaml:"start_tls"`
	CAFile            string        `yaml:"ca_file"`
	ClientCertificate string        `yaml:"client_certificate"` // PEM file
	ClientKey         string        `yaml:"client_key"`         // PEM file
	BindDN            string        `yaml:"bind_dn"`
	BindPassword      Secret        `yaml:"bind_password"`
	Insecure          bool          `yaml:"insecure"` // allows a bind without TLS off loopback
	ConnectTimeout    time.Duration `yaml:"connect_timeout"`
	ReadTimeout       time.Duration `yaml:"read_timeout"`
	PageSize          int           `yaml:"page_size"`
}

// IDAttribute names the attribute that holds the directory's GUID.
type IDAttribute struct {
	Attribute string `yaml:"attribute"`
	Encoding  string `yaml:"encoding"` // text | bytes | microsoft
}

// Detection is how changes are found.
type Detection struct {
	Mode          string        `yaml:"mode"` // auto | snapshot | syncrepl | dirsync | usn | timestamp
	Interval      time.Duration `yaml:"interval"`
	SweepInterval time.Duration `yaml:"sweep_interval"`
}

// UserSource says which entries are users and which of them are in scope.
type UserSource struct {
	BaseDNs     []string `yaml:"base_dns"` //nolint:revive // more than one DN
	Filter      string   `yaml:"filter"`
	ScopeGroups []string `yaml:"scope_groups"` // DNs; empty means every user under the bases
	Nested      bool     `yaml:"nested"`       // members of member groups count
	Exclude     []string `yaml:"exclude"`      // DNs; an entry or a whole subtree
	MemberOf    string   `yaml:"member_of"`    // attribute that holds membership on the user side
	// PrimaryGroup is the attribute that holds the end of the objectSid of a user's
	// primary group, which the group does not name as a member.
	PrimaryGroup string `yaml:"primary_group"`
	Enabled      string `yaml:"enabled"` // CEL, never absent
}

// GroupSource says which entries are groups and which of them are in scope.
type GroupSource struct {
	BaseDNs      []string `yaml:"base_dns"` //nolint:revive // more than one DN
	Filter       string   `yaml:"filter"`
	ScopeGroups  []string `yaml:"scope_groups"` // groups that are direct members of one of these
	Exclude      []string `yaml:"exclude"`
	Members      string   `yaml:"members"`       // attribute that holds the members
	MemberValues string   `yaml:"member_values"` // dn | id | uid
	Nested       string   `yaml:"nested"`        // preserve | flatten | ignore
}

// Guard limits what may be removed without asking.
type Guard struct {
	MaxRemovals       int           `yaml:"max_removals"`
	MaxRemovalPercent float64       `yaml:"max_removal_percent"`
	Window            time.Duration `yaml:"window"`
}

// TargetGuard limits what may be done on a target without asking.
type TargetGuard struct {
	MaxRemovals       int           `yaml:"max_removals"`
	MaxRemovalPercent float64       `yaml:"max_removal_percent"`
	Window            time.Duration `yaml:"window"`
	FirstRun          string        `yaml:"first_run"` // hold | flow
}

// Connection keeps one target equal to a source.
type Connection struct {
	Name        string       `yaml:"-"`
	Source      string       `yaml:"source"`
	RenamedFrom string       `yaml:"renamed_from"`
	Target      Target       `yaml:"target"`
	Scope       string       `yaml:"scope"` // CEL over the user, after the source's scope
	Users       UserPolicy   `yaml:"users"`
	Groups      *GroupPolicy `yaml:"groups"` // nil: users only
	Guard       TargetGuard  `yaml:"guard"`
	DryRun      bool         `yaml:"dry_run"`
	Drift       Drift        `yaml:"drift"`
}

// Target is a SCIM 2.0 service.
type Target struct {
	URL     string `yaml:"url"`
	Profile string `yaml:"profile"`
	// Overrides is the profile with what the file changes of it.
	Overrides   scim.Profile `yaml:"overrides"`
	UsersPath   string       `yaml:"users_path"`
	GroupsPath  string       `yaml:"groups_path"`
	Auth        Auth         `yaml:"auth"`
	Rate        scim.Rate    `yaml:"rate"`
	Concurrency int          `yaml:"concurrency"` // calls in flight over all replicas
	Insecure    bool         `yaml:"insecure"`    // allows http off loopback
	CAFile      string       `yaml:"ca_file"`
	Proxy       string       `yaml:"proxy"` // URL; empty: as the environment says
}

// Ways are the ways of the target: its profile with what the file changes of it.
// They are false for a profile that there is not.
func (t *Target) Ways() (scim.Profile, bool) {
	if t.Overrides.Name == t.Profile && t.Profile != "" {
		return t.Overrides, true
	}
	return scim.FindProfile(t.Profile)
}

// Auth is how Rollcall authenticates to the target; at most one of them is set, but
// for MutualTLS.
type Auth struct {
	None   *struct{}   `yaml:"none"`
	Basic  *BasicAuth  `yaml:"basic"`
	Bearer *BearerAuth `yaml:"bearer"`
	OAuth2 *OAuth2Auth `yaml:"oauth2_client_credentials"`
	Header *HeaderAuth `yaml:"header"`
	// MutualTLS goes together with any of the others.
	MutualTLS *MutualTLS `yaml:"mtls"`
}

// BasicAuth is HTTP Basic (RFC 7617).
type BasicAuth struct {
	Username string `yaml:"username"`
	Password Secret `yaml:"password"`
}

// BearerAuth is a static bearer token (RFC 6750).
type BearerAuth struct {
	Token  Secret `yaml:"token"`
	Scheme string `yaml:"scheme"` // the word before the token; Bearer when empty
}

// OAuth2Auth is the OAuth 2.0 client credentials grant (RFC 6749 section 4.4).
type OAuth2Auth struct {
	TokenURL     string   `yaml:"token_url"`
	ClientID     string   `yaml:"client_id"`
	ClientSecret Secret   `yaml:"client_secret"`
	Scopes       []string `yaml:"scopes"`
	Audience     string   `yaml:"audience"` // sent when not empty
	Style        string   `yaml:"style"`    // header | body; header when empty
}

// HeaderAuth is a secret in a header of its own.
type HeaderAuth struct {
	Name  string `yaml:"name"`
	Value Secret `yaml:"value"`
}

// MutualTLS is a client certificate; both files are PEM.
type MutualTLS struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// UserPolicy is what a connection does with users.
type UserPolicy struct {
	Match             []string             `yaml:"match"` // SCIM attributes, in order
	Create            bool                 `yaml:"create"`
	Update            bool                 `yaml:"update"`
	Remove            string               `yaml:"remove"`     // disable | delete | keep
	Disabled          string               `yaml:"disabled"`   // disable | remove
	Reactivate        string               `yaml:"reactivate"` // always | ours
	Vanished          string               `yaml:"vanished"`   // create | leave
	DeleteAfter       time.Duration        `yaml:"delete_after"`
	ProvisionDisabled bool                 `yaml:"provision_disabled"`
	Attributes        map[string]Attribute `yaml:"attributes"` // by SCIM path
}

// Attribute is one line of the attribute mapping: a CEL expression, or an object
// with options.
type Attribute struct {
	Value   string `yaml:"value"`   // CEL
	On      string `yaml:"on"`      // always | create
	Mask    bool   `yaml:"mask"`    // never shown in logs and outcomes
	Default string `yaml:"default"` // sent where the expression is absent
}

// GroupPolicy is what a connection does with groups.
type GroupPolicy struct {
	Scope      string               `yaml:"scope"` // CEL over the group
	Create     bool                 `yaml:"create"`
	Update     bool                 `yaml:"update"`
	Remove     string               `yaml:"remove"`   // delete | keep
	Vanished   string               `yaml:"vanished"` // create | leave
	Name       string               `yaml:"name"`     // CEL
	Match      []string             `yaml:"match"`
	Attributes map[string]Attribute `yaml:"attributes"`
}

// Drift is how often the target is compared with what was last applied.
type Drift struct {
	Interval time.Duration `yaml:"interval"`
	Repair   bool          `yaml:"repair"`
}

// Workers bounds the work of one replica.
type Workers struct {
	Concurrency int `yaml:"concurrency"`
}

// Console is the web console.
type Console struct {
	Listen string      `yaml:"listen"`
	Auth   ConsoleAuth `yaml:"auth"`
}

// ConsoleAuth is how people authenticate to the console.
type ConsoleAuth struct {
	Token Secret `yaml:"token"`
}

// minToken is the least length of the console's token, in characters: one that nobody
// guesses.
const minToken = 16

// ResolveToken reads the token as it is now and refuses one that can be guessed.
func (a ConsoleAuth) ResolveToken() (string, error) {
	token, err := a.Token.Resolve()
	if n := utf8.RuneCountInString(token); err == nil && n < minToken {
		return "", fmt.Errorf("has %d characters, and anybody can guess it; write at least %d, for example those of `openssl rand -hex 32`", n, minToken) //nolint:err113 // said to a person
	}
	return token, err
}

// Telemetry is where traces, metrics and logs go.
type Telemetry struct {
	OTLPEndpoint  string  `yaml:"otlp_endpoint"`
	SampleRatio   float64 `yaml:"sample_ratio"`
	MetricsListen string  `yaml:"metrics_listen"`
	Log           Log     `yaml:"log"`
}

// Log is the log's level and form.
type Log struct {
	Level  string `yaml:"level"`  // debug | info | warn | error
	Format string `yaml:"format"` // auto | text | json
}
