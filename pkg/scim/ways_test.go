package scim_test

import (
	"io"
	"net/http"
	"net/url"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// recorder is a target that takes everything, and what it was sent.
func recorder(t *testing.T, profile scim.Profile) (client *scim.Client, sent func() []string) {
	t.Helper()
	var mu sync.Mutex
	var all []string
	address := handler(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		query, _ := url.QueryUnescape(r.URL.RawQuery)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, r.Method+" "+r.URL.Path+" "+query+string(body))
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, `{"totalResults":0}`)
			return
		}
		_, _ = io.WriteString(w, `{"id":"1"}`)
	})
	return newClient(t, address, func(c *scim.Config) { c.Profile = profile }), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

// TestWaysOfATarget says what each knob makes of the same calls.
func TestWaysOfATarget(t *testing.T) {
	t.Parallel()
	const department = scim.SchemaEnterpriseUser + ":department"
	find := func(attribute, value string) func(*scim.Client) error {
		return func(c *scim.Client) error {
			_, err := c.Find(t.Context(), scim.KindUser, attribute, value)
			return err
		}
	}
	patch := func(ops ...scim.Operation) func(*scim.Client) error {
		return func(c *scim.Client) error {
			_, err := c.Patch(t.Context(), scim.KindUser, "1", ops)
			return err
		}
	}
	const listing = "count=100&filter="
	for _, row := range []struct {
		name   string
		change func(*scim.Profile)
		call   func(*scim.Client) error
		want   []string
	}{
		{
			"a look-up by another path", func(p *scim.Profile) { p.Lookup = map[string]string{"externalId": "id", "emails": "emails"} },
			find("externalId", "a1"),
			[]string{"GET /Users " + listing + `id eq "a1"&startIndex=1`},
		},
		{
			"a look-up of a multi-valued attribute", func(p *scim.Profile) { p.Lookup = map[string]string{"emails.value": "emails"} },
			find(`emails[type eq "work"].value`, "a@x"),
			[]string{"GET /Users " + listing + `emails eq "a@x"&startIndex=1`},
		},
		{
			"a look-up as it is", func(p *scim.Profile) { p.Lookup = map[string]string{"emails.value": "emails"} },
			find("userName", "Ada"),
			[]string{"GET /Users " + listing + `userName eq "Ada"&startIndex=1`},
		},
		{
			"a target that knows upper case", func(p *scim.Profile) { p.CaseSensitive = true },
			find("userName", "Ada"),
			[]string{"GET /Users " + listing + `userName eq "Ada"&startIndex=1`, "GET /Users " + listing + `userName eq "ada"&startIndex=1`},
		},
		{
			"a name in lower case", func(p *scim.Profile) { p.CaseSensitive = true },
			find("userName", "ada"),
			[]string{"GET /Users " + listing + `userName eq "ada"&startIndex=1`},
		},
		{
			"an extension by its path", func(*scim.Profile) {}, patch(scim.SetOperation(scim.Unit{Path: department, Value: "R&D"})),
			[]string{`PATCH /Users/1 {"Operations":[{"op":"replace","path":"` + department + `","value":"R&D"}],"schemas":["` + scim.SchemaPatchOp + "\"]}\n"},
		},
		{
			"an extension as an object", func(p *scim.Profile) { p.ExtensionPatch = scim.ExtensionNested },
			patch(scim.SetOperation(scim.Unit{Path: department, Value: "R&D"}), scim.SetOperation(scim.Unit{Path: "title", Value: "x"})),
			[]string{`PATCH /Users/1 {"Operations":[{"op":"replace","value":{"` + scim.SchemaEnterpriseUser + `":{"department":"R&D"}}},` +
				`{"op":"replace","path":"title","value":"x"}],"schemas":["` + scim.SchemaPatchOp + "\"]}\n"},
		},
		{
			"a boolean as a string", func(p *scim.Profile) { p.BoolAsString = true },
			patch(scim.SetOperation(scim.Unit{Path: "active", Value: false})),
			[]string{`PATCH /Users/1 {"Operations":[{"op":"replace","path":"active","value":"False"}],"schemas":["` + scim.SchemaPatchOp + "\"]}\n"},
		},
		{
			"a boolean as a string in a body", func(p *scim.Profile) { p.BoolAsString = true },
			func(c *scim.Client) error {
				_, err := c.Create(t.Context(), scim.KindUser, map[string]any{"userName": "a", "active": true})
				return err
			},
			[]string{`POST /Users {"active":"True","schemas":["` + scim.SchemaUser + "\"],\"userName\":\"a\"}\n"},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			profile := scim.Generic()
			row.change(&profile)
			client, sent := recorder(t, profile)
			if err := row.call(client); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.want, sent()); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBodyThatTheProfileForbidsIsNotSent(t *testing.T) {
	t.Parallel()
	profile := scim.Generic()
	profile.MaxBodyBytes = 300
	client, sent := recorder(t, profile)
	if _, err := client.Patch(t.Context(), scim.KindGroup, "1", []scim.Operation{scim.AddMembers([]string{"a", "b"})}); err != nil {
		t.Error(err)
	}
	ids := make101()[:30]
	for _, err := range []error{
		func() error {
			_, err := client.Patch(t.Context(), scim.KindGroup, "1", []scim.Operation{scim.AddMembers(ids)})
			return err
		}(),
		func() error {
			members := scim.AddMembers(ids).Value
			_, err := client.Create(t.Context(), scim.KindGroup, map[string]any{"displayName": "x", "members": members})
			return err
		}(),
	} {
		if !scim.IsTooLarge(err) || scim.IsAmbiguous(err) || scim.IsTemporary(err) {
			t.Errorf("%v is %s", err, scim.Classify(err))
		}
	}
	if n := len(sent()); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestUserAgentOfTheProfile(t *testing.T) {
	t.Parallel()
	agents := make(chan string, 1)
	address := handler(t, func(w http.ResponseWriter, r *http.Request) {
		agents <- r.UserAgent()
		w.WriteHeader(http.StatusNoContent)
	})
	client := newClient(t, address, func(c *scim.Config) { c.Profile = scim.Generic(); c.Profile.UserAgent = "corp/1" })
	if err := client.Delete(t.Context(), scim.KindUser, "1"); err != nil {
		t.Fatal(err)
	}
	if got := <-agents; got != "corp/1" {
		t.Errorf("User-Agent %q", got)
	}
}
