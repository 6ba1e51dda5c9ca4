package detector

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

// Values of member_values and nested.
const (
	membersByDN  = "dn"
	membersByID  = "id"
	membersByUID = "uid"

	nestedPreserve = "preserve"
	nestedIgnore   = "ignore"
)

// rules are a source's settings, parsed once: what is a user, what is a group,
// what is in scope, and how membership is written.
type rules struct {
	set          mapping.Set
	setID        string
	usesGroups   bool
	references   []string // attributes whose values name other entries
	enabled      *mapping.Expression
	users        area
	groups       area
	nested       bool // members of member groups of a scope group count
	membersName  string
	memberOfName string
	primaryGroup string // attribute with the end of the primary group's objectSid; empty for none
	memberValues string
	groupNesting string
	schema       *ldapsource.Schema // by which the filters evaluate
	log          *slog.Logger
	complained   map[ID]struct{}
}

// area says which entries of one kind are in scope.
type area struct {
	bases, exclude []string
	filter         *ldapsource.Filter
	memberships    []ldapsource.Membership // that the filter names, by their bits in its table
	scopeGroups    []string
}

func newRules(cfg *connection.Source, enabled *mapping.Expression, set mapping.Set, log *slog.Logger) (*rules, error) {
	_, usesGroups := set[mapping.GroupsMarker]
	r := &rules{
		set: set, setID: set.ID(), usesGroups: usesGroups, enabled: enabled, nested: cfg.Users.Nested,
		membersName: strings.ToLower(cfg.Groups.Members), memberOfName: strings.ToLower(cfg.Users.MemberOf),
		primaryGroup: strings.ToLower(cfg.Users.PrimaryGroup), memberValues: cfg.Groups.MemberValues, groupNesting: cfg.Groups.Nested, log: log, complained: map[ID]struct{}{},
	}
	var errs [2]error
	users, groups := &cfg.Users, &cfg.Groups
	r.users, errs[0] = newArea("users", users.BaseDNs, users.Exclude, users.ScopeGroups)
	r.groups, errs[1] = newArea("groups", groups.BaseDNs, groups.Exclude, groups.ScopeGroups)
	return r, errors.Join(errs[0], errs[1], r.users.filterBy("users", users.Filter, users.MemberOf), r.groups.filterBy("groups", groups.Filter, users.MemberOf))
}

func newArea(key string, bases, exclude, scopeGroups []string) (area, error) {
	var a area
	var errs [3]error
	a.bases, errs[0] = normalised(key+".base_dns", bases)
	a.exclude, errs[1] = normalised(key+".exclude", exclude)
	a.scopeGroups, errs[2] = normalised(key+".scope_groups", scopeGroups)
	return a, errors.Join(errs[:]...)
}

func (a *area) filterBy(key, filter, memberOf string) error {
	parsed, err := ldapsource.ParseFilter(filter, memberOf)
	if err != nil {
		return fmt.Errorf("%s.filter: %w", key, err)
	}
	a.filter, a.memberships = parsed, parsed.Memberships()
	return nil
}

