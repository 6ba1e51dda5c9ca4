package scimtest_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

func userBody(fields string) string {
	return `{"schemas":["` + scim.SchemaUser + `"],` + fields + `}`
}

func TestCreateIsStrict(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, body string
		status     int
		scimType   string
	}{
		{"right", userBody(`"userName":"ada"`), 201, ""},
		{"names in any case", userBody(`"USERNAME":"ada"`), 201, ""},
		{"read-only is ignored", userBody(`"userName":"ada","id":"7","meta":{"created":"x"},"groups":[]`), 201, ""},
		{"extension", `{"schemas":["` + scim.SchemaUser + `","` + enterprise + `"],"userName":"a","` + enterprise + `":{"department":"R"}}`, 201, ""},
		{"no schemas", `{"userName":"ada"}`, 400, "invalidSyntax"},
		{"unknown schema", `{"schemas":["` + scim.SchemaUser + `","urn:x:y:z"],"userName":"ada"}`, 400, "invalidSyntax"},
		{"extension that schemas does not name", userBody(`"userName":"ada","` + enterprise + `":{"department":"R"}`), 400, "invalidSyntax"},
		{"no userName", userBody(`"title":"x"`), 400, "invalidValue"},
		{"empty userName", userBody(`"userName":""`), 400, "invalidValue"},
		{"unknown attribute", userBody(`"userName":"ada","shoeSize":"44"`), 400, "invalidValue"},
		{"unknown sub-attribute", userBody(`"userName":"ada","name":{"shoe":"44"}`), 400, "invalidValue"},
		{"twice", userBody(`"userName":"ada","USERNAME":"eve"`), 400, "invalidSyntax"},
		{"boolean as a string", userBody(`"userName":"ada","active":"true"`), 400, "invalidValue"},
		{"two primaries", userBody(`"userName":"ada","emails":[{"value":"a","primary":true},{"value":"b","primary":true}]`), 400, "invalidValue"},
		{"mails as strings", userBody(`"userName":"ada","emails":["a@x"]`), 400, "invalidValue"},
		{"no JSON", `{`, 400, "invalidSyntax"},
		{"an array", `[]`, 400, "invalidSyntax"},
		{"null", `null`, 400, "invalidSyntax"},
		{"something behind", userBody(`"userName":"ada"`) + `{}`, 400, "invalidSyntax"},
		{"taken", userBody(`"userName":"BOB"`), 409, "uniqueness"},
		{"certificate", userBody(`"userName":"ada","x509Certificates":[{"value":"not base64!"}]`), 400, "invalidValue"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := scimtest.NewServer(t, scimtest.Options{Hostile: true})
			s.Seed(scim.KindUser, map[string]any{"userName": "bob"})
			status, answer := do(t, s, http.MethodPost, "/Users", test.body)
			if got, _ := answer["scimType"].(string); status != test.status || got != test.scimType {
				t.Errorf("answered %d %v, want %d %s", status, answer, test.status, test.scimType)
			}
			if created := s.Count(scim.KindUser) == 2; created != (test.status == 201) {
				t.Errorf("created: %v", created)
			}
		})
	}
}

func TestPutReplaces(t *testing.T) {
	t.Parallel()
	s := scimtest.NewServer(t, scimtest.Options{Hostile: true})
	_, created := do(t, s, http.MethodPost, "/Users", before)
	id, _ := created["id"].(string)
	status, after := do(t, s, http.MethodPut, "/Users/"+id, userBody(`"userName":"ann"`))
	if status != 200 || after["userName"] != "ann" || after["title"] != nil || after["active"] != nil || after[enterprise] != nil {
		t.Errorf("answered %d %v", status, after)
	}
	if status, _ := do(t, s, http.MethodPut, "/Users/"+id, userBody(`"userName":"ann","id":"other"`)); status != 400 {
		t.Errorf("another id: %d", status)
	}
	if status, _ := do(t, s, http.MethodPut, "/Users/nobody", userBody(`"userName":"x"`)); status != 404 {
		t.Errorf("nobody: %d", status)
	}
	member := s.Seed(scim.KindUser, map[string]any{"userName": "bob"})
	group := s.Seed(scim.KindGroup, map[string]any{"displayName": "g", "members": []any{map[string]any{"value": id}}})
	body := `{"schemas":["` + scim.SchemaGroup + `"],"displayName":"h","members":[{"value":"` + member + `"}]}`
	if status, _ := do(t, s, http.MethodPut, "/Groups/"+group, body); status != 200 {
		t.Errorf("group: %d", status)
	}
	if diff := cmp.Diff([]string{"bob"}, s.Members("h")); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
}

