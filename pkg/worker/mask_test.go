package worker

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestMaskedValuesAreNeverShown(t *testing.T) {
	t.Parallel()
	m := newMask([]string{"title", "name.familyName", `emails[type eq "work"].value`, "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:employeeNumber"})
	cases := []struct {
		name, request, answer, message       string
		wantRequest, wantAnswer, wantMessage string
	}{
		{
			name:        "creation",
			request:     `{"userName":"ann","title":"Spy","name":{"givenName":"Ann","familyName":"Archer"},"emails":[{"type":"work","value":"ann@x"}],"active":true}`,
			wantRequest: `{"userName":"ann","title":"***","name":{"givenName":"Ann","familyName":"***"},"emails":[{"type":"***","value":"***"}],"active":true}`,
		},
		{
			name:        "operations",
			request:     `{"Operations":[{"op":"replace","path":"title","value":"Spy"},{"op":"replace","path":"name","value":{"familyName":"Archer","givenName":"Ann"}},{"op":"replace","path":"nickName","value":"A"}]}`,
			wantRequest: `{"Operations":[{"op":"replace","path":"title","value":"***"},{"op":"replace","path":"name","value":{"familyName":"***","givenName":"Ann"}},{"op":"replace","path":"nickName","value":"A"}]}`,
		},
		{
			name:        "extension and password",
			request:     `{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"employeeNumber":4711,"department":"R&D"},"password":"secret"}`,
			wantRequest: `{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"employeeNumber":"***","department":"R&D"},"password":"***"}`,
		},
		{
			name: "the target repeats it", request: `{"title":"Spy","userName":"ann"}`, answer: `{"detail":"Spy is no title, ann"}`, message: "POST /Users: 400: Spy is no title",
			wantRequest: `{"title":"***","userName":"ann"}`, wantAnswer: `{"detail":"*** is no title, ann"}`, wantMessage: "POST /Users: 400: *** is no title",
		},
		{
			name: "a page repeats it", request: `{"title":"Spy"}`, answer: `<html>Spy?</html>`,
			wantRequest: `{"title":"***"}`, wantAnswer: `<html>***?</html>`,
		},
		{name: "cut off", request: `{"userName":"ann","title":"Sp`, wantRequest: `{"userName":"ann","title":…`},
		{name: "nothing sent"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := m.show([]byte(c.request), []byte(c.answer), c.message)
			want := exchange{c.wantRequest, c.wantAnswer, c.wantMessage}
			if got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestLongBodiesAreCutBetweenCharacters(t *testing.T) {
	t.Parallel()
	for _, body := range []string{strings.Repeat("ä", 5000), `{"userName":"` + strings.Repeat("€", 5000) + `"}`, "\xff\xfe<html>"} {
		if got := newMask(nil).show(nil, []byte(body), "").answer; len(got) > maxShown || !utf8.ValidString(got) {
			t.Errorf("%d bytes, valid %v", len(got), utf8.ValidString(got))
		}
	}
}

func FuzzMask(f *testing.F) {
	m := newMask([]string{"title"})
	f.Add(`{"Operations":[{"path":"title","value":["geheim"]}]}`)
	f.Add(`{"title":{"a":["geheim",{"b":"geheim"}]}}`)
	f.Fuzz(func(t *testing.T, body string) {
		if got := m.show([]byte(body), []byte(body), body); len(got.request) > maxShown || !utf8.ValidString(got.request) {
			t.Errorf("%d bytes, valid %v", len(got.request), utf8.ValidString(got.request))
		}
	})
}
