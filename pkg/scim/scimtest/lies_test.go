package scimtest_test

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

// lying is a server with ada, bob and their group staff that lies from now on.
func lying(t *testing.T, lies scimtest.Quirks) *quirky {
	t.Helper()
	q := newQuirky(t, scimtest.Options{})
	q.SetQuirks(lies)
	return q
}

func TestErrorsAnswerOK(t *testing.T) {
	t.Parallel()
	q := lying(t, scimtest.Quirks{ErrorsAnswerOK: true})
	q.SetFault(func(scimtest.Request) *scimtest.Fault {
		return &scimtest.Fault{Status: http.StatusUnauthorized, Detail: "wrong token"}
	})
	answer := q.want(http.StatusOK, http.MethodDelete, "/Users/$ada", "")
	if diff := cmp.Diff(map[string]any{"status": "error", "message": "wrong token"}, answer); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	if _, there := q.User("ada"); !there {
		t.Error("what was refused was done")
	}
}

func TestGatewayNotFound(t *testing.T) {
	t.Parallel()
	q := lying(t, scimtest.Quirks{GatewayNotFound: true})
	if answer := q.want(http.StatusNotFound, http.MethodGet, "/Users/$ada", ""); answer["message"] == nil || answer["schemas"] != nil {
		t.Errorf("answer: %v", answer)
	}
}

func TestPatchKeeps(t *testing.T) {
	t.Parallel()
	q := lying(t, scimtest.Quirks{PatchKeeps: []string{"title", enterprise, "members"}})
	answer := q.want(http.StatusOK, http.MethodPatch, "/Users/$ada", patch(
		`{"op":"replace","path":"title","value":"Clerk"},{"op":"replace","path":"nickName","value":"Addie"},`+
			`{"op":"replace","path":"`+enterprise+`:department","value":"Sales"}`))
	if answer["title"] != nil || answer[enterprise] != nil || answer["nickName"] != "Addie" {
		t.Errorf("answer: %v", answer)
	}
	q.want(http.StatusOK, http.MethodPatch, "/Groups/$staff", patch(removeAda))
	if got := q.Members("staff"); len(got) != 2 {
		t.Errorf("members %v", got)
	}
}

func TestReplaceExtensions(t *testing.T) {
	t.Parallel()
	q := lying(t, scimtest.Quirks{ReplaceExtensions: true})
	for _, object := range []string{`{"department":"Sales"}`, `{"division":"North"}`} {
		q.want(http.StatusOK, http.MethodPatch, "/Users/$ada", patch(`{"op":"replace","value":{"`+enterprise+`":`+object+`}}`))
	}
	ada, _ := q.User("ada")
	if diff := cmp.Diff(map[string]any{"division": "North"}, ada[enterprise]); diff != "" {
		t.Errorf("extension (-want +got):\n%s", diff)
	}
}

func TestMaxListed(t *testing.T) {
	t.Parallel()
	q := lying(t, scimtest.Quirks{MaxListed: 1})
	for query, want := range map[string]any{"": 1.0, "?filter=meta.resourceType+eq+%22User%22": 2.0, "?startIndex=2": 1.0} {
		if got := q.want(http.StatusOK, http.MethodGet, "/Users"+query, "")["totalResults"]; got != want {
			t.Errorf("%s: totalResults %v, want %v", query, got, want)
		}
	}
}

func TestRefusedMembers(t *testing.T) {
	t.Parallel()
	q := lying(t, scimtest.Quirks{RefusedMembers: []string{"cyd"}})
	cyd := q.Seed(scim.KindUser, map[string]any{"userName": "cyd"})
	q.want(http.StatusBadRequest, http.MethodPatch, "/Groups/$staff", patch(`{"op":"add","path":"members","value":[{"value":"`+cyd+`"}]}`))
}

func TestEmptyElements(t *testing.T) {
	t.Parallel()
	q := lying(t, scimtest.Quirks{EmptyElements: []string{"phoneNumbers"}})
	want := []any{map[string]any{"value": ""}}
	if diff := cmp.Diff(want, q.want(http.StatusOK, http.MethodGet, "/Users/$ada", "")["phoneNumbers"]); diff != "" {
		t.Errorf("phoneNumbers (-want +got):\n%s", diff)
	}
}

// A write whose client has gone is done when it leaves the network.
func TestLateWrite(t *testing.T) {
	t.Parallel()
	q := newQuirky(t, scimtest.Options{})
	late := make(chan struct{})
	q.SetFault(func(scimtest.Request) *scimtest.Fault { return &scimtest.Fault{Late: late} })
	request, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, q.URL()+"/Users/"+q.ada, nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := http.DefaultClient.Do(request); err == nil {
		_ = answer.Body.Close()
		t.Fatalf("the client got an answer: %s", answer.Status)
	}
	if _, there := q.User("ada"); !there {
		t.Error("it was done at once")
	}
	close(late)
	q.WaitLate()
	if _, there := q.User("ada"); there {
		t.Error("it was never done")
	}
}
