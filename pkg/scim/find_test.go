package scim_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

func TestFind(t *testing.T) {
	t.Parallel()
	const odd = `o"d\d) or (userName pr & <x>`
	server := scimtest.NewServer(t, scimtest.Options{})
	client := newClient(t, server.URL())
	ids := map[string]string{}
	for i, name := range []string{"Ada", "bob", odd} {
		ids[name] = server.Seed(scim.KindUser, map[string]any{
			"userName": name, "externalId": fmt.Sprint("X", i), "emails": []any{map[string]any{"type": "work", "value": fmt.Sprintf("mail%d@x", i)}},
		})
	}
	tests := []struct{ name, attribute, value, want string }{
		{"by userName", "userName", "Ada", "Ada"},
		{"in another case", "userName", "ADA", "Ada"},
		{"nobody", "userName", "nobody", ""},
		{"nothing can be injected", "userName", odd, odd},
		{"by externalId", "externalId", "X1", "bob"},
		{"externalId is exact", "externalId", "x1", ""},
		{"by mail", "emails.value", "MAIL0@x", "Ada"},
		{"by mail of a type", `emails[type eq "work"].value`, "mail1@x", "bob"},
		{"by mail of another type", `emails[type eq "home"].value`, "mail1@x", ""},
		{"by the whole attribute", "emails", "mail1@x", "bob"},
		{"by id", "id", ids["bob"], "bob"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			found, err := client.Find(t.Context(), scim.KindUser, test.attribute, test.value)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, r := range found {
				name, _ := r.Value("userName")
				names = append(names, fmt.Sprint(name))
			}
			if got := strings.Join(names, "+"); got != test.want {
				t.Errorf("found %q, want %q", got, test.want)
			}
		})
	}
	if _, err := client.Find(t.Context(), scim.KindUser, "userName", ""); !errors.Is(err, scim.ErrRefused) {
		t.Errorf("an empty value: %v", err)
	}
}

func TestFindAgainstQuirks(t *testing.T) {
	t.Parallel()
	t.Run("target ignores filters", func(t *testing.T) {
		t.Parallel()
		server := scimtest.NewServer(t, scimtest.Options{Quirks: scimtest.Quirks{IgnoreFilters: true}})
		for i := range 250 {
			server.Seed(scim.KindUser, user(fmt.Sprint("u", i)))
		}
		found, err := newClient(t, server.URL()).Find(t.Context(), scim.KindUser, "userName", "U240")
		if err != nil || len(found) != 1 {
			t.Errorf("found %d, %v; want the one on the last page", len(found), err)
		}
	})
	t.Run("target compares case", func(t *testing.T) {
		t.Parallel()
		server := scimtest.NewServer(t, scimtest.Options{Quirks: scimtest.Quirks{CaseSensitiveFilters: true}})
		server.Seed(scim.KindUser, user("ada"))
		client := newClient(t, server.URL())
		if found, err := client.Find(t.Context(), scim.KindUser, "userName", "Ada"); err != nil || len(found) != 0 {
			t.Errorf("found %d, %v; want none", len(found), err)
		}
		if found, err := client.Find(t.Context(), scim.KindUser, "userName", "Ada", "ada"); err != nil || len(found) != 1 {
			t.Errorf("with the other spelling found %d, %v; want 1", len(found), err)
		}
	})
	t.Run("groups are looked up without members", func(t *testing.T) {
		t.Parallel()
		server := scimtest.NewServer(t, scimtest.Options{})
		u := server.Seed(scim.KindUser, user("ada"))
		for range 2 {
			server.Seed(scim.KindGroup, map[string]any{"displayName": "staff", "members": []any{map[string]any{"value": u}}})
		}
		found, err := newClient(t, server.URL()).Find(t.Context(), scim.KindGroup, "displayName", "Staff")
		if err != nil || len(found) != 2 || len(found[0].MemberIDs()) != 0 {
			t.Errorf("found %v, %v; want both groups, without members", found, err)
		}
	})
}