func TestTransport(t *testing.T) {
	t.Parallel()
	s := scimtest.NewServer(t, scimtest.Options{Hostile: true, Token: "tok"})
	tests := []struct {
		name, method, path, body string
		header                   []string
		status                   int
	}{
		{"no token", "GET", "/Users", "", nil, 401},
		{"wrong token", "GET", "/Users", "", []string{"Authorization", "Bearer to"}, 401},
		{"right token", "GET", "/Users", "", []string{"Authorization", "Bearer tok"}, 200},
		{"wrong content type", "POST", "/Users", "{}", []string{"Authorization", "Bearer tok", "Content-Type", "text/plain"}, 415},
		{"wrong accept", "GET", "/Users", "", []string{"Authorization", "Bearer tok", "Accept", "text/html"}, 406},
		{"accept with quality", "GET", "/Users", "", []string{"Authorization", "Bearer tok", "Accept", "text/html, application/json;q=0.5"}, 200},
		{"unknown endpoint", "GET", "/Robots", "", []string{"Authorization", "Bearer tok"}, 404},
		{"wrong case", "GET", "/users", "", []string{"Authorization", "Bearer tok"}, 404},
		{"delete of the collection", "DELETE", "/Users", "", []string{"Authorization", "Bearer tok"}, 405},
		{"delete of the collection with a slash", "DELETE", "/Users/", "", []string{"Authorization", "Bearer tok"}, 405},
		{"bulk", "POST", "/Bulk", "{}", []string{"Authorization", "Bearer tok"}, 501},
		{"schemas", "GET", "/Schemas", "", []string{"Authorization", "Bearer tok"}, 200},
		{"resource types", "GET", "/ResourceTypes", "", []string{"Authorization", "Bearer tok"}, 200},
		{"configuration", "GET", "/ServiceProviderConfig", "", []string{"Authorization", "Bearer tok"}, 200},
		{"write to the configuration", "PUT", "/ServiceProviderConfig", "{}", []string{"Authorization", "Bearer tok"}, 405},
		{"both projections", "GET", "/Users?attributes=id&excludedAttributes=name", "", []string{"Authorization", "Bearer tok"}, 400},
		{"start that is no number", "GET", "/Users?startIndex=x", "", []string{"Authorization", "Bearer tok"}, 400},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if status, answer := do(t, s, test.method, test.path, test.body, test.header...); status != test.status {
				t.Errorf("answered %d %v, want %d", status, answer, test.status)
			}
		})
	}
}

func TestDeleteOfAUserEndsMemberships(t *testing.T) {
	t.Parallel()
	s := scimtest.NewServer(t, scimtest.Options{Hostile: true})
	a, b := s.Seed(scim.KindUser, map[string]any{"userName": "a"}), s.Seed(scim.KindUser, map[string]any{"userName": "b"})
	s.Seed(scim.KindGroup, map[string]any{"displayName": "g", "members": []any{map[string]any{"value": a}, map[string]any{"value": b}}})
	if status, _ := do(t, s, http.MethodDelete, "/Users/"+a, ""); status != 204 {
		t.Errorf("delete: %d", status)
	}
	if status, _ := do(t, s, http.MethodDelete, "/Users/"+a, ""); status != 404 {
		t.Errorf("second delete: %d", status)
	}
	if diff := cmp.Diff([]string{"b"}, s.Members("g")); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	if status, _ := do(t, s, http.MethodPost, "/Users", userBody(`"userName":"A"`)); status != 201 {
		t.Errorf("the name of a deleted user is still taken: %d", status)
	}
}

func TestListing(t *testing.T) {
	t.Parallel()
	s := scimtest.NewServer(t, scimtest.Options{Hostile: true, MaxPage: 7})
	for i := range 25 {
		s.Seed(scim.KindUser, map[string]any{"userName": fmt.Sprintf("u%02d", i), "title": fmt.Sprint("t", i%2)})
	}
	for i := range 3 { // leaves holes behind
		u, _ := s.User(fmt.Sprintf("u%02d", i*5))
		if err := s.Remove(scim.KindUser, u["id"].(string)); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name, query         string
		total, items, start float64
		first               string
	}{
		{"largest page", "", 22, 7, 1, "u01"},
		{"second page", "startIndex=8&count=5", 22, 5, 8, "u09"},
		{"last page", "startIndex=22&count=5", 22, 1, 22, "u24"},
		{"behind the end", "startIndex=23", 22, 0, 23, ""},
		{"count 0", "count=0", 22, 0, 1, ""},
		{"negative", "startIndex=-4&count=-4", 22, 0, 1, ""},
		{"filtered", "filter=" + url.QueryEscape(`title eq "T1"`) + "&startIndex=3&count=2", 11, 2, 3, "u07"},
		{"nothing", "filter=" + url.QueryEscape(`userName eq "nobody"`), 0, 0, 1, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, answer := do(t, s, http.MethodGet, "/Users?"+test.query, "")
			resources, _ := answer["Resources"].([]any)
			if answer["totalResults"] != test.total || answer["startIndex"] != test.start || float64(len(resources)) != test.items {
				t.Errorf("answered %v", answer)
			}
			if test.first != "" && resources[0].(map[string]any)["userName"] != test.first {
				t.Errorf("first is %v, want %s", resources[0], test.first)
			}
		})
	}
}

