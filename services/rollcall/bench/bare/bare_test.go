package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/services/rollcall/bench/recording"
)

func recorded() recording.Recording {
	user := func(name string) string { return `{"schemas":["` + scim.SchemaUser + `"],"userName":"` + name + `"}` }
	return recording.New([]recording.Request{
		{Method: http.MethodPost, Path: "/Groups", Creates: "old-g", Body: `{"schemas":["` + scim.SchemaGroup + `"],"displayName":"g","members":[{"value":"old-a"}]}`},
		{Method: http.MethodPatch, Path: "/Groups/old-g", Body: `{"schemas":["` + scim.SchemaPatchOp + `"],"Operations":[{"op":"add","path":"members","value":[{"value":"old-b"}]}]}`},
		{Method: http.MethodPost, Path: "/Users", Creates: "old-a", Body: user("ann")},
		{Method: http.MethodPost, Path: "/Users", Creates: "old-b", Body: user("bob")},
	})
}

func TestRun(t *testing.T) {
	t.Parallel()
	target := scimtest.NewServer(t, scimtest.Options{Token: "secret"})
	file := filepath.Join(t.TempDir(), "recording.json")
	if err := recorded().Save(file); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-url", target.URL(), "-token", "secret", "-recording", file}, &out); err != nil {
		t.Fatal(err)
	}
	var got result
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Requests != 4 || got.Seconds <= 0 || len(target.Requests()) != 4 {
		t.Errorf("printed %+v, the target got %d requests", got, len(target.Requests()))
	}
	if diff := cmp.Diff([]string{"ann", "bob"}, target.Members("g")); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
}

func TestRun_stopsAtARefusal(t *testing.T) {
	t.Parallel()
	target := scimtest.NewServer(t, scimtest.Options{Token: "secret"})
	file := filepath.Join(t.TempDir(), "recording.json")
	if err := recorded().Save(file); err != nil {
		t.Fatal(err)
	}
	err := run(t.Context(), []string{"-url", target.URL(), "-token", "wrong", "-recording", file}, t.Output())
	if err == nil || !strings.Contains(err.Error(), "status 401") {
		t.Errorf("error: %v", err)
	}
}
