package connection

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/mapping"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// enabled refuses an expression that reads its own result.
func (v *validator) enabled(key string, s *Source) {
	e, err := mapping.CompileBool(directoryv1.Kind_KIND_USER, s.Users.Enabled)
	if err == nil && e.UsesEnabled() {
		v.fault(key, "user.enabled is the result of this expression", "read a directory attribute")
	}
}

func (v *validator) connection(key string, c *Connection) {
	s := v.sourceOf(key, c)
	v.target(key+".target", &c.Target)
	v.renamed(key+".renamed_from", c)
	v.users(key+".users", c)
	if c.Groups != nil {
		v.groups(key+".groups", c, s)
	}
}

// sourceOf returns the source of c, or nil when there is none.
func (v *validator) sourceOf(key string, c *Connection) *Source {
	if c.Source == "" {
		v.missing(key+".source", "source: "+strings.Join(append(sortedNames(v.config.Sources), "corp")[:1], ""))
		return nil
	}
	s, ok := v.config.Sources[c.Source]
	if !ok {
		v.fault(key+".source", fmt.Sprintf("%q is no source", c.Source), choose(c.Source, sortedNames(v.config.Sources)))
	}
	return s
}

func (v *validator) renamed(key string, c *Connection) {
	if _, ok := v.config.Connections[c.RenamedFrom]; ok {
		v.fault(key, fmt.Sprintf("%q is a connection of this file", c.RenamedFrom), "name the earlier name, or leave the key out")
	}
}

func (v *validator) target(key string, t *Target) {
	if t.URL == "" {
		v.missing(key+".url", "https://wiki.example.com/scim/v2")
	}
	u, err := url.Parse(t.URL)
	if err == nil && strings.EqualFold(u.Scheme, "http") && u.Hostname() != "" && !loopback(u.Hostname()) && !t.Insecure {
		v.fault(key+".url", "would send personal data and credentials without TLS", "write https:// (or insecure: true if you accept that)")
	}
	v.overrides(key+".overrides", &t.Overrides)
	v.auth(key+".auth", &t.Auth)
}

// overrides checks what the ways of a target must have in common.
func (v *validator) overrides(key string, p *scim.Profile) {
	for _, path := range inOrder(v, key+".lookup", p.Lookup) {
		if _, err := parsePath(path); err != nil {
			v.fault(key+".lookup."+path, err.Error(), "write a SCIM path such as emails.value")
		}
	}
	for i, path := range p.Drop {
		if one, err := parsePath(path); err == nil && one.String() == "userName" {
			v.fault(place{key: key + ".drop"}.item(i).key, "SCIM requires userName", "leave it out")
		}
	}
	if !p.PatchSupported && !p.Put {
		v.fault(key+".put", "neither PATCH nor PUT of a user works", "leave one of them on")
	}
	if !p.GroupPatch && !p.GroupPut {
		v.fault(key+".group_put", "neither PATCH nor PUT of a group works", "leave one of them on, or leave groups out")
	}
}

func (v *validator) auth(key string, a *Auth) {
	set := 0
	for _, is := range []bool{a.None != nil, a.Basic != nil, a.Bearer != nil, a.OAuth2 != nil, a.Header != nil} {
		if is {
			set++
		}
	}
	if set > 1 {
		v.fault(key, "has more than one way to authenticate", "keep one of none, basic, bearer, oauth2_client_credentials and header; mtls may stand beside it")
	}
	if a.Basic != nil && a.Basic.Username == "" {
		v.missing(key+".basic.username", "rollcall")
	}
	if a.Basic != nil && a.Basic.Password.IsZero() {
		v.missing(key+".basic.password", "${file:/run/secrets/wiki}")
	}
	if a.Bearer != nil && a.Bearer.Token.IsZero() {
		v.missing(key+".bearer.token", "${env:WIKI_TOKEN}")
	}
	if a.Bearer != nil && strings.ContainsAny(a.Bearer.Scheme, " \t\r\n") {
		v.fault(key+".bearer.scheme", "is more than a word", "write one word, such as Token")
	}
	if a.OAuth2 != nil {
		v.oauth2(key+".oauth2_client_credentials", a.OAuth2)
	}
	if a.Header != nil {
		v.header(key+".header", a.Header)
	}
	if m := a.MutualTLS; m != nil {
		if m.Certificate == "" {
			v.missing(key+".mtls.certificate", "/run/secrets/wiki.crt")
		}
		if m.Key == "" {
			v.missing(key+".mtls.key", "/run/secrets/wiki.key")
		}
	}
}

