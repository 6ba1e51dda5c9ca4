package ldapsource

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

func TestProbe(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{})
	got, err := source(t, config(srv)).Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Vendor != "OpenLDAP" || got.Mode != ModeSyncrepl || got.URL != srv.URL || got.Identity != "dn:"+srv.ReaderDN ||
		!slices.Equal(got.NamingContexts, []string{suffix}) || !got.Supports(ldap.ControlTypePaging) || got.SubschemaDN == "" {
		t.Errorf("%+v", got)
	}
}

// The wrong port is told from a wrong certificate, and from wrong credentials.
func TestWrongPortIsNamed(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{TLS: true})
	for _, test := range []struct{ name, url, want string }{
		{"ldaps on the port of ldap", "ldaps" + strings.TrimPrefix(srv.URL, "ldap"), "the port does not speak TLS from the start; write the port of ldaps (636), or ldap:// with start_tls: true, in sources.corp.ldap.urls"},
		{"ldap on the port of ldaps", "ldap" + strings.TrimPrefix(srv.TLSURL, "ldaps"), "write ldaps:// in sources.corp.ldap.urls"},
	} {
		_, err := source(t, config(srv, func(c *connection.Source) { c.LDAP.URLs = []string{test.url} })).Probe(t.Context())
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "ca_file") || strings.Contains(err.Error(), "bind_dn") {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

func TestProbe_mode(t *testing.T) {
	t.Parallel()
	plain := ldaptest.Start(t, ldaptest.Options{NoSync: true})
	sync := ldaptest.Start(t, ldaptest.Options{})
	for _, test := range []struct {
		srv  *ldaptest.Server
		mode Mode
		want Mode
		err  string
	}{
		{sync, ModeAuto, ModeSyncrepl, ""},
		{sync, ModeSnapshot, ModeSnapshot, ""},
		{sync, "", ModeSyncrepl, ""},
		{sync, "other", "", `sources.corp.detection.mode: "other" is none of`},
		{plain, ModeAuto, ModeTimestamp, ""},
		{plain, ModeTimestamp, ModeTimestamp, ""},
		{sync, ModeTimestamp, ModeTimestamp, ""},
		{sync, ModeUSN, "", "is no Active Directory domain controller"},
		{sync, ModeDirSync, "", "does not name the control"},
		{plain, ModeSyncrepl, "", "load the syncprov overlay"},
	} {
		got, err := source(t, config(test.srv, mode(test.mode))).Probe(t.Context())
		switch {
		case test.err != "":
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v, want %q", test.mode, err, test.err)
			}
		case err != nil:
			t.Errorf("%s: %v", test.mode, err)
		case got.Mode != test.want || got.Reason == "":
			t.Errorf("%s: chose %s, %q", test.mode, got.Mode, got.Reason)
		}
	}
}

