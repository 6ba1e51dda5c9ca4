package connection

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// effective is what decides the results of a connection: a change of it makes a
// new configuration generation, which looks at every entry again. Secrets,
// addresses of the directory, rates, guards, drift and everything that only
// shows values differently stay outside.
type effective struct {
	Version int // of this struct
	Source  effectiveSource
	Target  string
	Profile string
	Scope   string
	Users   effectiveUsers
	Groups  *effectiveGroups
	DryRun  bool
}

type effectiveSource struct {
	Name, ID                                string
	UserBases, UserGroups, UserExclude      []string
	UserFilter, Enabled, MemberOf           string
	PrimaryGroup                            string `json:",omitempty"` // absent in what was hashed before it was there
	UserNested                              bool
	GroupBases, GroupGroups, GroupExclude   []string
	GroupFilter, Members, Values, GroupNest string
}

type effectiveUsers struct {
	Match             []string
	Create, Update    bool
	Remove            string
	DeleteAfter       time.Duration
	ProvisionDisabled bool
	// Disabled and Reactivate are empty for the defaults, so that they change no hash
	// that was made before they were there.
	Disabled   string `json:",omitempty"`
	Reactivate string `json:",omitempty"`
	Attributes []effectiveAttribute
}

type effectiveGroups struct {
	Scope, Remove, Name string
	Create, Update      bool
	Match               []string
	Attributes          []effectiveAttribute
}

type effectiveAttribute struct{ Path, Value, On, Default string }

// Hash returns 12 hexadecimal digits that are the same for two configurations
// exactly when the connection does the same in both, whatever the order of their
// keys. It is empty for a connection that is not there.
func (c *Config) Hash(connection string) string {
	conn := c.Connections[connection]
	if conn == nil {
		return ""
	}
	e := effective{
		Version: 1,
		Target:  conn.Target.place(),
		Profile: conn.Target.effective(),
		Scope:   strings.TrimSpace(conn.Scope),
		Users:   conn.Users.effective(),
		DryRun:  conn.DryRun,
	}
	if s := c.Sources[conn.Source]; s != nil {
		e.Source = s.effective()
	}
	if conn.Groups != nil {
		e.Groups = conn.Groups.effective()
	}
	return digest(e)
}

// place is where a target's resources are.
func (t *Target) place() string {
	place := []string{targetID(t.URL)}
	for _, of := range [][2]string{{"Users", t.UsersPath}, {"Groups", t.GroupsPath}} {
		if path := strings.Trim(of[1], "/"); path != "" && path != of[0] {
			place = append(place, of[0]+"="+path)
		}
	}
	return strings.Join(place, " ")
}

// effective are the ways of a target that decide what can be done, as far as they
// are not the generic ones, so that a knob that is new changes no hash. The profile's
// name does not matter; sizes of pages and rates do not either.
func (t *Target) effective() string {
	ways, ok := t.Ways()
	if !ok {
		return t.Profile
	}
	generic := reflect.ValueOf(scim.Generic())
	out := []string{"generic"}
	for field, v := range reflect.ValueOf(ways).Fields() {
		value := fmt.Sprint(v.Interface())
		if field.Tag.Get("hash") != "-" && value != fmt.Sprint(generic.FieldByIndex(field.Index).Interface()) {
			out = append(out, fieldName(field)+"="+value)
		}
	}
	return strings.Join(out, " ")
}

// SourceHash returns 12 hexadecimal digits that are the same for two
// configurations exactly when they read the same from the source. It is empty for
// a source that is not there.
func (c *Config) SourceHash(source string) string {
	s := c.Sources[source]
	if s == nil {
		return ""
	}
	return digest(s.effective())
}

func digest(e any) string {
	encoded, err := json.Marshal(e) // only its own hash is made of it
	if err != nil {                 // plain strings, numbers and bools always encode
		panic(err)
	}
	sum := sha256.Sum256(encoded)
	return hex.EncodeToString(sum[:6])
}

func (s *Source) effective() effectiveSource {
	return effectiveSource{
		Name: s.Name, ID: strings.ToLower(s.ID.Attribute) + " " + s.ID.Encoding,
		UserBases: sorted(s.Users.BaseDNs), UserGroups: sorted(s.Users.ScopeGroups), UserExclude: sorted(s.Users.Exclude),
		UserFilter: s.Users.Filter, Enabled: strings.TrimSpace(s.Users.Enabled),
		MemberOf: strings.ToLower(s.Users.MemberOf), PrimaryGroup: strings.ToLower(s.Users.PrimaryGroup), UserNested: s.Users.Nested,
		GroupBases: sorted(s.Groups.BaseDNs), GroupGroups: sorted(s.Groups.ScopeGroups), GroupExclude: sorted(s.Groups.Exclude),
		GroupFilter: s.Groups.Filter, Members: strings.ToLower(s.Groups.Members),
		Values: s.Groups.MemberValues, GroupNest: s.Groups.Nested,
	}
}

func (u *UserPolicy) effective() effectiveUsers {
	e := effectiveUsers{
		Match: canonical(u.Match), Create: u.Create, Update: u.Update, Remove: u.Remove,
		DeleteAfter: u.DeleteAfter, ProvisionDisabled: u.ProvisionDisabled,
		Attributes: effectiveAttributes(u.Attributes),
	}
	if u.Disabled != DisabledDisable {
		e.Disabled = u.Disabled
	}
	if u.Reactivate != ReactivateAlways {
		e.Reactivate = u.Reactivate
	}
	return e
}

func (g *GroupPolicy) effective() *effectiveGroups {
	return &effectiveGroups{
		Scope: strings.TrimSpace(g.Scope), Remove: g.Remove, Name: strings.TrimSpace(g.Name),
		Create: g.Create, Update: g.Update, Match: canonical(g.Match),
		Attributes: effectiveAttributes(g.Attributes),
	}
}

func effectiveAttributes(attributes map[string]Attribute) []effectiveAttribute {
	out := make([]effectiveAttribute, 0, len(attributes))
	for path, a := range attributes {
		out = append(out, effectiveAttribute{
			Path: canonical([]string{path})[0], Value: strings.TrimSpace(a.Value), On: a.On, Default: a.Default,
		})
	}
	slices.SortFunc(out, func(a, b effectiveAttribute) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// canonical brings SCIM paths to one spelling.
func canonical(paths []string) []string {
	out := make([]string, len(paths))
	for i, text := range paths {
		out[i] = text
		if p, err := parsePath(text); err == nil {
			out[i] = p.String()
		}
	}
	return out
}

// sorted returns the texts in order, for lists whose order means nothing. It is
// never nil, so that an absent list is an empty one.
func sorted(texts []string) []string {
	out := slices.Concat([]string{}, texts)
	slices.Sort(out)
	return out
}