func TestProjection(t *testing.T) {
	t.Parallel()
	s := scimtest.NewServer(t, scimtest.Options{Hostile: true})
	_, created := do(t, s, http.MethodPost, "/Users", before)
	id, _ := created["id"].(string)
	tests := []struct{ query, want string }{
		{"attributes=title", `{"title":"Boss"}`},
		{"attributes=NAME.givenname,id", `{"name":{"givenName":"Ada"}}`},
		{"attributes=emails.type", `{"emails":[{"type":"work"},{"type":"home"}]}`},
		{"attributes=" + enterprise + ":department", `{"` + enterprise + `":{"department":"R"}}`},
		{"attributes=" + enterprise, `{"` + enterprise + `":{"department":"R"}}`},
		{"attributes=nonsense", `{}`},
		{"excludedAttributes=emails,meta,title,active,id,userName," + enterprise, `{"name":{"givenName":"Ada","familyName":"L"}}`},
		{"excludedAttributes=name.givenName,emails,meta,title,active,userName," + enterprise, `{"name":{"familyName":"L"}}`},
	}
	for _, test := range tests {
		t.Run(test.query, func(t *testing.T) {
			t.Parallel()
			_, got := do(t, s, http.MethodGet, "/Users/"+id+"?"+test.query, "")
			if got["id"] != id || got["schemas"] == nil {
				t.Errorf("id or schemas is missing: %v", got)
			}
			delete(got, "id")
			delete(got, "schemas")
			if diff := cmp.Diff(changed(t, map[string]any{}, test.want), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLogAndSnapshot(t *testing.T) {
	t.Parallel()
	s := scimtest.NewServer(t, scimtest.Options{Hostile: true, LogSize: 3})
	for i := range 10 {
		do(t, s, http.MethodGet, fmt.Sprintf("/Users?count=%d", i), "")
	}
	log := s.Requests()
	if len(log) != 3 || log[2].Seq != 10 || log[2].Path != "/Users" || log[2].Query != "count=9" || log[2].Status != 200 {
		t.Errorf("log %+v", log)
	}
	if diff := cmp.Diff(map[string]int{"GET /Users": 3}, s.Counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if got := s.RequestsAfter(9); len(got) != 1 || got[0].Seq != 10 {
		t.Errorf("after 9: %+v", got)
	}
	s.ResetLog()
	if len(s.Requests()) != 0 || len(s.Writes()) != 0 {
		t.Error("the log was not reset")
	}
	id := s.Seed(scim.KindUser, map[string]any{"userName": "ada", "password": "x"})
	u, ok := s.User("ADA")
	if !ok || u["id"] != id || u["password"] != nil {
		t.Errorf("user %v", u)
	}
	u["userName"] = "changed"
	if _, ok := s.User("ada"); !ok {
		t.Error("a snapshot shares memory with the server")
	}
	if err := s.Patch(scim.KindUser, id, scim.Operation{Op: "replace", Path: "title", Value: "CEO"}); err != nil {
		t.Error(err)
	}
	if rows := s.Recent(scim.KindUser, 5); len(rows) != 1 || rows[0].Name != "ada" || !rows[0].Active {
		t.Errorf("rows %+v", rows)
	}
	if len(s.Requests()) != 0 {
		t.Error("seeds and patches of the test are in the log")
	}
}

func TestParallelWriters(t *testing.T) {
	t.Parallel()
	s := scimtest.NewServer(t, scimtest.Options{Hostile: true})
	group := s.Seed(scim.KindGroup, map[string]any{"displayName": "g"})
	var wg sync.WaitGroup
	for i := range 20 {
		id := s.Seed(scim.KindUser, map[string]any{"userName": fmt.Sprint("u", i)})
		wg.Go(func() {
			do(t, s, http.MethodPatch, "/Groups/"+group, patch(`{"op":"add","path":"members","value":[{"value":"`+id+`"}]}`))
		})
		wg.Go(func() { do(t, s, http.MethodGet, "/Groups/"+group, "") })
		wg.Go(func() { do(t, s, http.MethodPost, "/Users", userBody(`"userName":"same"`)) })
	}
	wg.Wait()
	if n := len(s.Members("g")); n != 20 {
		t.Errorf("%d members, want 20", n)
	}
	if n := s.Count(scim.KindUser); n != 21 {
		t.Errorf("%d users, want 21: a name was taken twice", n)
	}
}

func TestHostileRequests(t *testing.T) {
	t.Parallel()
	s := scimtest.NewServer(t, scimtest.Options{Hostile: true})
	deep := strings.Repeat("(", 5000) + "userName pr" + strings.Repeat(")", 5000)
	if status, _ := do(t, s, http.MethodGet, "/Users?filter="+url.QueryEscape(deep), ""); status != 400 {
		t.Errorf("a deep filter: %d", status)
	}
	if status, _ := do(t, s, http.MethodPost, "/Users", strings.Repeat("[", 1<<20)); status != 400 {
		t.Errorf("a deep body: %d", status)
	}
	if status, _ := do(t, s, http.MethodGet, "/Users/a%2Fb", ""); status != 404 {
		t.Errorf("a slash in an id: %d", status)
	}
}
