package scim_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

const (
	wrongToken = `{"status":"error","message":"token is not valid"}`
	scimError  = `{"schemas":["urn:ietf:params:scim:api:messages:2.0:Error"],"status":"400","detail":"no"}`
	theUser    = `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"id":"u1","userName":"ada"}`
	another    = `{"id":"u2","userName":"bob"}`
	aPage      = "<html>please log in</html>"
)

// TestSuccessIsProven is the specification: which answers show that what was asked was
// done.
func TestSuccessIsProven(t *testing.T) {
	t.Parallel()
	calls := map[string]func(context.Context, *scim.Client) error{
		"PATCH": func(ctx context.Context, c *scim.Client) error {
			_, err := c.Patch(ctx, scim.KindUser, "u1", []scim.Operation{{Op: "replace", Path: "title", Value: "x"}})
			return err
		},
		"PUT": func(ctx context.Context, c *scim.Client) error {
			_, err := c.Put(ctx, scim.KindUser, "u1", map[string]any{"userName": "ada"})
			return err
		},
		"DELETE": func(ctx context.Context, c *scim.Client) error { return c.Delete(ctx, scim.KindUser, "u1") },
		"GET": func(ctx context.Context, c *scim.Client) error {
			_, err := c.Get(ctx, scim.KindUser, "u1")
			return err
		},
		"POST": func(ctx context.Context, c *scim.Client) error {
			_, err := c.Create(ctx, scim.KindUser, map[string]any{"userName": "ada"})
			return err
		},
		"find": func(ctx context.Context, c *scim.Client) error {
			_, err := c.Find(ctx, scim.KindUser, "userName", "ada")
			return err
		},
		"capabilities": func(ctx context.Context, c *scim.Client) error {
			_, err := c.Capabilities(ctx)
			return err
		},
	}
	for _, row := range []struct {
		calls  string
		status int
		body   string
		proven bool
	}{
		{"PATCH PUT DELETE", 204, "", true},
		{"PATCH PUT DELETE GET POST", 200, theUser, true},
		{"PATCH PUT POST", 201, theUser, true},
		{"PATCH PUT DELETE GET", 200, strings.Replace(theUser, "u1", "U1", 1), true},
		{"PATCH PUT DELETE GET", 200, another, false},
		{"PATCH PUT GET POST find capabilities", 200, "", false},
		{"PATCH PUT GET POST find capabilities", 200, "{}", false},
		{"DELETE", 200, "", true},
		{"DELETE", 200, "{}", true},
		{"DELETE", 202, "", true},
		{"DELETE", 202, wrongToken, false},
		{"PATCH PUT DELETE GET POST find capabilities", 200, wrongToken, false},
		{"PATCH PUT DELETE GET POST find capabilities", 200, scimError, false},
		{"PATCH PUT DELETE GET POST find capabilities", 200, aPage, false},
		{"find", 200, `{"totalResults":0}`, true},
		{"find", 200, `{"Resources":[]}`, true},
		{"find", 200, `{"schemas":["urn:ietf:params:scim:api:messages:2.0:ListResponse"]}`, true},
		{"capabilities", 200, `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"]}`, true},
		{"capabilities", 200, `{"patch":{"supported":true}}`, true},
	} {
		url := handler(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(row.status)
			_, _ = w.Write([]byte(row.body))
		})
		client := newClient(t, url)
		for name := range strings.FieldsSeq(row.calls) {
			err := calls[name](t.Context(), client)
			if (err == nil) != row.proven || err != nil && !scim.IsUnproven(err) {
				t.Errorf("%s answered %d %s: %v, want proven %v", name, row.status, row.body, err, row.proven)
			}
			if writes := name != "GET" && name != "find" && name != "capabilities"; err != nil && scim.IsAmbiguous(err) != writes {
				t.Errorf("%s answered %d %s: ambiguous %v", name, row.status, row.body, !writes)
			}
			if row.body == wrongToken && !strings.Contains(fmt.Sprint(err), "token is not valid") {
				t.Errorf("%s: %v does not give the target's words", name, err)
			}
		}
	}
}

func TestProfileVouchesForAStatus(t *testing.T) {
	t.Parallel()
	url := handler(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("OK")) })
	client := newClient(t, url, func(c *scim.Config) {
		c.Profile = scim.Generic()
		c.Profile.Proof = scim.ProofByStatus
	})
	if _, err := client.Patch(t.Context(), scim.KindUser, "u1", []scim.Operation{{Op: "replace", Path: "title", Value: "x"}}); err != nil {
		t.Error(err)
	}
	if err := client.Delete(t.Context(), scim.KindUser, "u1"); err != nil {
		t.Error(err)
	}
	if _, err := client.Get(t.Context(), scim.KindUser, "u1"); !scim.IsUnproven(err) {
		t.Errorf("a read: %v", err)
	}
}

// TestGone says which 404 means that a resource is not there.
func TestGone(t *testing.T) {
	t.Parallel()
	for body, gone := range map[string]bool{
		"": true, "null": true, "{}": true, scimError: true,
		`{"status":"404","detail":"no such user"}`: true, `{"schemas":[],"status":404}`: true,
		`{"message":"no Route matched with those values"}`:                            false, // Kong, AWS API Gateway
		`{"detail":"Not Found"}`:                                                      false, // FastAPI
		`{"timestamp":"2026-01-01","status":404,"error":"Not Found","path":"/Users"}`: false, // Spring
		aPage:    false,
		`"gone"`: false,
	} {
		url := handler(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(body))
		})
		client := newClient(t, url)
		_, err := client.Get(t.Context(), scim.KindUser, "u1")
		if scim.IsNotFound(err) != gone {
			t.Errorf("404 %s: %s, want gone %v", body, scim.Classify(err), gone)
		}
		if !gone && !strings.Contains(err.Error(), "target.url") {
			t.Errorf("404 %s: no hint in %v", body, err)
		}
		if deleted := client.Delete(t.Context(), scim.KindUser, "u1") == nil; deleted != gone {
			t.Errorf("404 %s to a DELETE: deleted %v, want %v", body, deleted, gone)
		}
	}
}

// A proxy answers 503 also when the target's answer was lost.
func TestCreateIsNotRepeatedAfterTheAnswerOfAProxy(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		fault    scimtest.Fault
		requests int
	}{
		"a proxy's 503":                {scimtest.Fault{Status: 503, AfterCommit: true, Body: "upstream connect error"}, 1},
		"an empty 503":                 {scimtest.Fault{Status: 503, AfterCommit: true, Body: " "}, 1},
		"a SCIM error":                 {scimtest.Fault{Status: 503}, 3},
		"a 503 that says for how long": {scimtest.Fault{Status: 503, Body: "busy", RetryAfter: 1}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := scimtest.NewServer(t, scimtest.Options{})
			server.SetFault(func(scimtest.Request) *scimtest.Fault { return &row.fault })
			_, err := newClient(t, server.URL()).Create(t.Context(), scim.KindGroup, map[string]any{"displayName": "staff"})
			if got := len(server.Requests()); got != row.requests || scim.IsAmbiguous(err) != row.fault.AfterCommit {
				t.Errorf("%d requests, ambiguous %v: %v", got, scim.IsAmbiguous(err), err)
			}
		})
	}
}
