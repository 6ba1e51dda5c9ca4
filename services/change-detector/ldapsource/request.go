package ldapsource

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"github.com/rollcall-scim/rollcall/pkg/connection"
)

// everything is the one filter: it lets containers through, whose renames the
// mirror must see, and no entry leaves it unnoticed.
const everything = "(objectClass=*)"

// secretAttributes are never requested, whatever the configuration says.
var secretAttributes = []string{
	"userpassword", "authpassword", "unicodepwd", "dbcspwd", "ntpwdhistory", "lmpwdhistory",
	"supplementalcredentials", "pwdhistory", "sambantpassword", "sambalmpassword",
	"sambapasswordhistory", "krbprincipalkey", "krbextradata", "ipanthash", "ms-mcs-admpwd",
	"mslaps-password", "mslaps-encryptedpassword", "msds-managedpassword", "nsslapd-rootpw",
	"olcrootpw", "clearpassword",
}

// Secret reports whether an attribute holds a password or its like; such
// attributes are never read.
func Secret(attribute string) bool {
	name, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(attribute)), ";")
	return slices.Contains(secretAttributes, name)
}

// searchBases is the smallest set of bases that covers the users, the groups, and
// the scope groups and the groups that filters name outside them, in the order of
// the configuration.
func searchBases(cfg *connection.Source) ([]string, error) {
	var bases, normal []string
	var faults []error
	add := func(key string, dns []string) {
		for _, dn := range dns {
			n, err := NormalizeDN(dn)
			if err != nil {
				faults = append(faults, fmt.Errorf("sources.%s.%s: %w", cfg.Name, key, err))
				continue
			}
			bases, normal = append(bases, dn), append(normal, n)
		}
	}
	add("users.base_dns", cfg.Users.BaseDNs)
	add("groups.base_dns", cfg.Groups.BaseDNs)
	add("users.scope_groups", cfg.Users.ScopeGroups)
	add("groups.scope_groups", cfg.Groups.ScopeGroups)
	if users, groups, err := filters(cfg); err == nil { // a fault shows where attributes are collected
		add("users.filter", groupsOf(users))
		add("groups.filter", groupsOf(groups))
	}
	if len(bases) == 0 && len(faults) == 0 {
		faults = append(faults, fmt.Errorf("sources.%s.users.base_dns: name at least one base", cfg.Name))
	}
	var top []string
	for i, n := range normal {
		covered := func(j int, other string) bool { return j != i && Under(n, other) && (n != other || j < i) }
		if !containsIndexed(normal, covered) {
			top = append(top, bases[i])
		}
	}
	return top, errors.Join(faults...)
}

func groupsOf(f *Filter) []string {
	var names []string
	for _, m := range f.Memberships() {
		names = append(names, m.Group)
	}
	return names
}

func containsIndexed(list []string, f func(int, string) bool) bool {
	for i, v := range list {
		if f(i, v) {
			return true
		}
	}
	return false
}

// wantedAttributes is the set of attributes that entries carry: what the caller
// asked for and what scope and membership are derived from.
func (s *Source) wantedAttributes(attributes []string) (map[string]bool, error) {
	cfg := s.cfg
	wanted := map[string]bool{"objectclass": true}
	var faults []error
	add := func(name string) {
		name = strings.ToLower(strings.TrimSpace(name))
		switch {
		case name == "":
		case Secret(name):
			faults = append(faults, fmt.Errorf("sources.%s: the attribute %s holds a password and is never read: take it out of the mapping", cfg.Name, name))
		case !isKey(baseName(name)):
			faults = append(faults, fmt.Errorf("sources.%s: %q is not an attribute name", cfg.Name, name))
		default:
			wanted[name] = true
		}
	}
	for _, name := range attributes {
		add(name)
	}
	add(cfg.Users.MemberOf)
	add(cfg.Groups.Members)
	users, groups, err := filters(cfg)
	if err != nil {
		return nil, errors.Join(append(faults, err)...)
	}
	for _, name := range append(users.Attributes(), groups.Attributes()...) {
		add(name)
	}
	faults = append(faults, s.remotes.add(users, s.key("users.filter")), s.remotes.add(groups, s.key("groups.filter")))
	return wanted, errors.Join(faults...)
}

// requestedAttributes adds what the source reads for itself and sorts the names.
func requestedAttributes(visible map[string]bool, id string) []string {
	names := []string{strings.ToLower(id), "entryuuid", "hassubordinates"}
	for name := range visible {
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// requested are the attributes that searches of the session ask for.
func (s *Source) requested() []string {
	names := append(slices.Clone(s.attributes), s.stamp().attributes()...)
	slices.Sort(names)
	return slices.Compact(names)
}

// search is a fresh request for a whole subtree: go-ldap appends its controls to the one it gets.
func (s *Source) search(base, filter string, controls ...ldap.Control) *ldap.SearchRequest {
	return ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false,
		filter, s.requested(), controls)
}

func baseName(name string) string {
	name, _, _ = strings.Cut(name, ";")
	return name
}