func (v *validator) oauth2(key string, o *OAuth2Auth) {
	u, err := url.Parse(o.TokenURL)
	switch {
	case o.TokenURL == "":
		v.missing(key+".token_url", "https://login.example.com/oauth2/token")
	case err == nil && strings.EqualFold(u.Scheme, "http") && !loopback(u.Hostname()):
		v.fault(key+".token_url", "would send the client's secret without TLS", "write https://")
	}
	if o.ClientID == "" {
		v.missing(key+".client_id", "rollcall")
	}
	if o.ClientSecret.IsZero() {
		v.missing(key+".client_secret", "${file:/run/secrets/wiki}")
	}
}

// headerName is what RFC 9110 section 5.1 calls a field name.
var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

func (v *validator) header(key string, h *HeaderAuth) {
	switch {
	case h.Name == "":
		v.missing(key+".name", "X-Api-Key")
	case !headerName.MatchString(h.Name):
		v.fault(key+".name", "is not the name of a header", "write a name such as X-Api-Key")
	}
	if h.Value.IsZero() {
		v.missing(key+".value", "${file:/run/secrets/wiki}")
	}
}

// targets refuses two connections to one target: each would undo the other.
func (v *validator) targets() {
	first := map[string]string{}
	for _, name := range sortedNames(v.config.Connections) {
		id := targetID(v.config.Connections[name].Target.URL)
		if other, ok := first[id]; ok && id != "" {
			v.fault("connections."+name+".target.url", "is the target of "+other+", too", "keep one connection for each target")
			continue
		}
		first[id] = name
	}
}

// targetID is a URL without what makes no difference.
func targetID(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	scheme, port := strings.ToLower(u.Scheme), u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[scheme]
	}
	return scheme + "://" + strings.TrimSuffix(strings.ToLower(u.Hostname()), ".") + ":" + port + strings.TrimRight(u.EscapedPath(), "/")
}

func (v *validator) users(key string, c *Connection) {
	u := &c.Users
	mapped := v.attributes(key+".attributes", u.Attributes, &c.Target, scim.KindUser)
	if !slices.ContainsFunc(mapped, func(p scim.Path) bool { return p.String() == "userName" }) {
		v.fault(key+".attributes", "userName is not mapped, and SCIM requires it", "add userName: user.uid")
	}
	v.match(key+".match", u.Match, mapped, &c.Target)
	if ways, ok := c.Target.Ways(); ok && ways.Delete == scim.DeleteDisables && (u.Remove == RemoveDelete || u.DeleteAfter > 0) {
		v.fault(key+".remove", "this target does not delete users: its DELETE only disables them", "write remove: disable without delete_after (or overrides: {delete: delete} where it does)")
	}
	switch {
	case u.DeleteAfter > 0 && u.Remove == RemoveDelete:
		v.fault(key+".delete_after", "is set, and remove: delete deletes at once", "write remove: disable, or leave delete_after out")
	case u.DeleteAfter > 0 && u.Remove == RemoveKeep:
		v.fault(key+".delete_after", "is set, and remove: keep disables nobody", "write remove: disable, or leave delete_after out")
	}
	if u.ProvisionDisabled && u.Disabled == DisabledRemove && u.Remove == RemoveDelete {
		v.fault(key+".provision_disabled", "would create what disabled: remove deletes with remove: delete", "leave provision_disabled out, or write disabled: disable")
	}
}