// Every error says which key to look at.
func TestProbe_errors(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{TLS: true})
	for _, test := range []struct {
		name   string
		change func(*connection.Source)
		want   string
	}{
		{"no such base", bases("ou=nowhere," + suffix), "sources.corp.users.base_dns"},
		{"base of another server", bases("dc=other,dc=org"), "sources.corp.users.base_dns"},
		{"wrong password", func(c *connection.Source) { c.LDAP.BindDN = "cn=nobody," + suffix }, "check sources.corp.ldap.bind_dn and bind_password"},
		{"bad bind name", func(c *connection.Source) { c.LDAP.BindDN = "nobody" }, "check sources.corp.ldap.bind_dn"},
		{"nobody listens", func(c *connection.Source) { c.LDAP.URLs = []string{"ldap://127.0.0.1:1"} }, "check sources.corp.ldap.urls"},
		{"unknown authority", func(c *connection.Source) { c.LDAP.URLs = []string{srv.TLSURL} }, "check sources.corp.ldap.ca_file"},
		{"unknown authority of StartTLS", func(c *connection.Source) { c.LDAP.StartTLS = true }, "check sources.corp.ldap.ca_file"},
		{"no CA file", func(c *connection.Source) { c.LDAP.StartTLS, c.LDAP.CAFile = true, "/nowhere.pem" }, "sources.corp.ldap.ca_file"},
		{"CA file without a certificate", func(c *connection.Source) { c.LDAP.StartTLS, c.LDAP.CAFile = true, srv.ClientKey }, "holds no certificate"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := source(t, config(srv, test.change)).Probe(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

func TestProbe_TLS(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{TLS: true})
	trust := func(c *connection.Source) { c.LDAP.CAFile = srv.CAFile }
	for _, test := range []struct {
		name   string
		change func(*connection.Source)
	}{
		{"ldaps", func(c *connection.Source) { c.LDAP.URLs = []string{srv.TLSURL} }},
		{"StartTLS", func(c *connection.Source) { c.LDAP.StartTLS = true }},
		{"the second server answers", func(c *connection.Source) { c.LDAP.URLs = []string{"ldap://127.0.0.1:1", srv.URL} }},
		{"client certificate", func(c *connection.Source) {
			c.LDAP.URLs, c.LDAP.BindDN = []string{srv.TLSURL}, ""
			c.LDAP.ClientCertificate, c.LDAP.ClientKey = srv.ClientCert, srv.ClientKey
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := source(t, config(srv, trust, test.change)).Probe(t.Context())
			if err != nil || got.Identity != "dn:"+srv.ReaderDN {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	r := watch(t, source(t, config(srv, trust, func(c *connection.Source) { c.LDAP.StartTLS = true })))
	r.next(t)
	srv.LDIF(t, user("anna", people))
	if got := r.next(t); got.byDN("uid=anna,"+people) == nil {
		t.Errorf("the change did not come through TLS: %v", got.log)
	}
}

func TestProbe_frozenServer(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{})
	s := source(t, config(srv, func(c *connection.Source) { c.LDAP.ReadTimeout = 100 * time.Millisecond }))
	if err := srv.Freeze(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "ldap.read_timeout") {
		t.Errorf("the probe ended with %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)
	if _, err := s.Probe(ctx); err == nil {
		t.Error("a probe with an ended context gave no error")
	}
}

func TestNew_refuses(t *testing.T) {
	t.Parallel()
	password := func(context.Context) (string, error) { return "x", nil }
	good := connection.Source{
		Name: "corp", LDAP: connection.LDAP{URLs: []string{"ldaps://ldap.example.com"}, BindDN: "cn=r"},
		ID: connection.IDAttribute{Attribute: "entryUUID"}, Users: connection.UserSource{BaseDNs: []string{suffix}},
	}
	if _, err := New(&good, nil, Deps{Password: password}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change func(*connection.Source)
		want   string
	}{
		{"clear text", func(c *connection.Source) { c.LDAP.URLs = []string{"ldap://ldap.example.com"} }, "in clear text"},
		{"TLS twice", func(c *connection.Source) { c.LDAP.StartTLS = true }, "start_tls away"},
		{"another scheme", func(c *connection.Source) { c.LDAP.URLs = []string{"http://x"} }, "must be ldap://host or ldaps://host"},
		{"no server", func(c *connection.Source) { c.LDAP.URLs = nil }, "sources.corp.ldap.urls"},
		{"no base", func(c *connection.Source) { c.Users.BaseDNs = nil }, "sources.corp.users.base_dns"},
		{"bad base", func(c *connection.Source) { c.Users.BaseDNs = []string{"people"} }, `parse the DN "people"`},
		{"bad filter", func(c *connection.Source) { c.Groups.Filter = "(x" }, "sources.corp.groups.filter"},
		{"no id", func(c *connection.Source) { c.ID.Attribute = "" }, "sources.corp.id.attribute"},
		{"bad encoding", func(c *connection.Source) { c.ID.Encoding = "hex" }, "sources.corp.id.encoding"},
		{"half a key pair", func(c *connection.Source) { c.LDAP.ClientKey = "k" }, "sources.corp.ldap.client_certificate"},
	} {
		cfg := good
		test.change(&cfg)
		if _, err := New(&cfg, nil, Deps{Password: password}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	insecure := good
	insecure.LDAP.URLs, insecure.LDAP.Insecure = []string{"ldap://ldap.example.com"}, true
	if _, err := New(&insecure, nil, Deps{Password: password}); err != nil {
		t.Errorf("insecure: %v", err)
	}
}

func TestSearchBases(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name                 string
		users, groups, scope []string
		want                 []string
		filter               string
	}{
		{"apart", []string{people}, []string{groups}, nil, []string{people, groups}, ""},
		{"one below the other", []string{people}, []string{suffix}, nil, []string{suffix}, ""},
		{"the same twice", []string{people, "OU=People, DC=example,DC=com"}, nil, nil, []string{people}, ""},
		{"scope group inside", []string{people}, []string{groups}, []string{"cn=g," + groups}, []string{people, groups}, ""},
		{"scope group outside", []string{people}, nil, []string{"cn=g," + groups}, []string{people, "cn=g," + groups}, ""},
		{"similar names", []string{"ou=a,dc=x", "ou=aa,dc=x"}, nil, nil, []string{"ou=a,dc=x", "ou=aa,dc=x"}, ""},
		{"group of a filter inside", []string{suffix}, nil, nil, []string{suffix}, "(memberOf=cn=g," + groups + ")"},
		{"group of a filter outside", []string{people}, nil, nil, []string{people, "cn=g,ou=groups,dc=example,dc=com"}, "(!(inGroup:1.2.840.113556.1.4.1941:=CN=g," + groups + "))"},
	} {
		cfg := &connection.Source{Users: connection.UserSource{BaseDNs: test.users, ScopeGroups: test.scope, Filter: test.filter, MemberOf: "inGroup"}, Groups: connection.GroupSource{BaseDNs: test.groups}}
		got, err := searchBases(cfg)
		if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", test.name, err, diff)
		}
	}
}

func TestAttributesThatTheSchemaDoesNotKnowAreRefused(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{})
	cfg := config(srv)
	deps := source(t, cfg).deps
	deps.Former = []string{"formerly"}
	deps.Keys = func(attribute string) []string { return []string{"key.of." + attribute} }
	s, err := New(cfg, []string{"uid", "mail", "displayNmae", "shoeSize", "surname", "cn;lang-fr", "formerly"}, deps)
	if err != nil {
		t.Fatal(err)
	}
	const want = "displaynmae (key.of.displaynmae): did you mean displayname?; " +
		"shoesize (key.of.shoesize): correct it there, or add the attribute to the directory's schema; " +
		"surname (key.of.surname): the directory calls it sn, write that name"
	if err := s.CheckAttributes(t.Context()); !errors.Is(err, ErrUnknownAttribute) || !strings.HasSuffix(err.Error(), ": "+want) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	// A session refuses it, too, before it reports any entry.
	r := &recorder{mirror: map[ID]*Entry{}, settled: make(chan state, 1)}
	if err := s.Watch(t.Context(), r); !errors.Is(err, ErrUnknownAttribute) || len(r.log) > 0 {
		t.Errorf("a session ended with %v after %v, want a refusal before anything is reported", err, r.log)
	}
}
