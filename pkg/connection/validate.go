package connection

import (
	"net"
	"net/url"
	"strings"
)

// validator finds the faults that depend on several keys, or on missing ones.
// What is wrong with one value by itself is found where it is decoded.
type validator struct {
	config  *Config
	faults  Faults
	decoded map[string]bool // keys that have a fault by themselves
}

func newValidator(c *Config, decoded Faults) *validator {
	v := &validator{config: c, faults: decoded, decoded: map[string]bool{}}
	for _, f := range decoded {
		v.decoded[f.Key] = true
	}
	return v
}

// fault reports a fault, unless the value could not be read in the first place:
// then it would only be a consequence.
func (v *validator) fault(key, problem, cure string) {
	if v.decoded[key] {
		return
	}
	o := v.config.origin
	v.faults = append(v.faults, Fault{File: o.file, Line: o.line(key), Key: key, Problem: problem, Cure: cure})
}

// missing reports a required key that has no value.
func (v *validator) missing(key, example string) {
	v.fault(key, "is missing", "write one, for example "+example)
}

// all checks the whole file.
func (v *validator) all() {
	c := v.config
	if len(c.Sources) == 0 {
		v.fault("sources", "no source is defined", "write sources: with a name below it")
	}
	if len(c.Connections) == 0 {
		v.fault("connections", "no connection is defined", "write connections: with a name below it")
	}
	v.nats()
	v.console()
	for _, name := range sortedNames(c.Sources) {
		v.name("sources."+name, name)
		v.source("sources."+name, c.Sources[name])
	}
	for _, name := range sortedNames(c.Connections) {
		v.name("connections."+name, name)
		v.connection("connections."+name, c.Connections[name])
	}
	v.targets()
}

func (v *validator) name(key, name string) {
	if problem, cure := checkName(name); problem != "" {
		v.fault(key, problem, cure)
	}
}

func (v *validator) nats() {
	n := v.config.NATS
	if !n.Credentials.IsZero() && n.Credentials.File() == "" {
		v.fault("nats.credentials", "must be a file", "write ${file:/path} of the .creds file")
	}
	if n.URL == "" && n.DataDir == "" {
		v.fault("nats.data_dir", "is empty, and so is nats.url", "write a directory for the embedded server, for example ./data")
	}
	if n.URL == "" && n.Replicas > 1 {
		v.fault("nats.replicas", "is more than 1, and the embedded server is alone", "write nats.url, or leave replicas out")
	}
}

func (v *validator) console() {
	c := v.config.Console
	host, _, err := net.SplitHostPort(c.Listen)
	if err == nil && !loopback(host) && c.Auth.Token.IsZero() {
		v.fault("console.auth.token", "is missing, and the console listens beyond this machine", "write ${file:/path} of a token, or listen on 127.0.0.1")
	}
}

func (v *validator) source(key string, s *Source) {
	v.ldap(key+".ldap", &s.LDAP)
	if len(s.Users.BaseDNs) == 0 {
		v.missing(key+".users.base_dns", `["ou=people,dc=example,dc=com"]`)
	}
	for at, value := range map[string]string{
		".users.filter": s.Users.Filter, ".users.enabled": s.Users.Enabled, ".groups.filter": s.Groups.Filter,
		".groups.members": s.Groups.Members, ".id.attribute": s.ID.Attribute,
	} {
		if strings.TrimSpace(value) == "" {
			v.fault(key+at, "is empty", "leave the key out for the preset's value")
		}
	}
	v.enabled(key+".users.enabled", s)
	v.filter(key+".users.filter", s.Users.Filter, s.Users.MemberOf)
	v.filter(key+".groups.filter", s.Groups.Filter, s.Users.MemberOf)
}

// filter checks what depends on the attribute that holds the groups of a user.
func (v *validator) filter(key, filter, memberOf string) {
	if filter = strings.TrimSpace(filter); filter == "" || memberOf == "" {
		return
	}
	if err := checkFilter(filter, memberOf); err != nil {
		v.fault(key, err.Error(), "write a filter such as (objectClass=inetOrgPerson)")
	}
}

func (v *validator) ldap(key string, l *LDAP) {
	if len(l.URLs) == 0 {
		v.missing(key+".urls", "[ldaps://dc1.example.com]")
	}
	switch {
	case l.BindDN != "" && l.BindPassword.IsZero():
		v.fault(key+".bind_password", "is missing, and there is a bind_dn", "write ${file:/path} or ${env:NAME}")
	case l.BindDN == "" && !l.BindPassword.IsZero():
		v.fault(key+".bind_dn", "is missing, and there is a bind_password", "write who to bind as")
	}
	if (l.ClientCertificate == "") != (l.ClientKey == "") {
		v.fault(key+".client_certificate", "client_certificate and client_key belong together", "write both")
	}
	for i, one := range l.URLs {
		v.ldapURL(key, place{key: key + ".urls"}.item(i).key, one, l)
	}
}

func (v *validator) ldapURL(key, item, address string, l *LDAP) {
	u, err := url.Parse(address)
	if err != nil {
		return // reported where it was decoded
	}
	plain := strings.EqualFold(u.Scheme, "ldap") && !l.StartTLS
	if strings.EqualFold(u.Scheme, "ldaps") && l.StartTLS {
		v.fault(key+".start_tls", "is on, and "+u.Host+" is ldaps", "write ldap://, or leave start_tls out")
	}
	if plain && l.BindDN != "" && !l.Insecure && !loopback(u.Hostname()) {
		v.fault(item, "would send the password without TLS", "write ldaps:// or start_tls: true (or insecure: true if you accept that)")
	}
}
