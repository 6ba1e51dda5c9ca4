package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

func get(t *testing.T, url string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.Header
}

func TestRun(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "url")
	ctx, stop := context.WithCancel(t.Context())
	ready, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- run(ctx, []string{"-url-file", file, "-token", "tok"}, out) }()
	line := make([]byte, 200)
	n, err := ready.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(file)
	if err != nil || string(written) != string(line[:n]) || !strings.HasSuffix(string(written), "/scim/v2\n") {
		t.Errorf("the file holds %q, %v; printed was %q", written, err, line[:n])
	}
	if status, _, _ := get(t, strings.TrimSpace(string(written))+"/Users"); status != http.StatusUnauthorized {
		t.Errorf("without a token: %d", status)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("stop: %v", err)
	}
}

func TestRunRefusesFlags(t *testing.T) {
	t.Parallel()
	if err := run(t.Context(), []string{"-listen", "nowhere:-1"}, io.Discard); err == nil {
		t.Error("no error")
	}
}

func TestPage(t *testing.T) {
	t.Parallel()
	server := scimtest.New(scimtest.Options{})
	if err := server.Serve("127.0.0.1:0", newPage(server)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	u := server.Seed(scim.KindUser, map[string]any{"userName": "<script>ada"})
	server.Seed(scim.KindGroup, map[string]any{"displayName": "staff", "members": []any{map[string]any{"value": u}}})
	root := strings.TrimSuffix(server.URL(), scimtest.BasePath)
	status, body, header := get(t, root+"/")
	if status != 200 || !strings.Contains(body, server.URL()) || header.Get("Content-Security-Policy") == "" {
		t.Errorf("page: %d %s", status, body)
	}
	get(t, server.URL()+"/Users/"+u)
	get(t, server.URL()+"/Users/nobody")
	var state struct {
		Users, Groups []scimtest.Row
		UserCount     int `json:"user_count"`
		Requests      []scimtest.Request
	}
	if _, body, _ = get(t, root+"/state"); json.Unmarshal([]byte(body), &state) != nil || strings.Contains(body, "<script>") {
		t.Fatalf("state: %s", body)
	}
	if state.UserCount != 1 || len(state.Users) != 1 || state.Groups[0].Members != 1 || len(state.Requests) != 2 || state.Requests[0].Status != 404 {
		t.Errorf("state: %+v", state)
	}
	if _, body, _ = get(t, root+"/counts"); strings.TrimSpace(body) != `{"groups":1,"requests":2,"users":1}` {
		t.Errorf("counts: %s", body)
	}
	var requests []scimtest.Request
	if _, body, _ = get(t, root+"/requests?after=1"); json.Unmarshal([]byte(body), &requests) != nil || len(requests) != 1 || requests[0].Seq != 2 {
		t.Errorf("requests: %s", body)
	}
	if _, body, _ = get(t, root+"/requests?after=9"); strings.TrimSpace(body) != "[]" {
		t.Errorf("no requests: %s", body)
	}
	if status, _, _ = get(t, root+"/requests?after=x"); status != 400 {
		t.Errorf("after=x: %d", status)
	}
}