func normalised(key string, dns []string) ([]string, error) {
	out := make([]string, len(dns))
	for i, dn := range dns {
		var err error
		if out[i], err = ldapsource.NormalizeDN(dn); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	return out, nil
}

// covers says whether a normalised name lies in the area.
func (a *area) covers(name string) bool {
	for _, out := range a.exclude {
		if ldapsource.Under(name, out) {
			return false
		}
	}
	for _, base := range a.bases {
		if ldapsource.Under(name, base) {
			return true
		}
	}
	return false
}

// flattens says whether a group has the members of its member groups.
func (r *rules) flattens() bool {
	return r.groupNesting != nestedPreserve && r.groupNesting != nestedIgnore
}

// digest makes the mirror's entry of what the server sent, where known is the one of
// the time before; nil for none.
func (r *rules) digest(e *ldapsource.Entry, known *entry) (*entry, error) {
	name, err := ldapsource.NormalizeDN(e.DN)
	if err != nil {
		return nil, fmt.Errorf("entry name: %w", err)
	}
	r.learn(e.Schema)
	d := &entry{
		id: e.ID, name: name, detected: time.Now().UnixNano(), extra: &nothing,
		tables: tables{user: r.users.filter.Table(e), group: r.groups.filter.Table(e)},
	}
	d.class = class{user: d.tables.user != 0, group: d.tables.group != 0}
	if d.class.group || r.scopes(name) {
		x := d.own()
		x.members = r.memberKeys(e.Values(r.membersName), known)
		x.sid = r.sid(e)
	}
	if !d.class.user && !d.class.group {
		d.store(e.DN, e.Version, nil)
		return d, nil
	}
	packed, err := r.pack(e)
	if err != nil {
		return nil, err
	}
	d.store(e.DN, e.Version, packed)
	if d.class.user {
		r.digestUser(d, e)
	}
	return d, nil
}

func (r *rules) digestUser(d *entry, e *ldapsource.Entry) {
	if r.memberValues == membersByUID {
		if uid := e.Values("uid"); len(uid) > 0 {
			d.own().uid = string(uid[0])
		}
	}
	if memberOf := r.memberOf(e); len(memberOf) > 0 {
		d.own().memberOf = memberOf
	}
	user := &directoryv1.User{Id: e.ID[:], Dn: e.DN, Attributes: e.Attributes}
	enabled, err := r.enabled.Bool(mapping.UserObject(user, r.set))
	if err != nil {
		d.own().broken = err.Error()
		r.complain(e.ID, fmt.Errorf("users.enabled: %w", err))
	}
	d.enabled = enabled
}

// memberOf are the groups that a user names on its own side, the primary one last.
func (r *rules) memberOf(e *ldapsource.Entry) []string {
	var groups []string
	if r.memberOfName != "" {
		for _, v := range e.Values(r.memberOfName) {
			if group, err := ldapsource.NormalizeDN(string(v)); err == nil {
				groups = append(groups, group)
			}
		}
	}
	if primary := r.primarySID(e); primary != "" {
		groups = append(groups, primary)
	}
	return groups
}

// learn has the filters evaluate by the schema of the server that is read now.
func (r *rules) learn(schema *ldapsource.Schema) {
	if schema == r.schema {
		return
	}
	r.schema = schema
	r.users.filter, r.groups.filter = r.users.filter.With(schema), r.groups.filter.With(schema)
}

// complain reports a fault of an entry once.
func (r *rules) complain(id ID, err error) {
	if _, said := r.complained[id]; said {
		return
	}
	r.complained[id] = struct{}{}
	r.log.Warn("entry cannot be evaluated; what was published of it stays", "entry", id.String(), "error", err)
}

// pack keeps the attributes of the attribute set. A group's members are not
// among them.
func (r *rules) pack(e *ldapsource.Entry) ([]byte, error) {
	u := &directoryv1.User{}
	for _, a := range e.Attributes {
		if r.set.Contains(a.GetName()) && a.GetName() != r.membersName {
			u.Attributes = append(u.Attributes, a)
		}
	}
	packed, err := proto.Marshal(u)
	if err != nil {
		return nil, fmt.Errorf("pack entry: %w", err)
	}
	return packed, nil
}

// memberKeys are a group's member values in the form in which entries are found:
// normalised DNs, entry ids in hex, or uids. A big group is sent whole with each
// change: what a value says need not be found out again where the group had it
// before, at the place where it stands or at the next.
func (r *rules) memberKeys(values [][]byte, before *entry) []string {
	keys := make([]string, 0, len(values))
	var had []string
	if before != nil {
		had = before.members
	}
	for _, v := range values {
		for skipped := range min(2, len(had)) {
			if had[skipped] == string(v) {
				had = had[skipped:]
				break
			}
		}
		if len(had) > 0 && had[0] == string(v) {
			keys, had = append(keys, had[0]), had[1:]
		} else if key, names := r.memberKey(string(v)); names {
			keys = append(keys, key)
		}
	}
	return keys
}

// memberKey is one member value in the form in which entries are found; false for
// one that names nobody.
func (r *rules) memberKey(value string) (key string, names bool) {
	switch r.memberValues {
	case membersByUID:
		return value, true
	case membersByID:
		return strings.ReplaceAll(strings.ToLower(value), "-", ""), true
	default:
		name, err := ldapsource.NormalizeDN(withoutUniqueID(value))
		return name, err == nil
	}
}

// withoutUniqueID cuts the optional bit string of a uniqueMember value
// (RFC 4517 section 3.3.21): "cn=x,dc=y#'0101'B".
func withoutUniqueID(value string) string {
	if i := strings.LastIndex(value, "#'"); i >= 0 && strings.HasSuffix(value, "'B") {
		return value[:i]
	}
	return value
}