func (v *validator) groups(key string, c *Connection, s *Source) {
	g := c.Groups
	mapped := v.attributes(key+".attributes", g.Attributes, &c.Target, scim.KindGroup)
	mapped = append(mapped, scim.Path{Attribute: "displayName"})
	v.match(key+".match", g.Match, mapped, &c.Target)
	if strings.TrimSpace(g.Name) == "" {
		v.fault(key+".name", "is empty, and SCIM requires a displayName", "write group.cn, or leave the key out")
	}
	if s == nil {
		return
	}
	if len(s.Groups.BaseDNs) == 0 {
		v.fault("sources."+s.Name+".groups.base_dns", "is missing, and connection "+c.Name+" has groups", `write one, for example ["ou=groups,dc=example,dc=com"]`)
	}
	v.members(key, g, s)
}

// members refuses expressions over the member attribute, which is not kept with
// a group.
func (v *validator) members(key string, g *GroupPolicy, s *Source) {
	sources := map[string]string{".scope": g.Scope, ".name": g.Name}
	for path, a := range g.Attributes {
		sources[".attributes."+path] = a.Value
	}
	for at, source := range sources {
		e, err := mapping.Compile(directoryv1.Kind_KIND_GROUP, source)
		if err == nil && slices.Contains(e.Attributes(), strings.ToLower(s.Groups.Members)) {
			v.fault(key+at, "reads "+s.Groups.Members+", which holds the members and is not kept with the group", "read another attribute")
		}
	}
}

// attributes checks the paths of a mapping among themselves and returns them.
func (v *validator) attributes(key string, attributes map[string]Attribute, target *Target, kind scim.Kind) []scim.Path {
	var paths []scim.Path
	written := map[string]string{}
	for _, name := range inOrder(v, key, attributes) {
		path, err := parsePath(name)
		if err != nil {
			v.fault(key+"."+name, err.Error(), "write a SCIM path such as name.givenName")
			continue
		}
		if problem, cure := reservedPath(path, kind == scim.KindGroup); problem != "" {
			v.fault(key+"."+name, problem, cure)
			continue
		}
		if problem, hint := misspelt(path, target, kind); problem != "" {
			v.fault(key+"."+name, problem, hint)
		}
		if other, ok := written[path.String()]; ok {
			v.fault(key+"."+name, "is the same attribute as "+other, "keep one of them")
			continue
		}
		written[path.String()] = name
		paths = append(paths, path)
	}
	v.overlaps(key, paths, written)
	return paths
}

// inOrder returns the paths of a mapping in the order of the file.
func inOrder[V any](v *validator, key string, attributes map[string]V) []string {
	names := sortedNames(attributes)
	slices.SortStableFunc(names, func(a, b string) int {
		return v.config.origin.line(key+"."+a) - v.config.origin.line(key+"."+b)
	})
	return names
}

// overlaps refuses an attribute together with a part of itself.
func (v *validator) overlaps(key string, paths []scim.Path, written map[string]string) {
	for _, p := range paths {
		if p.Sub == "" {
			continue
		}
		whole := p
		whole.Sub = ""
		if other, ok := written[whole.String()]; ok {
			v.fault(key+"."+written[p.String()], "is a part of "+other+", which is mapped, too", "keep one of them")
		}
	}
}

// match checks the attributes by which something is found on the target.
func (v *validator) match(key string, match []string, mapped []scim.Path, target *Target) {
	if len(match) == 0 {
		v.fault(key, "is empty", "leave the key out for the default")
	}
	seen := map[string]bool{}
	for i, text := range match {
		at := place{key: key}.item(i).key
		path, err := parsePath(text)
		if err != nil {
			continue // reported where it was decoded
		}
		if seen[path.String()] {
			v.fault(at, path.String()+" stands here twice", "keep one of them")
		}
		seen[path.String()] = true
		v.matchMapped(at, path, mapped, target)
	}
}

// matchMapped checks that Rollcall has a value to look for. It sends externalId
// by itself, where the target keeps it.
func (v *validator) matchMapped(key string, path scim.Path, mapped []scim.Path, target *Target) {
	if slices.ContainsFunc(mapped, func(p scim.Path) bool { return sameAttribute(path, p) }) {
		return
	}
	if path.String() == "externalId" {
		if p, ok := target.Ways(); ok && !p.ExternalIDAllowed {
			v.fault(key, "this target does not keep externalId", "match by another attribute")
		}
		return
	}
	v.fault(key, path.String()+" is not mapped, so there is nothing to look for", "map it at attributes, or match by another one")
}
